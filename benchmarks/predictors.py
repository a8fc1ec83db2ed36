"""Each library's fastest way to compute a network's outputs; all use cnet's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import PEERS

# Returns the network's outputs for the rows that the call was created for.
Call: TypeAlias = Callable[[], Any]


def network(sizes: tuple[int, ...]) -> Any:
    """Return a cnet network, with relu and softmax."""
    import cnet

    net = cnet.NeuralNetwork(seed=0).add_layer(sizes[0], input_layer=True)
    for n_neurons in sizes[1:-1]:
        net.add_layer(n_neurons, "relu")
    return net.add_layer(sizes[-1], "softmax")


def onnxruntime_call(net: Any, x: NDArray[np.float32]) -> Call:
    """Use an ONNX Runtime session with one thread."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, name = [], [], "x"
    for i, layer in enumerate(net.layers):
        constants += [
            numpy_helper.from_array(np.array(layer.weights), f"weights{i}"),
            numpy_helper.from_array(np.array(layer.biases), f"biases{i}"),
        ]
        activation = {"relu": "Relu", "softmax": "Softmax"}[layer.activation]
        nodes += [
            helper.make_node("Gemm", [name, f"weights{i}", f"biases{i}"], [f"z{i}"]),
            helper.make_node(activation, [f"z{i}"], [f"h{i}"]),
        ]
        name = f"h{i}"
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", float32, ["rows", x.shape[1]])],
        [helper.make_tensor_value_info(name, float32, ["rows", len(net.layers[-1].biases)])],
        constants,
    )
    # Versions that all recent ONNX Runtimes can read.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"x": x})[0]


def torch_call(net: Any, x: NDArray[np.float32]) -> Call:
    """Use a PyTorch module under ``inference_mode``, on rows that are already a tensor."""
    import torch

    torch.set_num_threads(1)
    modules: list[Any] = []
    for layer in net.layers:
        linear = torch.nn.Linear(*layer.weights.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.weights.T))
            linear.bias.copy_(torch.from_numpy(layer.biases))
        modules += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1], torch.nn.Softmax(dim=1)).eval()
    rows = torch.from_numpy(x)

    def call() -> Any:
        with torch.inference_mode():
            return model(rows)

    return call


def sklearn_call(net: Any, x: NDArray[np.float32]) -> Call:
    """Use ``MLPClassifier.predict_proba``."""
    from sklearn.neural_network import MLPClassifier

    weights = [np.array(layer.weights) for layer in net.layers]
    biases = [np.array(layer.biases) for layer in net.layers]
    n_classes = len(biases[-1])
    if n_classes == 2:
        # For two classes it has one logistic output, whose weights are the difference of the two.
        weights[-1], biases[-1] = weights[-1][:, 1:] - weights[-1][:, :1], np.diff(biases[-1])
    model = MLPClassifier([len(b) for b in biases[:-1]], solver="sgd", batch_size=n_classes)
    # Allocates the weights.
    classes = np.arange(n_classes)
    model.partial_fit(np.zeros((n_classes, x.shape[1]), np.float32), classes, classes=classes)
    model.coefs_, model.intercepts_ = weights, biases
    return lambda: model.predict_proba(x)


CALLS: dict[str, Callable[[Any, NDArray[np.float32]], Call]] = {
    "onnxruntime": onnxruntime_call,
    "torch": torch_call,
    "sklearn": sklearn_call,
}


def check_agreement(calls: Mapping[str, Call], expected: NDArray[np.float32]) -> None:
    """Raise an AssertionError if a call does not return the expected outputs; the message names it."""
    for title, call in calls.items():
        np.testing.assert_allclose(call(), expected, rtol=0, atol=1e-4, err_msg=title)


def checked_calls(net: Any, x: NDArray[np.float32], peers: tuple[str, ...]) -> dict[str, Call]:
    """Return the peers' calls by title, after checking that each one returns cnet's outputs."""
    found = {PEERS[peer].title: CALLS[peer](net, x) for peer in peers if peer in CALLS}
    check_agreement(found, net.predict(x))
    return found
