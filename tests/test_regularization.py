"""Dropout, penalties and max-norm: compared with NumPy, and the same bits however training is split."""

import copy
import pickle

import numpy as np
import pytest
import reference
from helpers import AtOnce, everything, in_blocks_of, network, refused, without_history
from reference import Network

import cnet
from cnet import _plan, model

rng = np.random.default_rng(5)
X = rng.uniform(-1, 1, (10, 3))
Y = rng.uniform(0, 1, (10, 2))
WEIGHTS = rng.uniform(0.5, 2, 10)
REDUCTIONS = ["mean", "sum", "weighted_mean"]
PENALTIES = ({"l1": 0.03}, {"l2": 0.2}, {"l1": 0.05, "l2": 0.1})
BOUNDS = ({"l1": 0.03, "max_norm": 0.6}, {"max_norm": 0.9, "l2": 0.2}, {"max_norm": 0.4})


def build(sizes, settings, hidden="tanh", output="sigmoid", **how):
    """Return a network whose layers have these settings, and no zero parameters."""
    how = {"seed": 0, "dtype": "float64", **how}
    net = cnet.NeuralNetwork(**how).add_layer(sizes[0], input_layer=True)
    for size, own in zip(sizes[1:-1], settings[:-1], strict=True):
        net.add_layer(size, hidden, **own)
    net.add_layer(sizes[-1], output, **settings[-1])
    net.parameters[...] = np.random.default_rng(1).uniform(0.1, 0.7, net.parameters.shape)
    net.parameters[::2] *= -1
    return net


def train(net, epochs=3, x=X, y=Y, learning_rate=0.1, **settings):
    return net.train(x, y, learning_rate, epochs, **{"verbose": False, **settings})


def half_squared_error(y_true, y_pred):
    """Compute squared_error in NumPy, with the mean over rows."""
    d = y_pred - y_true
    return np.sum(d * d) / 2 / len(d), d / len(d)


class Batches(cnet.Callback):
    """Records the parameters before the first batch and after each."""

    def on_train_begin(self, network):
        self.parameters = [network.parameters.copy()]

    def on_batch_end(self, network, batch, logs):
        self.parameters.append(network.parameters.copy())


class Epochs(cnet.Callback):
    """Records the parameters before the first epoch and after each."""

    def on_train_begin(self, network):
        self.parameters = [network.parameters.copy()]

    def on_epoch_end(self, network, epoch, logs):
        self.parameters.append(network.parameters.copy())


class Regularized(Network):
    """The textbook network with penalties, max-norm and, if given, masks of its outputs."""

    @classmethod
    def like(cls, net):
        """Return a copy of a network, including its layers' settings."""
        found = super().like(net)
        found.settings = [
            (layer.l1, layer.l2, layer.max_norm, layer.dropout) for layer in net.layers
        ]
        return found

    @property
    def penalty(self):
        return sum(
            l1 * np.abs(weights).sum() + l2 / 2 * (weights**2).sum()
            for (l1, l2, *_), (weights, *_) in zip(self.settings, self.layers, strict=True)
        )

    def loss_and_gradients(
        self, x, targets, loss, *, reduction="mean", sample_weight=None, masks=None
    ):
        """Return the loss and its gradients; `masks` are the kept outputs of each layer."""
        if masks is None:
            divisor = np.sum(sample_weight) if reduction == "weighted_mean" else 1
            value, gradient, by_x = super().loss_and_gradients(
                x,
                targets,
                loss,
                reduction="mean" if reduction == "mean" else "sum",
                sample_weight=sample_weight,
            )
            value, gradient, by_x = value / divisor, gradient / divisor, by_x / divisor
        else:
            value, gradient, by_x = self._with_masks(x, targets, loss, masks)
        parts = []
        for (l1, l2, *_), (weights, biases, _) in zip(self.settings, self.layers, strict=True):
            parts.append((l1 * np.sign(weights) + l2 * weights).ravel())
            parts.append(np.zeros(0 if biases is None else len(biases)))
        return value + self.penalty, gradient + np.concatenate(parts), by_x

    def _with_masks(self, x, targets, loss, masks):
        h, zs, inputs, scales = x, [], [], []
        for (*_, dropout), (weights, biases, activation), mask in zip(
            self.settings, self.layers, [*masks, None], strict=True
        ):
            inputs.append(h)
            zs.append(h @ weights + biases)
            scales.append(1 if mask is None else mask / (1 - dropout))
            h = reference.activate(activation, zs[-1]) * scales[-1]
        values, gradient = loss(h, targets)
        gradient = gradient / len(x)
        found = []
        for (weights, _, activation), h, z, scale in reversed(
            list(zip(self.layers, inputs, zs, scales, strict=True))
        ):
            gradient = reference.activation_backward(activation, z, gradient * scale)
            found += [gradient.sum(axis=0), (h.T @ gradient).ravel()]
            gradient = gradient @ weights.T
        return values.sum() / len(x), np.concatenate(found[::-1]), gradient

    def learn(self, optimizer, gradient):
        """Make one step, and rescale norms that exceed their bounds."""
        self.parameters = optimizer.step(self.parameters, gradient)
        for (_, _, bound, _), (weights, *_) in zip(self.settings, self.layers, strict=True):
            if bound is not None:
                norms = np.sqrt((weights**2).sum(axis=0))
                weights *= np.where(norms > bound, bound / norms, 1)

    def train(self, optimizer, x, targets, loss, *, batch_size, epochs, sample_weight=None, **how):
        for _ in range(epochs):
            total = 0.0
            for start in range(0, len(x), batch_size):
                batch = slice(start, start + batch_size)
                value, gradient, _ = self.loss_and_gradients(
                    x[batch],
                    targets[batch],
                    loss,
                    sample_weight=None if sample_weight is None else sample_weight[batch],
                    **how,
                )
                # Means of batches are weighted by their rows; sums are added.
                total += value * (1 if how["reduction"] == "sum" else len(x[batch]) / len(x))
                self.learn(optimizer, gradient)
            yield total


# Penalties


def differences(function, values, step=1e-6):
    """Return central differences of a function by the values, which it reads."""
    found = np.empty(values.size)
    flat = values.reshape(-1)
    for i in range(flat.size):
        kept = flat[i]
        flat[i] = kept + step
        above = function()
        flat[i] = kept - step
        found[i] = (above - function()) / (2 * step)
        flat[i] = kept
    return found


@pytest.mark.parametrize(
    "loss", ["squared_error", "binary_cross_entropy", half_squared_error], ids=str
)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradients_against_finite_differences(loss, reduction):
    net = build((3, 5, 4, 2), PENALTIES)
    how = {"loss": loss, "reduction": reduction}
    if isinstance(loss, str):
        how["sample_weight"] = WEIGHTS
    value, gradient = net.loss_and_gradient(X, Y, **how)
    assert value == net.evaluate(X, Y, **how)["loss"]
    theirs = {**how, "loss": getattr(reference, str(loss), reference.squared_error)}
    if callable(loss):
        theirs["reduction"] = "mean"  # the reduction that the function uses
    expected, *_ = Regularized.like(net).loss_and_gradients(X, Y, **theirs)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(
        gradient,
        differences(lambda: net.evaluate(X, Y, **how)["loss"], net.parameters),
        rtol=1e-6,
        atol=1e-8,
    )
    x = X.copy()
    np.testing.assert_allclose(
        net.input_gradient(X, Y, **how).ravel(),
        differences(lambda: net.evaluate(x, Y, **how)["loss"], x),
        rtol=1e-6,
        atol=1e-8,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_penalties_are_added_unscaled(reduction, dtype):
    """For every reduction, to the loss and to the gradient of the weights, but not of the biases."""
    net = build((3, 5, 4, 2), PENALTIES, dtype=dtype)
    plain = build((3, 5, 4, 2), [{}] * 3, dtype=dtype)
    how = {"reduction": reduction, "sample_weight": WEIGHTS}
    value, gradient = net.loss_and_gradient(X, Y, **how)
    value_plain, gradient_plain = plain.loss_and_gradient(X, Y, **how)
    expected = []
    for (l1, l2), layer in zip([(0.03, 0), (0, 0.2), (0.05, 0.1)], net.layers, strict=True):
        weights = layer.weights.astype(np.float64)
        value_plain += l1 * np.abs(weights).sum() + l2 / 2 * (weights**2).sum()
        expected += [(l1 * np.sign(weights) + l2 * weights).ravel(), np.zeros(layer.n_neurons)]
    tolerance = (
        {"rtol": 1e-6, "atol": 1e-7} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-14}
    )
    np.testing.assert_allclose(value, value_plain, **tolerance)
    np.testing.assert_allclose(gradient - gradient_plain, np.concatenate(expected), **tolerance)


def test_a_weight_of_zero_has_no_l1_gradient():
    net = build((3, 4, 2), [{"l1": 0.5}] * 2)
    net.layers[0].weights[1] = 0
    net.layers[0].weights[2] = -0.0
    plain = build((3, 4, 2), [{}] * 2)
    plain.parameters[...] = net.parameters
    difference = net.loss_and_gradient(X, Y)[1] - plain.loss_and_gradient(X, Y)[1]
    np.testing.assert_array_equal(difference[4:12], 0)
    assert net.loss_and_gradient(X, Y)[0] > plain.loss_and_gradient(X, Y)[0]


@pytest.mark.parametrize(("l1", "l2"), [(1e-3, 0), (0, 1e-3), (1e-3, 1e-3)])
def test_the_penalty_of_many_float32_weights(l1, l2):
    # One running sum of a million floats would have a relative error of hundredths, and 64 partial sums
    # one of 1e-4. Sums of 64 floats each are accurate to 64 times half an eps.
    net = network(1000, 1000, 1, dtype="float32", l1=l1, l2=l2)
    net.parameters[...] = 0.1
    expected = 1_001_000 * (l1 * 0.1 + l2 / 2 * 0.01)
    zero = network(1000, 1000, 1, dtype="float32")
    zero.parameters[...] = 0.1
    x = np.zeros((1, 1000))
    found = net.evaluate(x, [0.0])["loss"] - zero.evaluate(x, [0.0])["loss"]
    assert found == pytest.approx(expected, rel=4e-6)


def test_l1_of_weights_whose_squares_overflow():
    net = network(3, 4, 2, dtype="float32", l1=1e-3)
    net.layers[0].weights = np.full((3, 4), 1e25)
    assert net.evaluate(X, Y)["loss"] == pytest.approx(12e22, rel=1e-4)


# Training steps against NumPy

CUTS = {
    "compiled": {},
    "function": {"loss": half_squared_error},
    "with batch callbacks": {"callbacks": [Batches()]},
}
STEPS = {
    "sgd": (cnet.SGD(), reference.SGD(0.1)),
    "nesterov": (
        cnet.SGD(momentum=0.8, nesterov=True, weight_decay=0.1),
        reference.SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.1),
    ),
    "adam": (cnet.Adam(), reference.Adam(0.1)),
    "adamw": (cnet.AdamW(), reference.AdamW(0.1)),
    "rmsprop": (cnet.RMSprop(momentum=0.5), reference.RMSprop(0.1, momentum=0.5)),
    "adagrad": (cnet.Adagrad(), reference.Adagrad(0.1)),
    "rprop": (cnet.Rprop(), reference.Rprop(0.1)),
    "clip_norm": (cnet.SGD(clip_norm=0.3), reference.SGD(0.1, clip_norm=0.3)),
    "clip_value": (cnet.Adam(clip_value=0.05), reference.Adam(0.1, clip_value=0.05)),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("batch_size", [1, 4, 10])
@pytest.mark.parametrize("cut", CUTS)
def test_steps_against_numpy(step, batch_size, cut):
    ours, theirs = copy.deepcopy(STEPS[step])
    net = build((3, 5, 4, 2), BOUNDS)
    expected = Regularized.like(net)
    losses = expected.train(
        theirs, X, Y, reference.squared_error, batch_size=batch_size, epochs=4, reduction="mean"
    )
    settings = {"batch_size": batch_size, "optimizer": ours, "shuffle": False, **CUTS[cut]}
    history = train(net, 4, **settings)
    np.testing.assert_allclose(history["loss"], list(losses), rtol=1e-9)
    np.testing.assert_allclose(net.parameters, expected.parameters, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("batch_size", [1, 4, 10])
@pytest.mark.parametrize("cut", ["compiled", "with batch callbacks"])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_steps_of_weighted_rows_against_numpy(reduction, batch_size, cut, clip_norm):
    net = build((3, 5, 4, 2), BOUNDS)
    expected = Regularized.like(net)
    how = {"reduction": reduction, "sample_weight": WEIGHTS, "batch_size": batch_size}
    optimizer = reference.SGD(0.1, clip_norm=clip_norm)
    losses = list(expected.train(optimizer, X, Y, reference.squared_error, epochs=3, **how))
    history = train(net, optimizer=cnet.SGD(clip_norm=clip_norm), shuffle=False, **how, **CUTS[cut])
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-10)
    np.testing.assert_allclose(net.parameters, expected.parameters, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [None, 600])
@pytest.mark.parametrize("cut", CUTS)
def test_batches_of_several_blocks(dtype, batch_size, cut):
    """A batch has its penalty once, not once per block."""
    data = np.random.default_rng(0)
    x, y = data.random((1101, 3)), data.random((1101, 2))
    net = build((3, 8, 5, 2), BOUNDS, dtype=dtype)
    in_blocks_of(37, net)
    expected = Regularized.like(net)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-10}
    value, gradient, _ = expected.loss_and_gradients(x, y, reference.squared_error)
    loss, found = net.loss_and_gradient(x, y)
    np.testing.assert_allclose(loss, value, **tolerance)
    np.testing.assert_allclose(found, gradient, **tolerance)
    losses = expected.train(
        reference.SGD(0.1), x, y, reference.squared_error,
        batch_size=batch_size or 1101, epochs=3, reduction="mean",
    )  # fmt: skip
    history = train(net, 3, x, y, batch_size=batch_size, shuffle=False, **CUTS[cut])
    np.testing.assert_allclose(history["loss"], list(losses), **tolerance)
    np.testing.assert_allclose(net.parameters, expected.parameters, **tolerance)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_layers_of_several_pieces(optimizer, batch_size):
    """Layers are updated in pieces, each with its own part of the penalty."""
    data = np.random.default_rng(0)
    x, y = data.random((14, 200)), data.random((14, 2))
    net = build((200, 90, 2), [{"l1": 0.01, "l2": 0.1, "max_norm": 2.0}, {"l2": 0.1}])
    expected = Regularized.like(net)
    theirs = {"sgd": reference.SGD, "adam": reference.Adam}[optimizer](0.01)
    list(
        expected.train(
            theirs, x, y, reference.squared_error, batch_size=batch_size, epochs=2, reduction="mean"
        )
    )
    train(net, 2, x, y, 0.01, batch_size=batch_size, optimizer=optimizer, shuffle=False)
    # With gradients near 0, Adam's first steps depend on their last digits.
    np.testing.assert_allclose(net.parameters, expected.parameters, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("step", STEPS)
def test_train_one_makes_the_steps_of_train(step):
    whole, single = build((3, 5, 4, 2), BOUNDS), build((3, 5, 4, 2), BOUNDS)
    optimizer = STEPS[step][0]
    history = train(whole, 1, optimizer=optimizer, shuffle=False)
    losses = [single.train_one(x, y, 0.1, optimizer=optimizer) for x, y in zip(X, Y, strict=True)]
    np.testing.assert_array_equal(single.parameters, whole.parameters)
    assert np.mean(losses) == pytest.approx(history["loss"][0], rel=1e-14)


def test_train_one_with_a_function_makes_the_steps_of_train():
    whole, single = build((3, 5, 4, 2), BOUNDS), build((3, 5, 4, 2), BOUNDS)
    train(whole, 1, loss=half_squared_error, shuffle=False)
    for x, y in zip(X, Y, strict=True):
        single.train_one(x, y, 0.1, loss=half_squared_error)
    np.testing.assert_array_equal(single.parameters, whole.parameters)


# Bounded norms


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_stay_within_their_bounds(dtype):
    net = build((3, 5, 4, 2), [{"max_norm": 0.5}, {}, {"max_norm": 0.3}], dtype=dtype)
    net.parameters[...] *= 5
    callback = Batches()
    train(net, 2, batch_size=4, learning_rate=1.0, callbacks=callback)
    twin = net.copy()
    for parameters in callback.parameters[1:]:
        twin.parameters[...] = parameters
        norms = [np.linalg.norm(layer.weights.astype(float), axis=0) for layer in twin.layers]
        assert (norms[0] <= 0.5 * (1 + 1e-6)).all()
        assert (norms[2] <= 0.3 * (1 + 1e-6)).all()
        # Layers without a bound, and biases, are not limited.
        assert norms[1].max() > 1
    assert max(np.abs(net.layers[0].biases)) > 0.5


def test_a_norm_that_overflows_is_a_divergence():
    net = network(3, 4, 2, dtype="float32", max_norm=2.0)
    net.layers[0].weights = np.full((3, 4), 1e25)
    before = net.parameters.copy()
    with pytest.raises(cnet.DivergenceError):
        train(net)
    np.testing.assert_array_equal(net.parameters, before)


def test_backward_propagate_against_numpy():
    """With penalties and max-norm, without dropout."""
    net = build((3, 5, 4, 2), [{**own, "dropout": 0.5} for own in BOUNDS[:2]] + [BOUNDS[2]])
    expected = Regularized.like(net)
    outputs = net.predict(X[0])
    _, gradient, _ = expected.loss_and_gradients(X[:1], Y[:1], reference.squared_error)
    expected.learn(reference.SGD(0.1), gradient)
    np.testing.assert_array_equal(net.backward_propagate(X[0], Y[0], 0.1), outputs)
    np.testing.assert_allclose(net.parameters, expected.parameters, rtol=1e-10, atol=1e-13)


def test_weights_within_their_bound_are_unchanged():
    net, plain = build((3, 5, 2), [{"max_norm": 1e3}] * 2), build((3, 5, 2), [{}] * 2)
    assert train(net) == train(plain)
    np.testing.assert_array_equal(net.parameters, plain.parameters)


def test_settings_of_zero_have_no_effect():
    net = build((3, 5, 2), [{"l1": 0.0, "l2": 0, "dropout": 0.0, "max_norm": None}] * 2)
    plain = build((3, 5, 2), [{}] * 2)
    assert train(net) == train(plain)
    assert everything(net) == everything(plain)


# Dropout


def masks_of_step(net, before, after):
    """Return which hidden outputs a one-row step kept: those whose outgoing weights changed."""
    twins = [net.copy(), net.copy()]
    for twin, parameters in zip(twins, (before, after), strict=True):
        twin.parameters[...] = parameters
    changes = [
        b.weights != a.weights for a, b in zip(*(twin.layers for twin in twins), strict=True)
    ]
    return [change.any(axis=1)[np.newaxis] for change in changes[1:]]


DROPPING = ({"dropout": 0.3}, {"dropout": 0.6}, {})


@pytest.mark.parametrize("cut", ["compiled", "function", "train_one", "function, train_one"])
@pytest.mark.parametrize("settings", [{}, {"l1": 0.01, "l2": 0.1, "max_norm": 1.5}], ids=str)
def test_dropout_against_numpy(cut, settings):
    """The masks of each step are read off one layer's weights, and explain the step of all others."""
    net = build((3, 20, 15, 2), DROPPING, output="linear")
    if settings:
        # A penalty changes every weight, so the masks come from a twin with the same dropout only.
        penalized = build(
            (3, 20, 15, 2), [{**own, **settings} for own in DROPPING], output="linear"
        )
    loss = half_squared_error if "function" in cut else "squared_error"
    trained = penalized if settings else net
    for i in range(10):
        x, y = X[i : i + 1], Y[i : i + 1]
        expected = Regularized.like(trained)
        net.parameters[...] = trained.parameters
        before = net.parameters.copy()
        values = []
        for each in {id(net): net, id(trained): trained}.values():
            if "train_one" in cut:
                values.append(each.train_one(x[0], y[0], 0.1, loss=loss))
            else:
                values.append(train(each, 1, x, y, loss=loss)["loss"][0])
        masks = masks_of_step(net, before, net.parameters)
        value, gradient, _ = expected.loss_and_gradients(x, y, reference.squared_error, masks=masks)
        expected.learn(reference.SGD(0.1), gradient)
        assert values[-1] == pytest.approx(value, rel=1e-10)
        np.testing.assert_allclose(trained.parameters, expected.parameters, rtol=1e-9, atol=1e-12)


def observed(dropout, n, width, epochs=1, block_rows=None, **settings):
    """Return the masks of all rows, of shape (epochs, n, width), and the network.

    Row r of the inputs is the r-th unit vector, so the r-th row of the first layer's weights changes
    only with that row of the batch, and a dropped output does not change these weights.
    """
    net = build((n, width, width), [{"dropout": dropout}, {}], "linear", "linear")
    net.layers[1].weights = np.eye(width)
    in_blocks_of(block_rows, net)
    callback = Epochs()
    how = {"batch_size": None, "shuffle": False, "callbacks": callback, **settings}
    train(net, epochs, np.eye(n), np.random.default_rng(0).random((n, width)), 1e-3, **how)
    weights = np.array(callback.parameters)[:, : n * width].reshape(epochs + 1, n, width)
    return weights[1:] != weights[:-1], net


@pytest.mark.parametrize("dropout", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("batch_size", [None, 64, 1])
def test_the_fraction_of_dropped_outputs(dropout, batch_size):
    """Overall, per row and per neuron, within five standard deviations."""
    n, width = 300, 200
    ((kept,), _) = observed(dropout, n, width, batch_size=batch_size)
    for axis in (None, 0, 1):
        shares = 1 - kept.mean(axis=axis)
        draws = kept.size / shares.size
        if draws * dropout < 10:
            continue  # too few for an approximately normal distribution
        assert np.abs(shares - dropout).max() < 5 * np.sqrt(dropout * (1 - dropout) / draws)


def correlation(a, b):
    """Return the correlation of two masks, in standard deviations for independent masks."""
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) * np.sqrt(a.size)


@pytest.mark.parametrize("batch_size", [None, 50, 1])
@pytest.mark.parametrize(
    "loss", ["squared_error", half_squared_error], ids=["compiled", "function"]
)
def test_masks_do_not_repeat(batch_size, loss):
    """Rows, blocks, batches and epochs have different masks, and neurons are independent."""
    kept, _ = observed(0.5, 200, 100, epochs=3, batch_size=batch_size, loss=loss, block_rows=25)
    assert correlation(kept[1:], kept[:-1]) < 5
    for rows in (1, 25, 50, 100):
        assert correlation(kept[:, rows:], kept[:, :-rows]) < 5
    for columns in (1, 2, 50):
        assert correlation(kept[:, :, columns:], kept[:, :, :-columns]) < 5


def test_layers_have_different_masks():
    net = build((3, 40, 40, 2), [{"dropout": 0.5}, {"dropout": 0.5}, {}], output="linear")
    callback = Batches()
    data = np.random.default_rng(0)
    train(net, 1, data.random((200, 3)), data.random((200, 2)), 0.01, callbacks=callback)
    steps = zip(callback.parameters, callback.parameters[1:], strict=False)
    first, second = zip(*(masks_of_step(net, *step) for step in steps), strict=True)
    first, second = np.array(first), np.array(second)
    assert correlation(first, second) < 5
    assert correlation(first[1:], second[:-1]) < 5
    for kept in (first, second):
        assert abs(kept.mean() - 0.5) < 5 * 0.5 / np.sqrt(kept.size)
        assert correlation(kept[1:], kept[:-1]) < 5


@pytest.mark.parametrize(
    "loss", ["squared_error", half_squared_error], ids=["compiled", "function"]
)
def test_a_batch_against_numpy(loss):
    """The masks of a batch of several blocks explain the step of both layers."""
    n, width = 30, 20
    net = build((n, width, width), [{"dropout": 0.4}, {}], "linear", "linear")
    net.layers[1].weights = np.eye(width)
    expected = Regularized.like(net)
    ((kept,), net) = observed(0.4, n, width, loss=loss, block_rows=7)
    _, gradient, _ = expected.loss_and_gradients(
        np.eye(n),
        np.random.default_rng(0).random((n, width)),
        reference.squared_error,
        masks=[kept],
    )
    expected.learn(reference.SGD(1e-3), gradient)
    np.testing.assert_allclose(net.parameters, expected.parameters, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_applies_only_in_training(dtype):
    net = build(
        (3, 20, 15, 2), [{"dropout": 0.5}, {"dropout": 0.5}, {}], hidden="gelu", dtype=dtype
    )
    plain = build((3, 20, 15, 2), [{}] * 3, hidden="gelu", dtype=dtype)
    history = train(net, 2, batch_size=4, metrics="mse", validation_data=(X[:4], Y[:4]))
    plain.parameters[...] = net.parameters
    for call in (
        lambda net: net.predict(X),
        lambda net: net.predict(X[0]),
        lambda net: net.predictor()(X.astype(dtype)),
        lambda net: net.activations(X),
        lambda net: net.input_gradient(X, Y),
        lambda net: net.loss_and_gradient(X, Y),
        lambda net: net.loss_and_gradient(X, Y, loss=half_squared_error),
        lambda net: net.evaluate(X, Y),
    ):
        np.testing.assert_equal(call(net), call(plain))
    assert history["val_loss"][-1] == plain.evaluate(X[:4], Y[:4])["loss"]
    assert history["mse"][-1] == pytest.approx(np.mean((plain.predict(X) - Y) ** 2), rel=1e-6)


def test_dropout_depends_on_the_seed():
    def trained(seed):
        net = build((3, 20, 2), [{"dropout": 0.5}, {}], seed=seed)
        train(net, 3, shuffle=False)
        return net.parameters

    np.testing.assert_array_equal(trained(1), trained(1))
    assert (trained(1) != trained(2)).any()


@pytest.mark.parametrize("dropout", [1 - 2**-53, 1e-300])
def test_the_smallest_and_the_largest_dropout(dropout):
    net, plain = (build((3, 20, 2), [own, {}]) for own in ({"dropout": dropout}, {}))
    train(net, 2, shuffle=False)
    train(plain, 2, shuffle=False)
    if dropout < 0.5:
        np.testing.assert_array_equal(net.parameters, plain.parameters)
    else:
        assert np.isfinite(net.parameters).all()
        assert (net.layers[0].weights == build((3, 20, 2), [{}] * 2).layers[0].weights).all()


# Bitwise equality for every way of splitting the training

ALL = [{"dropout": 0.3, "l1": 0.01, "max_norm": 0.8}, {"dropout": 0.5, "l2": 0.1}, {"l2": 0.01}]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", cnet.SGD(clip_norm=0.1)], ids=str)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, None])
def test_results_do_not_depend_on_how_epochs_are_split(optimizer, shuffle, batch_size):
    """Split into calls of the engine or of train, or into callbacks' batches; with held-out rows too."""
    for split in (0.0, 0.2):
        how = {"optimizer": optimizer, "shuffle": shuffle, "batch_size": batch_size}
        how |= {"validation_split": split, "schedule": "exponential(0.9)"}
        whole = build((3, 8, 7, 2), ALL)
        train(whole, 6, **how)
        others = {
            "by epochs": {"callbacks": cnet.Callback()},
            "by batches": {"callbacks": Batches()},
        }
        for settings in others.values():
            net = build((3, 8, 7, 2), ALL)
            train(net, 6, **how, **settings)
            assert everything(net) == everything(whole)
        for epochs in (1, 2, 4):
            net = build((3, 8, 7, 2), ALL)
            train(net, 6, callbacks=AtOnce(epochs), **how)
            assert everything(net) == everything(whole)
    halves, whole = build((3, 8, 7, 2), ALL), build((3, 8, 7, 2), ALL)
    how = {"optimizer": optimizer, "shuffle": shuffle, "batch_size": batch_size}
    losses = train(halves, 3, **how)["loss"] + train(halves, 3, **how)["loss"]
    assert train(whole, 6, **how)["loss"] == losses
    assert without_history(halves) == without_history(whole)


@pytest.mark.parametrize(
    "loss", ["squared_error", half_squared_error], ids=["compiled", "function"]
)
def test_results_do_not_depend_on_the_number_of_threads(loss):
    data = np.random.default_rng(0)
    x, y = data.random((300, 64), np.float32), data.random((300, 10), np.float32)
    settings = [{"dropout": 0.3, "l1": 1e-4, "max_norm": 1.0}, {"dropout": 0.5, "l2": 1e-3}, {}]
    found = []
    for threads in (1, 2, 3):
        net = build((64, 500, 400, 10), settings, dtype="float32")
        with cnet.num_threads(threads):
            train(net, 2, x, y, 0.01, batch_size=128, optimizer="adam", loss=loss)
        found.append(net.parameters.tobytes())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    "way",
    [
        cnet.NeuralNetwork.copy,
        copy.copy,
        copy.deepcopy,
        lambda net: pickle.loads(pickle.dumps(net)),
    ],
    ids=["method", "copy", "deepcopy", "pickle"],
)
def test_copies_have_the_settings_and_train_alike(way):
    net = build((3, 8, 7, 2), ALL)
    train(net, 2)
    twin = way(net)
    for layer, settings in zip(twin.layers, ALL, strict=True):
        for name in ("l1", "l2", "dropout", "max_norm"):
            expected = settings.get(name, None if name == "max_norm" else 0.0)
            assert getattr(layer, name) == expected
    assert train(net, 2, batch_size=4) == train(twin, 2, batch_size=4)
    assert everything(net) == everything(twin)


@pytest.mark.parametrize(
    "loss", ["squared_error", half_squared_error], ids=["compiled", "function"]
)
@pytest.mark.parametrize("hidden", ["tanh", "gelu"])
def test_scratch_memory_is_initialised_before_use(loss, hidden, monkeypatch):
    expected = build((3, 8, 7, 2), ALL, hidden=hidden)
    net = expected.copy()
    train(expected, loss=loss, batch_size=4)
    monkeypatch.setattr(_plan, "aligned_empty", lambda size, dtype: np.full(size, np.nan, dtype))
    train(net, loss=loss, batch_size=4)
    np.testing.assert_array_equal(net.parameters, expected.parameters)


@pytest.mark.parametrize("n", [1, 700])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_write_is_out_of_bounds(n, dtype, monkeypatch):
    # 37 marks memory that nothing else may write to.
    borders = []

    def bordered(size, dtype):
        array = np.full(size + 200_000, 37, dtype)
        borders.append(array[size:])
        return array[:size]

    for module in (model, _plan):
        monkeypatch.setattr(module, "aligned_empty", bordered)
    data = np.random.default_rng(0)
    x, y = data.random((n, 3)), data.random((n, 90))
    net = build((3, 50, 4, 90), ALL, hidden="gelu", dtype=dtype)
    for loss in ("squared_error", half_squared_error):
        for batch_size in (7, None):
            train(net, 1, x, y, 1e-3, loss=loss, batch_size=batch_size, optimizer="adam")
        net.train_one(x[0], y[0], 1e-3, loss=loss)
        net.loss_and_gradient(x, y, loss=loss)
    net.activations(x)
    net.predict(x)
    net.predictor()(x.astype(dtype))
    assert len(borders) > 10
    assert all((border == 37).all() for border in borders)


def test_a_layer_with_dropout_can_be_followed_by_another():
    net = network(3, 20, dropout=0.5).add_layer(2)
    train(net)
    assert net.layers[0].dropout == 0.5


# Settings


def test_dropout_in_the_output_layer_raises_in_training():
    net = network(3, 2, dropout=0.25)
    for call in (lambda: train(net), lambda: net.train_one(X[0], Y[0])):
        with refused("dropout must be 0 in the output layer", "got 0.25", of=[net]):
            call()
    # Calls other than training accept it.
    net.evaluate(X, Y)


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("l1", -0.1, ValueError, ["finite number of at least 0", "got -0.1"]),
        ("l1", "0.1", TypeError, ["finite number of at least 0", "got '0.1'"]),
        ("l2", np.nan, ValueError, ["finite number of at least 0", "got nan"]),
        ("l2", None, TypeError, ["finite number of at least 0", "got None"]),
        ("l2", True, TypeError, ["finite number of at least 0", "got True"]),
        ("max_norm", 0, ValueError, ["finite number above 0", "got 0"]),
        ("max_norm", np.inf, ValueError, ["finite number above 0", "got inf"]),
        ("max_norm", [1.0, 2.0], TypeError, ["finite number above 0", "got [1.0, 2.0]"]),
        ("dropout", 1, ValueError, ["at least 0 and below 1", "got 1"]),
        ("dropout", -0.5, ValueError, ["at least 0 and below 1", "got -0.5"]),
        ("dropout", None, TypeError, ["at least 0 and below 1", "got None"]),
    ],
)
def test_invalid_settings_raise(name, value, error, words):
    net = network(3, 4)
    with refused(f"{name} must be a", *words, error=error, of=[net]):
        net.add_layer(2, **{name: value})
    with refused(f"{name} must be a", *words, error=error):
        cnet.Layer(3, 2, **{name: value})


@pytest.mark.parametrize("name", ["l1", "l2", "max_norm", "dropout"])
def test_the_input_layer_takes_no_regularization(name):
    net = cnet.NeuralNetwork()
    with refused(f"{name} must not be set for the input layer", "got 0.5", of=[net]):
        net.add_layer(3, input_layer=True, **{name: 0.5})


def test_settings_are_read_only():
    layer = cnet.Layer(3, 2, l1=0.1, l2=1, max_norm=np.float32(0.5), dropout=0.25)
    assert (layer.l1, layer.l2, layer.max_norm, layer.dropout) == (0.1, 1.0, 0.5, 0.25)
    for name in ("l1", "l2", "max_norm", "dropout"):
        with pytest.raises(AttributeError):
            setattr(layer, name, 0.5)
    assert repr(layer) == "Layer(3, 2, 'sigmoid', l1=0.1, l2=1, max_norm=0.5, dropout=0.25)"
    assert repr(cnet.Layer(3, 2)) == "Layer(3, 2, 'sigmoid')"


def test_summary_shows_the_regularization(capsys):
    net = cnet.NeuralNetwork(cnet.Layer(2, 3, dropout=0.2, l2=1e-4), cnet.Layer(3, 1), seed=0)
    net.summary()
    _, first, second, _ = capsys.readouterr().out.splitlines()
    assert first.endswith("9  l2=0.0001  dropout=0.2")
    assert second.endswith("4")


@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        ("softmax", "cross_entropy"),
        ("sigmoid", "binary_cross_entropy"),
        ("exp", "poisson"),
        ("sigmoid", "squared_error"),
        ("linear", "squared_error"),
    ],
)
def test_loss_and_gradients_ignore_dropout_of_the_outputs(activation, loss):
    """A network with it cannot be trained, but evaluated; some losses include the activation's slope."""
    x = np.random.default_rng(0).normal(size=(6, 3))
    y = np.eye(4)[[0, 1, 2, 3, 0, 1]]
    found = []
    for share in (0.0, 0.5):
        net = network(3, 5)
        net.add_layer(4, activation, dropout=share)
        value, gradient = net.loss_and_gradient(x, y, loss=loss)
        evaluated = net.evaluate(x, y, loss=loss)
        found.append((evaluated, value, gradient, net.input_gradient(x, y, loss=loss)))
    for without, with_dropout in zip(*found, strict=True):
        np.testing.assert_equal(with_dropout, without)
