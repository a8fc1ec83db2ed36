"""The same network in PyTorch, for comparisons step by step."""

import numpy as np

import cnet

ACTIVATIONS = {
    "linear": "Identity",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "ReLU",
    "silu": "SiLU",
    "gelu": "GELU",
}
OPTIMIZERS = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "rprop": "Rprop",
}


class Twin:
    """A copy of a network of cnet as modules of PyTorch, in float64."""

    def __init__(self, torch, net):
        self.torch = torch
        self.leaves = []  # (layer, module, rate of the weights, rate of the biases), in cnet's order
        self.module = torch.nn.Sequential(*(self._module(layer) for layer in net.layers)).double()
        self.groups = [
            {"params": [parameter], "factor": factor}
            for _, module, *factors in self.leaves
            for parameter, factor in zip(module.parameters(), factors, strict=False)
            if parameter.requires_grad
        ]

    def _module(self, layer, trained=True, rate=1.0, bias_rate=1.0):
        torch = self.torch
        trained = trained and layer.trainable
        factor = layer.bias_learning_rate_factor
        bias_rate = bias_rate * (layer.learning_rate_factor if factor is None else factor)
        rate = rate * layer.learning_rate_factor
        if isinstance(layer, cnet.Residual):
            inner = (self._module(each, trained, rate, bias_rate) for each in layer.layers)
            return _skip(torch, torch.nn.Sequential(*inner))
        n_inputs, n = layer.n_inputs, layer.n_neurons
        if isinstance(layer, cnet.Layer):
            module = torch.nn.Linear(n_inputs, n, bias=layer.bias)
        elif isinstance(layer, cnet.LayerNorm):
            module = torch.nn.LayerNorm(n, eps=layer.epsilon, elementwise_affine=layer.affine)
        else:
            module = torch.nn.BatchNorm1d(
                n, eps=layer.epsilon, momentum=layer.momentum, affine=layer.affine
            )
        module = module.double()
        with torch.no_grad():
            for ours, theirs in self._pairs(layer, module):
                theirs.copy_(torch.from_numpy(np.array(ours.T)))
        if not trained:
            module.requires_grad_(False)
            module.eval()
        self.leaves.append((layer, module, rate, bias_rate))
        return torch.nn.Sequential(module, getattr(torch.nn, ACTIVATIONS[layer.activation])())

    def _pairs(self, layer, module):
        """Return each array of a layer of cnet with its tensor in PyTorch; weights are transposed."""
        pairs = [(layer.weights, module.weight), (layer.biases, module.bias)]
        if isinstance(layer, cnet.BatchNorm):
            pairs += [
                (layer.running_mean, module.running_mean),
                (layer.running_variance, module.running_var),
            ]
        return [(ours, theirs) for ours, theirs in pairs if ours is not None]

    def train(self, name, rate, x, y, *, batch_size, epochs, clip_norm=None, **settings):
        """Train on the squared error of cnet, without shuffling."""
        torch = self.torch
        groups = [{"params": g["params"], "lr": rate * g["factor"]} for g in self.groups]
        optimizer = getattr(torch.optim, OPTIMIZERS[name])(groups, lr=rate, **settings)
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        for _ in range(epochs):
            for rows, targets in zip(x.split(batch_size), y.split(batch_size), strict=True):
                optimizer.zero_grad()
                (((self.module(rows) - targets) ** 2).sum() / 2 / len(rows)).backward()
                if clip_norm is not None:
                    torch.nn.utils.clip_grad_norm_(self.module.parameters(), clip_norm)
                optimizer.step()

    def predict(self, x):
        self.module.eval()
        with self.torch.no_grad():
            return self.module(self.torch.from_numpy(x)).numpy()

    def compare(self, rtol=1e-9, atol=1e-11):
        """Check that all parameters and running statistics equal those of the cnet network."""
        for layer, module, *_ in self.leaves:
            for ours, theirs in self._pairs(layer, module):
                np.testing.assert_allclose(ours.T, theirs.detach().numpy(), rtol=rtol, atol=atol)


def _skip(torch, inner):
    class Skip(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return x + self.inner(x)

    return Skip()
