"""The two tutorials that cnet grew out of, and cnet.classic."""

import copy
import pickle

import numpy as np
import pytest
from helpers import refused
from reference import PlainPythonNetwork, sigmoid

import cnet
from cnet import classic

# The online tutorial: ten points in the plane in two classes, one row at a time

POINTS = [
    *([1.2, 3.1], [2.4, 2.2], [0.7, 1.9], [3.3, 4.0], [1.9, 3.6]),
    *([6.1, 1.4], [7.8, 2.9], [5.5, 0.3], [8.2, -0.6], [6.9, 2.1]),
]
CLASSES = [0] * 5 + [1] * 5
ONE_HOT = [[1, 0]] * 5 + [[0, 1]] * 5


def online_network(**settings):
    """Build a network like the tutorial does."""
    net = cnet.NeuralNetwork(**settings)
    net.add_layer(2, input_layer=True)
    net.add_layer(2)
    net.add_layer(2)
    return net


def in_plain_python(net):
    return PlainPythonNetwork(
        [layer.weights.tolist() for layer in net.layers],
        [layer.biases.tolist() for layer in net.layers],
    )


def shuffled_together():
    """Alternate the classes, because a network that sees only one class forgets the other."""
    return [i // 2 + 5 * (i % 2) for i in range(10)]


@pytest.mark.parametrize("targets", [ONE_HOT, CLASSES], ids=["one-hot", "labels"])
@pytest.mark.parametrize("seed", range(3))
def test_online(targets, seed, capsys):
    order = shuffled_together()
    x_train, y_train = [POINTS[i] for i in order], [targets[i] for i in order]
    net = online_network(seed=seed, dtype="float64")
    plain = in_plain_python(net)
    net.train(x_train, y_train, 0.5, 100, shuffle=False)
    errors = plain.train(x_train, [ONE_HOT[i] for i in order], 0.5, 100)
    for layer, weights, biases in zip(net.layers, plain.weights, plain.biases, strict=True):
        np.testing.assert_allclose(layer.weights, weights, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(layer.biases, biases, rtol=1e-9, atol=1e-9)
    assert capsys.readouterr().out.splitlines() == [
        f"Epoch: {epoch}, Total Error: {error:.3f}" for epoch, error in enumerate(errors)
    ]
    for row in POINTS:
        np.testing.assert_allclose(net.forward_propagate(row), plain.forward(row), atol=1e-9)
    assert net.predict_class(POINTS).tolist() == CLASSES


def test_online_in_single_precision_is_close():
    net, exact = online_network(seed=0), online_network(seed=0, dtype="float64")
    for other in (net, exact):
        other.train(POINTS, CLASSES, 0.5, 100, shuffle=False, verbose=False)
    np.testing.assert_allclose(net.parameters, exact.parameters, rtol=1e-3)


@pytest.mark.parametrize("targets", [ONE_HOT, CLASSES], ids=["one-hot", "labels"])
def test_online_with_default_settings(targets, capsys):
    net = online_network(seed=0)
    net.train(POINTS, targets, 0.5, 100)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 100
    assert lines[99].startswith("Epoch: 99, Total Error: 0.")
    assert net.predict_class(POINTS).tolist() == CLASSES
    net.train(POINTS, targets)
    net.print_weights()
    assert "Layer 2 (2 neurons, each with 2 inputs):" in capsys.readouterr().out


def test_online_step_by_step():
    net = online_network(seed=0, dtype="float64")
    plain = in_plain_python(net)
    for row, expected in zip(POINTS, ONE_HOT, strict=True):
        outputs = plain.forward(row)
        np.testing.assert_allclose(net.forward_propagate(row), outputs, rtol=1e-12)
        # The returned outputs are from before the step.
        np.testing.assert_allclose(net.backward_propagate(row, expected, 0.5), outputs, rtol=1e-12)
        plain.train([row], [expected], 0.5, 1)
    for layer, weights, biases in zip(net.layers, plain.weights, plain.biases, strict=True):
        np.testing.assert_allclose(layer.weights, weights, rtol=1e-11)
        np.testing.assert_allclose(layer.biases, biases, rtol=1e-11)


# The full-batch tutorial: fifteen points, a hundred thousand iterations

ZEROS = [[0, 0], [0, 1], [0, 2], [-1, 0], [-2, -2], [-2, -1], [-1, -1]]
ONES = [[1, -1], [1, 0], [1, 1], [2, 0], [3, 0], [0, -3], [0, -2], [2, -2]]
INPUTS = np.array(ZEROS + ONES)
OUTPUTS = np.array([[0] * len(ZEROS) + [1] * len(ONES)]).T
PROGRESS = [*(f"Training: {tenth} %" for tenth in range(10, 100, 10)), "Training complete - 100%!"]


def fullbatch_network(*sizes, seed=1):
    """Build a network like the tutorial does."""
    np.random.seed(seed)
    layers = [classic.Layer(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)]
    return classic.NeuralNetwork(*layers), layers


def as_printed(text):
    """Return an array as words, so that line breaks and padding do not matter."""
    return str(text).replace("[", " [ ").replace("]", " ] ").split()


def test_fullbatch_gives_the_tutorials_numbers(capsys):
    np.random.seed(1)
    layer1 = classic.Layer(2, 4)
    layer2 = classic.Layer(4, 1)
    nn = classic.NeuralNetwork(layer1, layer2)
    nn.print_weights()
    assert "Layer 1 (4 neurons, each with 2 inputs):" in capsys.readouterr().out
    nn.train(INPUTS, OUTPUTS, 100_000)
    assert capsys.readouterr().out.splitlines() == PROGRESS
    nn.print_weights()
    assert as_printed(capsys.readouterr().out) == as_printed(
        """Layer 1 (4 neurons, each with 2 inputs):
        [[-3.97185157  4.66297249 -5.25188655  1.39753303]
         [ 1.35299999 -1.57439556  1.76665557 -0.71676559]]
        Layer 2 (1 neuron, with 4 inputs):
        [[ -7.20493687]
         [  6.57701463]
         [-11.30181144]
         [  0.89289527]]"""
    )
    hidden, output = nn.forward_propagate([2, -3])
    assert str(output) == "[0.99942671]"
    assert hidden.shape == (4,)
    np.testing.assert_allclose(
        hidden, sigmoid(np.array([2, -3]) @ layer1.synaptic_weights), rtol=1e-12
    )
    # A second call gives the same answer, and several points give the same answers as each alone.
    assert str(nn.forward_propagate([2, -3])[1]) == "[0.99942671]"
    hidden, outputs = nn.forward_propagate(INPUTS)
    assert hidden.shape == (15, 4)
    np.testing.assert_array_equal(outputs.round(), OUTPUTS)


def in_numpy(weights, inputs, outputs, iterations):
    """Train any number of sigmoid layers without biases as the tutorial does."""
    weights = [w.copy() for w in weights]
    for _ in range(iterations):
        layers = [inputs]
        for w in weights:
            layers.append(sigmoid(layers[-1] @ w))
        delta = (outputs - layers[-1]) * layers[-1] * (1 - layers[-1])
        for i in range(len(weights) - 1, -1, -1):
            below = delta @ weights[i].T * layers[i] * (1 - layers[i])
            weights[i] += layers[i].T @ delta
            delta = below
    return weights


@pytest.mark.parametrize("sizes", [(2, 1), (2, 4, 1), (2, 5, 4, 3), (2, 3, 3, 3, 1)], ids=str)
@pytest.mark.parametrize("iterations", [0, 1, 9, 10, 57])
def test_fullbatch_with_any_number_of_layers(sizes, iterations, capsys):
    nn, layers = fullbatch_network(*sizes)
    outputs = np.hstack([OUTPUTS, 1 - OUTPUTS, OUTPUTS * 0.5])[:, : sizes[-1]]
    expected = in_numpy([layer.synaptic_weights for layer in layers], INPUTS, outputs, iterations)
    nn.train(INPUTS, outputs, iterations)
    assert capsys.readouterr().out.splitlines() == PROGRESS
    for layer, weights in zip(layers, expected, strict=True):
        np.testing.assert_allclose(layer.synaptic_weights, weights, rtol=1e-9)


def test_predicting_between_trainings_changes_nothing():
    asked, silent = (fullbatch_network(2, 4, 3, 1)[0] for _ in range(2))
    for nn in (asked, silent):
        nn.train(INPUTS, OUTPUTS, 10)
        if nn is asked:
            nn.forward_propagate(INPUTS)
        nn.train(INPUTS, OUTPUTS, 10)
    np.testing.assert_array_equal(
        asked.forward_propagate([2, -3])[-1], silent.forward_propagate([2, -3])[-1]
    )


@pytest.mark.parametrize("y", [OUTPUTS.ravel(), OUTPUTS.tolist()], ids=["flat", "lists"])
def test_fullbatch_targets(y):
    nn, layers = fullbatch_network(2, 4, 1)
    expected, expected_layers = fullbatch_network(2, 4, 1)
    nn.train(INPUTS.tolist(), y, 10)
    expected.train(INPUTS, OUTPUTS, 10)
    for layer, other in zip(layers, expected_layers, strict=True):
        np.testing.assert_array_equal(layer.synaptic_weights, other.synaptic_weights)


def test_classic_layers_use_numpys_global_random_state():
    np.random.seed(1)
    first, second = classic.Layer(2, 4), classic.Layer(4, 1)
    np.random.seed(1)
    np.testing.assert_array_equal(first.synaptic_weights, 2 * np.random.random((2, 4)) - 1)
    np.testing.assert_array_equal(second.synaptic_weights, 2 * np.random.random((4, 1)) - 1)


def test_synaptic_weights_may_be_written_before_and_after_a_network_has_them():
    nn, (layer1, layer2) = fullbatch_network(2, 4, 1)
    layer = classic.Layer(2, 4)
    layer.synaptic_weights = np.zeros((2, 4))
    layer.synaptic_weights[0, 0] = 3
    other = classic.NeuralNetwork(layer, classic.Layer(4, 1))
    assert layer.synaptic_weights.ravel().tolist() == [3, 0, 0, 0, 0, 0, 0, 0]
    assert layer.synaptic_weights.dtype == np.float64
    # Also after it, in place and as a whole; assigned arrays are copied.
    layer.synaptic_weights[1] = 2
    values = np.ones((4, 1))
    other.layer2.synaptic_weights = values
    values[:] = 9
    hidden, output = other.forward_propagate([1, 1])
    np.testing.assert_allclose(hidden, sigmoid(np.array([5.0, 2, 2, 2])), rtol=1e-14)
    np.testing.assert_allclose(output, sigmoid(hidden.sum(keepdims=True)), rtol=1e-14)
    # += reads, adds and assigns.
    layer1.synaptic_weights += 1
    np.random.seed(1)
    np.testing.assert_array_equal(layer1.synaptic_weights, 2 * np.random.random((2, 4)) - 1 + 1)
    assert nn.layer2 is layer2


def test_layers_are_attributes_by_number():
    nn, layers = fullbatch_network(2, 4, 3, 1)
    assert (nn.layer1, nn.layer2, nn.layer3) == tuple(layers) == nn.layers
    for name in ("layer0", "layer4", "layer", "layers1", "layer-1", "weights"):
        with refused(name, error=AttributeError):
            getattr(nn, name)
    assert not hasattr(classic.NeuralNetwork.__new__(classic.NeuralNetwork), "layer1")


def test_classic_layers_have_no_biases(capsys):
    nn, _ = fullbatch_network(2, 4, 1)
    nn.train(INPUTS, OUTPUTS, 20)
    nn.print_weights()
    assert "Biases" not in capsys.readouterr().out
    np.testing.assert_array_equal(nn.forward_propagate([0, 0])[0], [0.5] * 4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda nn: classic.Layer(0, 4), ValueError, ["n_inputs", "at least 1", "got 0"]),
        (lambda nn: classic.Layer(2, 4.0), TypeError, ["n_neurons", "an integer", "got 4.0"]),
        (lambda nn: classic.NeuralNetwork(), ValueError, ["one or more", "got none"]),
        (lambda nn: classic.NeuralNetwork(3), TypeError, ["cnet.classic.Layer objects", "got 3"]),
        (
            lambda nn: classic.NeuralNetwork(cnet.Layer(2, 4)),
            TypeError,
            ["cnet.classic.Layer objects", "got Layer(2, 4"],
        ),
        (
            lambda nn: classic.NeuralNetwork(classic.Layer(2, 4), classic.Layer(3, 1)),
            ValueError,
            ["layer 2 must take 4 inputs", "got 3"],
        ),
        (
            lambda nn: classic.NeuralNetwork(nn.layer1),
            ValueError,
            ["layers must not be part of a network already"],
        ),
        (lambda nn: nn.train(INPUTS, OUTPUTS, -1), ValueError, ["iterations", "got -1"]),
        (lambda nn: nn.train(INPUTS, OUTPUTS, 1e5), TypeError, ["iterations", "got 100000.0"]),
        (lambda nn: nn.train(INPUTS, OUTPUTS, True), TypeError, ["iterations", "got True"]),
        (lambda nn: nn.train(INPUTS.T, OUTPUTS, 1), ValueError, ["x must have 2 columns"]),
        (lambda nn: nn.train(INPUTS, OUTPUTS[1:], 1), ValueError, ["y must have 15 rows"]),
        (lambda nn: nn.forward_propagate([1, 2, 3]), ValueError, ["x must have 2 columns"]),
        (
            lambda nn: setattr(nn.layer1, "synaptic_weights", np.zeros((4, 2))),
            ValueError,
            ["synaptic_weights must have shape (2, 4)", "got shape (4, 2)"],
        ),
        (
            lambda nn: setattr(nn.layer1, "synaptic_weights", [[np.nan] * 4] * 2),
            ValueError,
            ["synaptic_weights", "nan"],
        ),
    ],
    ids=range(15),
)
def test_classic_errors(call, error, words, capsys):
    nn, layers = fullbatch_network(2, 4, 1)
    before = [layer.synaptic_weights.copy() for layer in layers]
    with refused(*words, error=error):
        call(nn)
    for layer, weights in zip(layers, before, strict=True):
        np.testing.assert_array_equal(layer.synaptic_weights, weights)
    # Nothing is printed before the error.
    assert capsys.readouterr().out == ""


def test_layers_keep_their_weights_if_creating_a_classic_network_fails():
    layer, other = classic.Layer(2, 4), classic.Layer(3, 1)
    weights = layer.synaptic_weights.copy()
    with refused("layer 2 must take 4 inputs"):
        classic.NeuralNetwork(layer, other)
    np.testing.assert_array_equal(layer.synaptic_weights, weights)
    classic.NeuralNetwork(layer, classic.Layer(4, 1))
    np.testing.assert_array_equal(layer.synaptic_weights, weights)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_of_a_classic_network(way):
    net = classic.NeuralNetwork(classic.Layer(2, 3), classic.Layer(3, 1))
    net.train([[0, 1], [1, 1]], [0, 1], 50)
    twin = way(net)
    for layer, original in zip(twin.layers, net.layers, strict=True):
        np.testing.assert_array_equal(layer.synaptic_weights, original.synaptic_weights)
    twin.layer1.synaptic_weights[:] = 0
    assert twin.forward_propagate([1, 1])[0].tolist() == [0.5] * 3
    assert net.forward_propagate([1, 1])[0].tolist() != [0.5] * 3


def test_layers_of_a_classic_network_cannot_be_replaced():
    net = classic.NeuralNetwork(classic.Layer(2, 1))
    with pytest.raises(AttributeError, match="synaptic_weights"):
        net.layer1 = classic.Layer(2, 1)
