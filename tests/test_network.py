"""NeuralNetwork: prediction, loss and gradients, copies, seeds, and printed output."""

import copy
import pickle

import numpy as np
import pytest
from helpers import everything, network, refused, unchanged
from reference import Network

import cnet

DTYPES = ["float32", "float64"]
rng = np.random.default_rng(5)
X = rng.uniform(-1, 1, (9, 3))
LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0])
TARGETS = np.eye(4)[LABELS]


def wide(output="softmax", dtype="float64", **settings):
    """Return a network of three layers with non-zero biases."""
    net = network(3, 6, 5, 4, output=output, dtype=dtype, **settings)
    net.parameters[...] = np.random.default_rng(1).uniform(-0.9, 0.9, net.parameters.size)
    return net


def train(net, epochs=5, **settings):
    return net.train(X, LABELS, 0.05, epochs, batch_size=2, verbose=False, **settings)


@pytest.fixture
def trained():
    net = wide()
    train(net, optimizer="adam")
    return net


# Prediction


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", ["sigmoid", "softmax", "linear", "relu"])
@pytest.mark.parametrize("bias", [True, False])
def test_activations_equal_a_forward_pass_in_numpy(dtype, output, bias):
    net = wide(output, dtype, bias=bias)
    expected = [a for _, a in Network.like(net).forward(X)]
    found = net.activations(X)
    assert [a.shape for a in found] == [(9, 6), (9, 5), (9, 4)]
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=2e-5 if dtype == "float32" else 1e-12, atol=1e-7)
    np.testing.assert_array_equal(net.predict(X), found[-1])


@pytest.mark.parametrize("n", [1, 31, 32, 33, 511, 512, 513, 1500])
def test_a_batch_is_predicted_like_its_rows(n):
    net = wide()
    x = np.random.default_rng(n).normal(size=(n, 3))
    outputs = net.predict(x)
    np.testing.assert_allclose(outputs, Network.like(net).predict(x), rtol=1e-12)
    for row in (0, n // 2, n - 1):
        np.testing.assert_allclose(outputs[row], net.predict(x[row]), rtol=1e-13)


def test_predicting_a_single_row_returns_one_dimension():
    net = wide()
    outputs = net.predict(X)
    assert outputs.shape == (9, 4)
    assert net.predict(X[:1]).shape == (1, 4)
    assert net.predict(X[0]).shape == (4,)
    np.testing.assert_array_equal(net.predict(X[0]), net.predict(X[:1])[0])
    assert [a.shape for a in net.activations(X[0])] == [(6,), (5,), (4,)]
    np.testing.assert_array_equal(net.forward_propagate(X[0]), net.predict(X[0]))


def test_predict_keeps_a_single_output_column():
    net = network(3, 4, 1)
    assert net.predict(X).shape == (9, 1)
    assert net.predict(X[0]).shape == (1,)


def test_a_network_of_one_input():
    net = network(1, 4, 1)
    assert net.predict([0.5]).shape == (1,)
    assert net.predict([[0.5], [1.0]]).shape == (2, 1)


def test_outputs_do_not_share_memory_with_the_network():
    net = wide()
    first = net.predict(X)
    kept = first.copy()
    net.predict(-X)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    np.testing.assert_array_equal(net.predict(X), kept)


def test_predict_class_is_the_largest_output():
    net = wide()
    np.testing.assert_array_equal(net.predict_class(X), net.predict(X).argmax(axis=1))
    assert net.predict_class(X).dtype == np.intp
    assert net.predict_class(X[4]) == net.predict_class(X)[4]
    assert np.ndim(net.predict_class(X[4])) == 0


def test_predict_class_of_a_single_output_is_whether_it_exceeds_a_half():
    net = network(1, 1)
    net.layers[0].weights = [[1]]
    # The middle one of the three outputs is exactly 0.5.
    assert net.predict_class([[-1e-3], [0], [1e-3]]).tolist() == [0, 0, 1]
    assert net.predict_class([1e-3]) == 1


def test_predicting_changes_nothing(trained):
    with unchanged(trained):
        trained.predict(X)
        trained.predict_class(X)
        trained.activations(X)
        trained.forward_propagate(X[0])


# Loss and gradients


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_evaluate(reduction, weighted):
    net = wide()
    weights = np.arange(9.0) if weighted else np.ones(9)
    outputs = net.predict(X)
    losses = -np.log(outputs[np.arange(9), LABELS]) * weights
    result = net.evaluate(
        X, LABELS, reduction=reduction, sample_weight=weights if weighted else None
    )
    assert result == {
        "loss": pytest.approx(losses.mean() if reduction == "mean" else losses.sum(), rel=1e-12),
        "accuracy": pytest.approx(np.mean(outputs.argmax(axis=1) == LABELS)),
    }
    np.testing.assert_allclose(
        net.evaluate(X, TARGETS, reduction=reduction, sample_weight=weights)["loss"],
        losses.mean() if reduction == "mean" else losses.sum(),
        rtol=1e-12,
    )


@pytest.mark.parametrize("y", [TARGETS, LABELS], ids=["rows", "labels"])
@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_accuracy_counts_rows_of_the_right_class(y, output):
    net = wide(output)
    classes = net.predict_class(X)
    truth = classes.copy()
    truth[:3] = (truth[:3] + 1) % 4
    assert net.evaluate(X, truth)["accuracy"] == pytest.approx(6 / 9)
    assert net.evaluate(X, np.eye(4)[truth])["accuracy"] == pytest.approx(6 / 9)
    assert net.evaluate(X, y)["accuracy"] == pytest.approx(np.mean(classes == LABELS))


def test_accuracy_of_a_single_output():
    net = network(3, 4, 1)
    truth = net.predict_class(X)
    truth[0] = 1 - truth[0]
    assert net.evaluate(X, truth)["accuracy"] == pytest.approx(8 / 9)


@pytest.mark.parametrize("output", ["linear", "exp", "tanh"])
def test_evaluate_returns_no_accuracy_for_regression(output):
    assert list(wide(output).evaluate(X, TARGETS)) == ["loss"]


def test_evaluate_uses_the_loss_of_the_last_training():
    net = network(3, 4, 1, output="linear")
    y = np.linspace(-2, 2, 9)
    d = np.abs(net.predict(X)[:, 0] - y)
    assert net.evaluate(X, y)["loss"] == pytest.approx(np.mean(d**2) / 2)
    net.train(X, y, epochs=0, loss="absolute_error")
    assert net.evaluate(X, y)["loss"] == pytest.approx(d.mean())
    assert net.loss_and_gradient(X, y)[0] == pytest.approx(d.mean())
    assert net.evaluate(X, y, loss=cnet.Quantile(0.5))["loss"] == pytest.approx(d.mean() / 2)
    # Passing a loss once does not change the default.
    assert net.evaluate(X, y)["loss"] == pytest.approx(d.mean())


def test_evaluate_after_adding_a_layer():
    # The previous loss does not fit the new output.
    net = network(3, 1)
    net.train(X, LABELS > 1, epochs=1, loss="binary_cross_entropy", verbose=False)
    net.add_layer(4, "softmax")
    outputs = net.predict(X)
    expected = -np.log(outputs[np.arange(9), LABELS]).mean()
    assert net.evaluate(X, LABELS)["loss"] == pytest.approx(expected)


def test_evaluate_with_a_function():
    net = wide()

    def loss(y_true, y_pred):
        assert y_true.shape == y_pred.shape == (9, 4)
        return 42, np.zeros_like(y_pred)

    result = net.evaluate(X, LABELS, loss=loss)
    assert result["loss"] == 42
    assert result["accuracy"] == net.evaluate(X, LABELS)["accuracy"]
    value, gradient = net.loss_and_gradient(X, LABELS, loss=loss)
    assert value == 42
    assert not gradient.any()
    assert not net.input_gradient(X, LABELS, loss=loss).any()


def finite_differences(function, array, step=1e-6):
    """Return the gradient of a function by an array that it depends on."""
    gradient = np.empty(array.size)
    flat = array.reshape(-1)
    for i in range(flat.size):
        kept = flat[i]
        flat[i] = kept + step
        above = function()
        flat[i] = kept - step
        gradient[i] = (above - function()) / (2 * step)
        flat[i] = kept
    return gradient


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_and_gradient_against_finite_differences(reduction):
    net = wide()
    settings = {"reduction": reduction, "sample_weight": np.arange(1.0, 10)}
    loss, gradient = net.loss_and_gradient(X, LABELS, **settings)
    assert loss == pytest.approx(net.evaluate(X, LABELS, **settings)["loss"], rel=1e-13)
    expected = finite_differences(
        lambda: net.evaluate(X, LABELS, **settings)["loss"], net.parameters
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_input_gradient_against_finite_differences(reduction):
    net, x = wide(), X.copy()
    gradient = net.input_gradient(x, LABELS, reduction=reduction)
    assert gradient.shape == x.shape
    expected = finite_differences(
        lambda: net.evaluate(x, LABELS, reduction=reduction)["loss"], x
    ).reshape(x.shape)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)
    one = net.input_gradient(x[3], LABELS[3], reduction=reduction)
    assert one.shape == (3,)
    np.testing.assert_allclose(one, gradient[3] * (9 if reduction == "mean" else 1), rtol=1e-10)


def test_gradients_with_a_function_match_the_built_in_loss():
    net = wide("tanh")

    def loss(y_true, y_pred):
        d = y_pred - y_true
        return np.sum(d * d) / 2 / len(d), d / len(d)

    value, gradient = net.loss_and_gradient(X, TARGETS, loss=loss)
    expected, expected_gradient = net.loss_and_gradient(X, TARGETS, loss="squared_error")
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(
        net.input_gradient(X, TARGETS, loss=loss),
        net.input_gradient(X, TARGETS, loss="squared_error"),
        rtol=1e-10,
        atol=1e-15,
    )


def test_computing_losses_and_gradients_changes_nothing(trained):
    x, y = X.copy(), TARGETS.copy()
    with unchanged(trained):
        trained.evaluate(x, y, loss="huber", reduction="sum")
        trained.loss_and_gradient(x, y)
        trained.input_gradient(x, y)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, TARGETS)


# The tutorial's single step


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", ["sigmoid", "softmax", "linear"])
def test_backward_propagate_is_one_gradient_descent_step(dtype, output):
    net = wide(output, dtype)
    before, outputs = net.parameters.copy(), net.predict(X[0])
    _, gradient = net.loss_and_gradient(X[0], TARGETS[0])
    returned = net.backward_propagate(X[0], TARGETS[0], 0.25)
    np.testing.assert_array_equal(returned, outputs)
    np.testing.assert_array_equal(net.parameters, before - before.dtype.type(0.25) * gradient)
    assert np.abs(gradient).max() > 0


def test_backward_propagate_takes_a_label():
    by_label, by_row = wide(), wide()
    by_label.backward_propagate(X[0], 2, 0.25)
    by_row.backward_propagate(X[0], [0, 0, 1, 0], 0.25)
    np.testing.assert_allclose(by_label.parameters, by_row.parameters, rtol=1e-13)


def test_backward_propagate_does_not_change_the_optimizer_and_the_history(trained):
    state, history = pickle.dumps(trained.trainer.state), trained.history
    trained.backward_propagate(X[0], TARGETS[0], 0.25)
    assert pickle.dumps(trained.trainer.state) == state
    assert trained.history is history


def test_backward_propagate_takes_one_row(trained):
    with refused("inputs must be a single row, got 9", of=[trained]):
        trained.backward_propagate(X, TARGETS, 0.1)


def test_backward_propagate_raises_if_a_weight_would_become_infinite():
    net = network(3, 4, 1, output="linear")
    with refused("learning rate 1e+305", "infinite or NaN", error=cnet.DivergenceError, of=[net]):
        net.backward_propagate(X[0], 1e5, 1e305)


# Without layers


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (cnet.NeuralNetwork(), "add_layer(n_inputs, input_layer=True) and then"),
        (cnet.NeuralNetwork().add_layer(3, input_layer=True), "after the input layer"),
    ],
    ids=["nothing", "input layer"],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda net: net.train(X, LABELS),
        lambda net: net.predict(X),
        lambda net: net.predict_class(X),
        lambda net: net.activations(X),
        lambda net: net.evaluate(X, LABELS),
        lambda net: net.loss_and_gradient(X, LABELS),
        lambda net: net.input_gradient(X, LABELS),
        lambda net: net.backward_propagate(X[0], LABELS[0], 0.1),
        lambda net: net.parameters,
    ],
    ids=range(9),
)
def test_a_network_without_layers_says_what_is_missing(net, words, call):
    with refused("the network has no layers; call add_layer", words, of=[net]):
        call(net)


# Seeds


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_seed_gives_the_same_bits(dtype):
    first, second = (wide(dtype=dtype, seed=3) for _ in range(2))
    assert train(first) == train(second)
    assert everything(first) == everything(second)


def test_another_seed_gives_other_weights_and_another_order():
    assert (network(3, 4, seed=1).parameters[:12] != network(3, 4, seed=2).parameters[:12]).all()
    # From the same weights, so that only the order of rows differs.
    first, second = wide(seed=1), wide(seed=2)
    assert train(first) != train(second)


def test_without_a_seed_weights_differ_each_time():
    first, second = (network(3, 4, seed=None) for _ in range(2))
    assert (first.parameters[:12] != second.parameters[:12]).all()


def test_a_seed_may_be_a_generator():
    generator = np.random.default_rng(3)
    net = network(3, 4, seed=generator)
    np.testing.assert_array_equal(net.parameters, network(3, 4, seed=3).parameters)
    # The network uses the generator itself, not a copy.
    assert generator.random() != np.random.default_rng(3).random()
    sequence = network(3, 4, seed=np.random.SeedSequence(3))
    np.testing.assert_array_equal(net.parameters, sequence.parameters)


def test_numpys_global_random_state_is_unchanged():
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    train(network(3, 4))
    assert np.random.random() == expected


def test_both_dtypes_have_the_same_initial_weights():
    for a, b in zip(
        network(3, 4, dtype="float32").parameters, network(3, 4).parameters, strict=True
    ):
        assert a == np.float32(b)


# Copies

WAYS = {
    "copy": lambda net: net.copy(),
    "deepcopy": copy.deepcopy,
    "copy.copy": copy.copy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "old pickle": lambda net: pickle.loads(pickle.dumps(net, protocol=2)),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rprop", cnet.SGD(momentum=0.9)], ids=str)
def test_a_copy_trains_like_the_original(way, optimizer):
    net, straight_on = wide(), wide()
    train(net, optimizer=optimizer)
    train(straight_on, optimizer=optimizer)
    twin = way(net)
    assert everything(twin) == everything(net)
    # Training the original first reveals any shared state.
    train(straight_on)
    train(net)
    train(twin)
    assert everything(net) == everything(straight_on)
    assert everything(twin) == everything(straight_on)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_copy_is_independent(way, trained):
    twin = way(trained)
    assert type(twin) is cnet.NeuralNetwork
    assert not np.shares_memory(twin.parameters, trained.parameters)
    assert np.shares_memory(twin.layers[0].weights, twin.parameters)
    assert not set(map(id, twin.layers)) & set(map(id, trained.layers))
    with unchanged(trained):
        twin.parameters[:] = 0
        twin.layers[0].weights[0, 0] = 1
        train(twin)
    assert twin.layers[-1].name == "layer_3"
    assert repr(twin) == repr(trained)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    "net",
    [
        cnet.NeuralNetwork(dtype="float64"),
        cnet.NeuralNetwork(dtype="float64").add_layer(3, input_layer=True),
    ],
    ids=["nothing", "input layer"],
)
def test_a_copy_of_an_unfinished_network(way, net):
    twin = way(net)
    assert repr(twin) == repr(net)
    twin.add_layer(2, input_layer="3" not in repr(net))
    assert repr(twin) != repr(net)


def loss_that_cannot_be_pickled():
    return lambda y_true, y_pred: (7.0, np.zeros_like(y_pred))


def test_copy_keeps_a_function_as_loss_and_pickle_does_not():
    net = wide()
    train(net, 1, loss=loss_that_cannot_be_pickled())
    assert net.evaluate(X, LABELS)["loss"] == 7
    assert net.copy().evaluate(X, LABELS)["loss"] == 7
    assert copy.copy(net).evaluate(X, LABELS)["loss"] == 7
    restored = pickle.loads(pickle.dumps(net))
    assert restored.evaluate(X, LABELS)["loss"] == pytest.approx(wide().evaluate(X, LABELS)["loss"])


def test_a_pickle_keeps_the_loss(trained):
    net = network(3, 1)
    net.train(X, LABELS / 3, epochs=1, loss="quantile(0.9)", verbose=False)
    restored = pickle.loads(pickle.dumps(net))
    assert restored.evaluate(X, LABELS / 3) == net.evaluate(X, LABELS / 3)


def test_a_pickle_keeps_the_history(trained):
    restored = pickle.loads(pickle.dumps(trained))
    assert type(restored.history) is cnet.History
    assert restored.history == trained.history
    assert len(restored.history["loss"]) == 5


# Printed output


def test_print_weights(capsys):
    net = (
        cnet.NeuralNetwork(dtype="float64")
        .add_layer(2, input_layer=True)
        .add_layer(3, init="zeros")
        .add_layer(1, init="zeros", bias=False)
    )
    net.layers[0].biases = [1.5, 2.5, 3.5]
    net.print_weights()
    assert capsys.readouterr().out.splitlines() == [
        "Layer 1 (3 neurons, each with 2 inputs):",
        "[[0. 0. 0.]",
        " [0. 0. 0.]]",
        "Biases:",
        "[1.5 2.5 3.5]",
        "Layer 2 (1 neuron, with 3 inputs):",
        "[[0.]",
        " [0.]",
        " [0.]]",
    ]


def test_print_weights_of_one_input(capsys):
    network(1, 2).print_weights()
    assert "Layer 1 (2 neurons, each with 1 input):" in capsys.readouterr().out


def test_summary(capsys):
    net = cnet.NeuralNetwork(
        cnet.Layer(1000, 20, "relu", name="hidden"), cnet.Layer(20, 3, "softmax", bias=False)
    )
    net.summary()
    assert capsys.readouterr().out.splitlines() == [
        "layer    inputs  neurons  activation  parameters",
        "hidden    1,000       20  relu            20,020",
        "layer_2      20        3  softmax             60",
        "20,080 parameters, float32, 80,320 bytes",
    ]


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (cnet.NeuralNetwork(), "NeuralNetwork(no layers, float32)"),
        (
            cnet.NeuralNetwork(dtype="float64").add_layer(2, input_layer=True),
            "NeuralNetwork(2; 0 parameters, float64)",
        ),
        (
            network(100, 50, 3, output="softmax", dtype="float32"),
            "NeuralNetwork(100, 50 tanh, 3 softmax; 5,203 parameters, float32)",
        ),
    ],
)
def test_repr(net, text):
    assert repr(net) == text


def test_the_example_in_the_docstring():
    net = cnet.NeuralNetwork(seed=0)
    net = net.add_layer(2, input_layer=True).add_layer(3, "tanh").add_layer(1)
    assert repr(net) in cnet.NeuralNetwork.__doc__
