"""LayerNorm and BatchNorm: values, gradients, running statistics, and how networks with them behave."""

import copy
import json
import pickle
import signal

import numpy as np
import pytest
import reference
from helpers import Interruption, InterruptTraining, everything, in_blocks_of, refused, unchanged
from numpy.testing import assert_allclose, assert_array_equal
from reference_layers import (
    Network,
    central_differences,
    mean_squared_error,
    problem,
    spread,
    standardized,
    standardized_jacobian,
)
from reference_torch import Twin

import cnet
from cnet._core import engine
from cnet.model import Model

KINDS = (cnet.LayerNorm, cnet.BatchNorm)
kinds = pytest.mark.parametrize("kind", KINDS)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
activations = pytest.mark.parametrize("activation", sorted(reference.ELEMENTWISE))

# Names, settings of cnet, and those of PyTorch if they have other names.
OPTIMIZERS = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9, "weight_decay": 0.01}),
    ("adam", {}),
    ("adamw", {}),
    ("rmsprop", {}),
    ("adagrad", {}),
    ("rprop", {}),
    ("sgd", {"clip_norm": 0.05}),
    ("adam", {"clip_norm": 0.05}),
]
CLASSES = {
    "sgd": cnet.SGD,
    "adam": cnet.Adam,
    "adamw": cnet.AdamW,
    "rmsprop": cnet.RMSprop,
    "adagrad": cnet.Adagrad,
    "rprop": cnet.Rprop,
}
optimizers = pytest.mark.parametrize(
    ("name", "settings"),
    OPTIMIZERS,
    ids=lambda value: str(value) if isinstance(value, dict) else value,
)


def between(kind, before="tanh", after="tanh", *, dtype="float64", seed=0, **settings):
    """Return a network with a normalization between two layers, away from its initial values."""
    net = cnet.NeuralNetwork(
        cnet.Layer(3, 4, before),
        kind(4, after, **settings),
        cnet.Layer(4, 2, "sigmoid"),
        seed=seed,
        dtype=dtype,
    )
    return spread(net)


def deep(dtype="float64", seed=0):
    """Return a network with all kinds of normalization, first and last, with and without parameters.

    BatchNorm cancels biases before it that reach it through linear layers only. Their gradient would be
    rounding errors, whose sign some optimizers follow.
    """
    net = cnet.NeuralNetwork(
        cnet.BatchNorm(5),
        cnet.Layer(5, 7, "tanh"),
        cnet.BatchNorm(7, "relu", momentum=0.3, epsilon=1e-3),
        cnet.Layer(7, 6, "silu"),
        cnet.LayerNorm(6, "tanh", epsilon=1e-2),
        cnet.Layer(6, 4, "linear", bias=False),
        cnet.BatchNorm(4, "gelu", affine=False),
        cnet.Layer(4, 4, "tanh"),
        cnet.LayerNorm(4, affine=False),
        cnet.Layer(4, 3, "linear"),
        cnet.LayerNorm(3, "sigmoid"),
        seed=seed,
        dtype=dtype,
    )
    return spread(net)


# Values


def test_layer_norm_standardizes_each_row():
    net = cnet.NeuralNetwork(cnet.LayerNorm(5, epsilon=1e-4), dtype="float64")
    x = np.random.default_rng(0).normal(3, 2, (4, 5))
    assert_allclose(net.predict(x), [standardized(row, 1e-4) for row in x], rtol=1e-12)
    net.layers[0].weights, net.layers[0].biases = np.arange(5), np.ones(5)
    expected = [standardized(row, 1e-4) * np.arange(5) + 1 for row in x]
    assert_allclose(net.predict(x), expected, rtol=1e-12, atol=1e-14)


def test_batch_norm_predicts_with_running_statistics():
    net = cnet.NeuralNetwork(cnet.BatchNorm(3, epsilon=1e-4), dtype="float64")
    layer = net.layers[0]
    x = np.random.default_rng(0).normal(3, 2, (4, 3))
    assert_allclose(net.predict(x), x / np.sqrt(1 + 1e-4), rtol=1e-12)
    layer.running_mean, layer.running_variance = [1, 2, 3], [4, 5, 6]
    layer.weights, layer.biases = [1, 0.5, -1], [0, 1, 2]
    expected = (x - [1, 2, 3]) / np.sqrt([4.0001, 5.0001, 6.0001]) * [1, 0.5, -1] + [0, 1, 2]
    assert_allclose(net.predict(x), expected, rtol=1e-12)


@kinds
def test_initial_values_and_defaults_are_those_of_pytorch(kind):
    layer = cnet.NeuralNetwork(kind(3), dtype="float64").layers[0]
    assert (layer.epsilon, layer.affine, layer.activation) == (1e-5, True, "linear")
    assert_array_equal(layer.weights, np.ones(3))
    assert_array_equal(layer.biases, np.zeros(3))
    if kind is cnet.BatchNorm:
        assert layer.momentum == 0.1
        assert_array_equal(layer.running_mean, np.zeros(3))
        assert_array_equal(layer.running_variance, np.ones(3))


# Gradients


def test_the_jacobian_of_the_reference_is_that_of_its_formula():
    x = np.random.default_rng(0).normal(1, 2, 5)
    differences = [
        central_differences(lambda i=i: standardized(x, 1e-3)[i], x) for i in range(len(x))
    ]
    assert_allclose(standardized_jacobian(x, 1e-3), differences, rtol=1e-6, atol=1e-7)


def check_gradients(net, x, y, **arguments):
    """Compare gradients by parameters and by inputs with central differences of the loss."""

    def loss():
        return net.loss_and_gradient(x, y, **arguments)[0]

    for found, values in (
        (net.loss_and_gradient(x, y, **arguments)[1], net.parameters),
        (net.input_gradient(x, y, **arguments), x),
    ):
        expected = central_differences(loss, values)
        # Differences of large losses lose digits.
        size = max(1, abs(expected).max())
        assert_allclose(found, expected, rtol=2e-6, atol=2e-9 * size)


@kinds
@activations
def test_gradients_after_and_before_every_activation(kind, activation):
    net = between(kind, before=activation, after=activation)
    check_gradients(net, *problem(net, 5))


@kinds
def test_gradients_before_softmax(kind):
    net = spread(cnet.NeuralNetwork(cnet.Layer(3, 4), kind(4, "softmax"), dtype="float64"))
    x, _ = problem(net, 5)
    check_gradients(net, x, np.arange(5) % 4)


@pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
@pytest.mark.parametrize("block", [None, 4, 7])
def test_gradients_with_weights_reductions_and_blocks(reduction, block):
    net = deep()
    if block:
        in_blocks_of(block, net)
    x, y = problem(net, 19)
    weights = np.random.default_rng(3).uniform(0, 2, 19)
    check_gradients(net, x, y, reduction=reduction, sample_weight=weights)


@pytest.mark.parametrize("block", [None, 4])
def test_gradients_of_a_loss_in_python(block):
    net = deep()
    if block:
        in_blocks_of(block, net)
    x, y = problem(net, 19)
    check_gradients(net, x, y, loss=mean_squared_error)
    value, gradient = net.loss_and_gradient(x, y, loss=mean_squared_error)
    expected_value, expected = net.loss_and_gradient(x, y, loss="squared_error")
    assert value == pytest.approx(expected_value, rel=1e-13)
    assert_allclose(gradient, expected, rtol=1e-11, atol=1e-15)


def test_gradients_agree_with_the_reference():
    net = deep()
    x, y = problem(net, 40)
    slow = Network(net)
    value, by_inputs = slow.loss(x, y)
    found, gradient = net.loss_and_gradient(x, y)
    assert found == pytest.approx(value, rel=1e-13)
    assert_allclose(gradient, slow.gradient, rtol=1e-9, atol=1e-13)
    assert_allclose(net.input_gradient(x, y), by_inputs, rtol=1e-9, atol=1e-13)


def test_the_training_gradient_of_the_reference_is_that_of_the_batch_loss():
    """The reference in training mode, with the statistics of the batch, against central differences."""
    net = deep()
    x, y = problem(net, 6)
    slow = Network(net)
    slow.loss(x, y, training=True)
    for parameter in slow._parameters:
        expected = central_differences(
            lambda: copy.deepcopy(slow).loss(x, y, training=True)[0], parameter.values
        )
        assert_allclose(parameter.gradient, expected, rtol=2e-6, atol=2e-9)


def step_of(net, x, y, rate=0.1, **arguments):
    """Return the change of all parameters in one step on all rows, divided by minus the rate."""
    before = net.parameters.copy()
    net.train(
        x, y, rate, 1, batch_size=None, optimizer="sgd", shuffle=False, verbose=False, **arguments
    )
    return (before - net.parameters) / rate


def check_step(net, x, y, sample_weight=None, divisor=None, **arguments):
    """Compare the step of a batch with the gradient of the reference in training mode."""
    slow = Network(net)
    value, _ = slow.loss(x, y, training=True, sample_weight=sample_weight, divisor=divisor)
    found = step_of(net, x, y, sample_weight=sample_weight, **arguments)
    assert_allclose(found, slow.gradient, rtol=1e-7, atol=1e-12)
    assert net.history["loss"] == [pytest.approx(value, rel=1e-12)]
    assert_allclose(net.buffers, slow.buffers, rtol=1e-12)


@kinds
@activations
def test_training_step_after_and_before_every_activation(kind, activation):
    net = between(kind, before=activation, after=activation)
    check_step(net, *problem(net, 9))


@kinds
@pytest.mark.parametrize("affine", [True, False])
def test_training_step_of_the_first_and_of_the_last_layer(kind, affine):
    net = cnet.NeuralNetwork(
        kind(3, affine=affine),
        cnet.Layer(3, 4, "tanh"),
        kind(4, affine=affine),
        dtype="float64",
        seed=0,
    )
    check_step(spread(net), *problem(net, 9))


@pytest.mark.parametrize("block", [None, 4, 7])
@pytest.mark.parametrize(
    ("reduction", "divisor"),
    [("mean", lambda w: len(w)), ("sum", lambda w: 1), ("weighted_mean", lambda w: w.sum())],
)
def test_training_step_with_weights_reductions_and_blocks(reduction, divisor, block):
    """A batch is one block for BatchNorm, whatever the plan says; LayerNorm goes block by block."""
    for net in (deep(), between(cnet.LayerNorm)):
        if block:
            in_blocks_of(block, net)
        x, y = problem(net, 23)
        weights = np.random.default_rng(3).uniform(0, 2, 23)
        check_step(net, x, y, weights, divisor(weights), reduction=reduction)


@kinds
@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 63, 64, 65, 130])
def test_training_step_of_every_width(kind, width):
    """Widths around the numbers of columns and lanes that are summed together."""
    net = cnet.NeuralNetwork(
        cnet.Layer(3, width, "tanh"), kind(width), cnet.Layer(width, 2), dtype="float64", seed=1
    )
    check_step(spread(net), *problem(net, 11))


@pytest.mark.parametrize("n", [600, 1500])
def test_training_step_of_a_batch_larger_than_the_default_block(n):
    net = deep()
    check_step(net, *problem(net, n))


@optimizers
def test_training_agrees_with_the_reference(name, settings):
    net = deep()
    x, y = problem(net, 44)
    slow = Network(net)
    losses = slow.train(name, 0.02, x, y, batch_size=8, epochs=3, **settings)
    history = net.train(
        x, y, 0.02, 3, batch_size=8, optimizer=CLASSES[name](**settings), shuffle=False,
        verbose=False,
    )  # fmt: skip
    assert_allclose(history["loss"], losses, rtol=1e-9)
    assert_allclose(net.parameters, slow.parameters, rtol=1e-6, atol=1e-7)
    assert_allclose(net.buffers, slow.buffers, rtol=1e-6, atol=1e-7)


@optimizers
def test_training_agrees_with_pytorch(name, settings):
    torch = pytest.importorskip("torch")
    net = deep()
    x, y = problem(net, 44)
    twin = Twin(torch, net)
    twin.train(name, 0.02, x, y, batch_size=8, epochs=3, **settings)
    net.train(
        x, y, 0.02, 3, batch_size=8, optimizer=CLASSES[name](**settings), shuffle=False,
        verbose=False,
    )  # fmt: skip
    twin.compare(rtol=1e-6, atol=1e-7)
    assert_allclose(net.predict(x), twin.predict(x), rtol=1e-6, atol=1e-7)


def test_float32_agrees_with_float64():
    nets = [deep(dtype) for dtype in ("float32", "float64")]
    nets[1].parameters[...], nets[1].buffers[...] = nets[0].parameters, nets[0].buffers
    x, y = problem(nets[0], 64)
    x, y = x.astype(np.float32), y.astype(np.float32)
    for net in nets:
        net.train(x, y, 0.1, 3, batch_size=16, shuffle=False, verbose=False)
    assert nets[0].parameters.dtype == nets[0].buffers.dtype == np.float32
    assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-3, atol=1e-4)
    assert_allclose(nets[0].buffers, nets[1].buffers, rtol=1e-3, atol=1e-4)


@kinds
def test_float32_keeps_digits_of_columns_far_from_zero(kind):
    """The mean is subtracted before anything is squared."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2000, 8)) + 1000).astype(np.float32)
    net = cnet.NeuralNetwork(kind(8, momentum=1.0) if kind is cnet.BatchNorm else kind(8))
    net.train(x, np.zeros((2000, 8)), 0.0, 1, batch_size=None, verbose=False)
    outputs = net.predict(x)
    axis = 0 if kind is cnet.BatchNorm else 1
    assert_allclose(outputs.mean(axis=axis), 0, atol=1e-3)
    assert_allclose(outputs.std(axis=axis), 1, atol=1e-3)


def test_constant_inputs_have_finite_gradients():
    """Their variance is 0, and epsilon alone is under the root."""
    for kind in KINDS:
        net = between(kind)
        x = np.ones((6, 3))
        check_step(net, x, problem(net, 6)[1])
        assert np.isfinite(net.parameters).all()


# Running statistics


def test_running_statistics_have_the_unbiased_variance():
    net = cnet.NeuralNetwork(cnet.BatchNorm(3, momentum=0.25), dtype="float64")
    layer = net.layers[0]
    x = np.random.default_rng(0).normal(2, 3, (10, 3))
    net.train(x, x, 0.0, 1, batch_size=None, verbose=False)
    assert_allclose(layer.running_mean, 0.25 * x.mean(axis=0), rtol=1e-12)
    assert_allclose(layer.running_variance, 0.75 + 0.25 * x.var(axis=0, ddof=1), rtol=1e-12)


@pytest.mark.parametrize("momentum", [0, 1])
def test_momentum_may_be_0_or_1(momentum):
    net = cnet.NeuralNetwork(cnet.BatchNorm(3, momentum=momentum), dtype="float64")
    layer = net.layers[0]
    x = np.random.default_rng(0).normal(2, 3, (10, 3))
    net.train(x, x, 0.0, 1, batch_size=5, shuffle=False, verbose=False)
    expected = x[5:].var(axis=0, ddof=1) if momentum else np.ones(3)
    assert_allclose(layer.running_variance, expected, rtol=1e-12)
    assert_allclose(layer.running_mean, x[5:].mean(axis=0) * momentum, rtol=1e-12)


def test_only_training_changes_running_statistics():
    net = deep()
    x, y = problem(net, 12)
    with unchanged(net):
        net.predict(x)
        net.predict(x[0])
        net.predict_class(x)
        net.activations(x)
        net.predictor()(x)
        net.evaluate(x, y)
        net.loss_and_gradient(x, y)
        net.input_gradient(x, y)
        net.loss_and_gradient(x, y, loss=mean_squared_error)


def test_validation_during_training_uses_running_statistics():
    net = deep()
    x, y = problem(net, 30)
    alone = net.copy()
    seen = []

    def evaluate(network, epoch, logs):
        seen.append(network.evaluate(x[:9], y[:9], metrics=["mse"]))

    history = net.train(
        x, y, 0.1, 3, batch_size=10, validation_data=(x[:9], y[:9]), metrics=["mse"],
        callbacks=[evaluate], verbose=False,
    )  # fmt: skip
    assert history["val_loss"] == [scores["loss"] for scores in seen]
    assert history["val_mse"] == [scores["mse"] for scores in seen]
    # Neither validation nor metrics change what is learnt.
    alone.train(x, y, 0.1, 3, batch_size=10, verbose=False)
    assert_array_equal(alone.parameters, net.parameters)
    assert_array_equal(alone.buffers, net.buffers)


# Batches of a single row


def test_batch_norm_requires_batches_of_two_rows():
    net = between(cnet.BatchNorm)
    x, y = problem(net, 6)
    with refused("batch_size must be 2 or more", "BatchNorm", "got 1", of=[net]):
        net.train(x, y, verbose=False)
    with refused("batch_size must be 2 or more", of=[net]):
        net.train(x, y, batch_size=1, loss=mean_squared_error, validation_split=0.3, verbose=False)
    inside = cnet.NeuralNetwork(cnet.Residual(cnet.BatchNorm(3)), cnet.Layer(3, 2))
    with refused("batch_size must be 2 or more", of=[inside]):
        inside.train(x, y, batch_size=1, verbose=False)


def test_frozen_batch_norm_takes_batches_of_one_row():
    x, y = problem(between(cnet.BatchNorm), 6)
    for net in (
        between(cnet.BatchNorm, trainable=False),
        cnet.NeuralNetwork(cnet.Residual(cnet.BatchNorm(3), trainable=False), cnet.Layer(3, 2)),
    ):
        before = net.buffers.copy()
        net.train(x, y, 0.1, 1, batch_size=1, verbose=False)
        assert_array_equal(net.buffers, before)


def test_a_last_batch_of_one_row_uses_running_statistics():
    net = deep()
    x, y = problem(net, 9)
    slow = Network(net)
    losses = slow.train("sgd", 0.1, x, y, batch_size=4, epochs=2)
    history = net.train(x, y, 0.1, 2, batch_size=4, shuffle=False, verbose=False)
    assert_allclose(history["loss"], losses, rtol=1e-11)
    assert_allclose(net.parameters, slow.parameters, rtol=1e-9, atol=1e-12)
    assert_allclose(net.buffers, slow.buffers, rtol=1e-11)


@pytest.mark.parametrize("batch_size", [1, 8, None])
def test_training_on_a_single_row_uses_running_statistics(batch_size):
    net = deep()
    x, y = problem(net, 1)
    before = net.buffers.copy()
    _, gradient = net.loss_and_gradient(x, y)
    parameters = net.parameters.copy()
    net.train(x, y, 0.1, 1, batch_size=batch_size, verbose=False)
    assert_allclose(net.parameters, parameters - 0.1 * gradient, rtol=1e-12)
    assert_array_equal(net.buffers, before)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@dtypes
def test_train_one_is_train_on_that_row(optimizer, dtype):
    one, all_rows = deep(dtype), deep(dtype)
    x, y = problem(one, 5)
    x, y = x.astype(dtype), y.astype(dtype)
    before = one.buffers.copy()
    for row, target in zip(x, y, strict=True):
        value = one.train_one(row, target, 0.1, optimizer=optimizer)
        history = all_rows.train(
            row[np.newaxis], target[np.newaxis], 0.1, 1, optimizer=optimizer, verbose=False
        )
        assert history["loss"] == [value]
    assert_array_equal(one.parameters, all_rows.parameters)
    assert_array_equal(one.buffers, before)
    # After training by batches, too, whose statistics the next single row must use.
    for net in (one, all_rows):
        net.train(x, y, 0.1, 1, batch_size=None, optimizer=optimizer, verbose=False)
    value = one.train_one(x[0], y[0], 0.1, optimizer=optimizer)
    assert all_rows.evaluate(x[:1], y[:1])["loss"] == pytest.approx(value, rel=1e-6)


def test_backward_propagate_uses_running_statistics():
    net = deep()
    x, y = problem(net, 1)
    before, parameters = net.buffers.copy(), net.parameters.copy()
    outputs, (_, gradient) = net.predict(x[0]), net.loss_and_gradient(x, y)
    assert_array_equal(net.backward_propagate(x[0], y[0], 0.1), outputs)
    assert_allclose(net.parameters, parameters - 0.1 * gradient, rtol=1e-12)
    assert_array_equal(net.buffers, before)


# The same bits


@dtypes
def test_prediction_of_a_row_has_the_same_bits_alone_and_in_a_batch(dtype):
    net = deep(dtype)
    x = problem(net, 77)[0].astype(dtype)
    outputs = net.predict(x)
    predictor = net.predictor()
    for row, expected in zip(x, outputs, strict=True):
        assert_array_equal(net.predict(row), expected)
        assert_array_equal(predictor(row), expected)
    in_blocks_of(8, net)
    assert_array_equal(net.predict(x), outputs)
    assert_array_equal(net.activations(x)[-1], outputs)


def wide(dtype):
    """Return a network whose layers are large enough for several threads."""
    return cnet.NeuralNetwork(
        cnet.Layer(40, 300, "relu"),
        cnet.BatchNorm(300),
        cnet.Layer(300, 300, "tanh"),
        cnet.LayerNorm(300),
        cnet.Layer(300, 2),
        seed=0,
        dtype=dtype,
    )


@dtypes
def test_results_do_not_depend_on_the_number_of_threads(dtype):
    found = []
    for threads in (1, 2, 3):
        net = wide(dtype)
        x, y = problem(net, 150)
        with cnet.num_threads(threads):
            net.train(x, y, 0.05, 2, batch_size=64, optimizer="adam", verbose=False)
        found.append(net)
    for net in found[1:]:
        assert_array_equal(net.parameters, found[0].parameters)
        assert_array_equal(net.buffers, found[0].buffers)


class Watching(cnet.Callback):
    def on_batch_end(self, network, batch, logs):
        pass


@dtypes
def test_batch_callbacks_do_not_change_the_results(dtype):
    nets = [deep(dtype), deep(dtype)]
    x, y = problem(nets[0], 50)
    for net, callbacks in zip(nets, ([], [Watching()]), strict=True):
        net.train(x, y, 0.1, 4, batch_size=12, callbacks=callbacks, verbose=False)
    assert_array_equal(nets[0].parameters, nets[1].parameters)
    assert_array_equal(nets[0].buffers, nets[1].buffers)
    assert nets[0].history == nets[1].history


@pytest.mark.parametrize("batch_size", [2, 12, 30, None])
def test_training_with_a_loss_in_python(batch_size):
    nets = [deep(), deep()]
    for net, loss in zip(nets, (mean_squared_error, "squared_error"), strict=True):
        x, y = problem(net, 50)
        net.train(x, y, 0.1, 3, batch_size=batch_size, loss=loss, verbose=False)
    assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-9, atol=1e-12)
    assert_allclose(nets[0].buffers, nets[1].buffers, rtol=1e-11)


@kinds
def test_dropout_of_the_outputs_is_reproducible(kind):
    found = []
    for loss in ("squared_error", "squared_error", mean_squared_error):
        net = between(kind, dropout=0.5)
        x, y = problem(net, 50)
        net.train(x, y, 0.1, 3, batch_size=10, loss=loss, verbose=False)
        found.append(net.parameters)
    assert_array_equal(found[0], found[1])
    assert_allclose(found[0], found[2], rtol=1e-9, atol=1e-12)


def test_three_calls_are_one_call():
    once, thrice = deep(), deep()
    x, y = problem(once, 50)
    settings = {"batch_size": 10, "optimizer": "adam", "verbose": False}
    once.train(x, y, 0.01, 3, **settings)
    for _ in range(3):
        thrice.train(x, y, 0.01, 1, **settings)
    assert_array_equal(once.parameters, thrice.parameters)
    assert_array_equal(once.buffers, thrice.buffers)


# Everything that ends a training


class Fails(cnet.Callback):
    """Does something at the end of the second batch of the second epoch."""

    def __init__(self, action):
        self.action = action

    def on_epoch_begin(self, network, epoch):
        self.epoch = epoch
        self.buffers = network.buffers.copy()
        self.parameters = network.parameters.copy()

    def on_batch_end(self, network, batch, logs):
        if self.epoch == 1 and batch == 1:
            assert not np.array_equal(network.buffers, self.buffers)
            self.action()


def raises():
    raise OSError("the disk is full")


@pytest.mark.parametrize(
    ("action", "error"),
    [(raises, OSError), (lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt)],
)
def test_an_exception_puts_running_statistics_back(action, error):
    net, expected = deep(), deep()
    x, y = problem(net, 40)
    fails = Fails(action)
    with pytest.raises(error):
        net.train(x, y, 0.1, 5, batch_size=10, callbacks=[fails], verbose=False)
    expected.train(x, y, 0.1, 1, batch_size=10, verbose=False)
    for array, after_first_epoch in (
        (net.buffers, expected.buffers),
        (net.parameters, expected.parameters),
    ):
        assert_array_equal(array, after_first_epoch)


def test_a_loss_that_fails_puts_running_statistics_back():
    net = deep()
    x, y = problem(net, 40)
    calls = []

    def fails(y_true, y_pred):
        calls.append(1)
        if len(calls) == 3:
            raise OSError("the disk is full")
        return mean_squared_error(y_true, y_pred)

    buffers, parameters = net.buffers.copy(), net.parameters.copy()
    with pytest.raises(OSError, match="disk"):
        net.train(x, y, 0.1, 5, batch_size=10, loss=fails, verbose=False)
    assert_array_equal(net.buffers, buffers)
    assert_array_equal(net.parameters, parameters)


def test_a_metric_that_fails_puts_running_statistics_back():
    net = deep()
    x, y = problem(net, 40)
    calls = []

    def fails(y_true, y_pred):
        calls.append(net.buffers.copy())
        if len(calls) == 2:
            raise OSError("the disk is full")
        return 1.0

    buffers = net.buffers.copy()
    with pytest.raises(OSError, match="disk"):
        net.train(x, y, 0.1, 5, batch_size=10, metrics=[fails], verbose=False)
    assert not np.array_equal(calls[1], buffers)
    assert_array_equal(net.buffers, buffers)


def test_ctrl_c_within_an_epoch_puts_running_statistics_back():
    net = cnet.NeuralNetwork(cnet.Layer(8, 64), cnet.BatchNorm(64), cnet.Layer(64, 8), seed=0)
    x = np.random.default_rng(0).normal(size=(300_000, 8)).astype(np.float32)
    buffers, parameters = net.buffers.copy(), net.parameters.copy()
    interruption = Interruption(0.05)
    callback = InterruptTraining(interruption)
    with interruption, pytest.raises(KeyboardInterrupt):
        net.train(x, x, 0.001, 50, batch_size=2, callbacks=callback, verbose=False)
    assert not net.history["loss"]
    assert_array_equal(net.buffers, buffers)
    assert_array_equal(net.parameters, parameters)


@pytest.mark.parametrize("loss", ["squared_error", mean_squared_error])
def test_divergence_puts_running_statistics_back(loss):
    net = cnet.NeuralNetwork(
        cnet.Layer(3, 4, "linear"),
        cnet.BatchNorm(4),
        cnet.Layer(4, 2, "exp"),
        seed=0,
        dtype="float64",
    )
    x, y = problem(net, 20)
    expected = net.copy()
    with pytest.raises(cnet.DivergenceError) as caught:
        net.train(x, y, 1e4, 50, batch_size=5, loss=loss, verbose=False, shuffle=False)
    if caught.value.epoch:
        expected.train(
            x, y, 1e4, caught.value.epoch, batch_size=5, loss=loss, verbose=False, shuffle=False
        )
    assert_array_equal(net.buffers, expected.buffers)
    assert_array_equal(net.parameters, expected.parameters)


@pytest.mark.parametrize("callbacks", [[], [Watching()]])
def test_running_statistics_that_overflow_are_divergence(callbacks):
    """The variance of these columns is infinite in float32, although the loss is finite."""
    net = cnet.NeuralNetwork(cnet.BatchNorm(2), cnet.Layer(2, 1), seed=0)
    x = (1e20 * np.random.default_rng(0).normal(size=(8, 2))).astype(np.float32)
    before = net.buffers.copy(), net.parameters.copy()
    with pytest.raises(cnet.DivergenceError):
        net.train(x, np.ones(8), 0.1, 3, batch_size=4, callbacks=callbacks, verbose=False)
    assert_array_equal(net.buffers, before[0])
    assert_array_equal(net.parameters, before[1])


@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping_restores_running_statistics(restore):
    net = deep()
    x, y = problem(net, 40)
    seen = []

    def note(network, epoch, logs):
        seen.append((network.parameters.copy(), network.buffers.copy()))

    # The value is best in epoch 1.
    values = iter([0, 2.0, 1.0, 3.0, 4.0, 5.0])
    stopping = cnet.EarlyStopping("metric", patience=3, restore_best=restore)
    net.train(
        x, y, 0.1, 50, batch_size=10, metrics={"metric": lambda t, p: next(values)},
        callbacks=[note, stopping], verbose=False,
    )  # fmt: skip
    parameters, buffers = seen[1 if restore else -1]
    assert stopping.best_epoch == 1
    assert not np.array_equal(seen[1][1], seen[-1][1])
    assert_array_equal(net.parameters, parameters)
    assert_array_equal(net.buffers, buffers)


def test_early_stopping_restores_a_network_that_has_only_running_statistics():
    net = cnet.NeuralNetwork(cnet.BatchNorm(3, affine=False), dtype="float64")
    x, y = problem(net, 12)
    values = iter([0.0, 1.0, 2.0, 3.0])
    seen = []
    net.train(
        x, y, 0.1, 3, batch_size=4, metrics={"metric": lambda t, p: next(values)},
        callbacks=[lambda n, e, logs: seen.append(n.buffers.copy()), cnet.EarlyStopping("metric")],
        verbose=False,
    )  # fmt: skip
    assert_array_equal(net.buffers, seen[0])


# Networks with normalization as objects


def test_methods_that_add_normalization():
    net = cnet.NeuralNetwork(seed=0).add_layer(3, input_layer=True)
    net.add_batch_norm(momentum=0.5, name="first").add_layer(4, "tanh").add_layer_norm(
        "relu", affine=False
    )
    first, _, last = net.layers
    assert isinstance(first, cnet.BatchNorm)
    assert (first.n_inputs, first.momentum, first.name) == (3, 0.5, "first")
    assert isinstance(last, cnet.LayerNorm)
    assert (last.n_inputs, last.activation, last.affine) == (4, "relu", False)
    for method in ("add_layer_norm", "add_batch_norm"):
        with refused("add_layer(n_inputs, input_layer=True)"):
            getattr(cnet.NeuralNetwork(), method)()


def test_adding_layers_keeps_running_statistics():
    net = deep()
    x, y = problem(net, 20)
    net.train(x, y, 0.1, 1, batch_size=5, verbose=False)
    buffers, outputs = net.buffers.copy(), net.predict(x)
    net.add(cnet.BatchNorm(3))
    assert_array_equal(net.buffers, [*buffers, 0, 0, 0, 1, 1, 1])
    assert_allclose(net.predict(x), outputs / np.sqrt(1 + 1e-5), rtol=1e-12)


@pytest.mark.parametrize("twin_of", [cnet.NeuralNetwork.copy, copy.deepcopy, copy.copy, None])
def test_copies_and_pickles(twin_of):
    net = deep()
    x, y = problem(net, 20)
    net.train(x, y, 0.1, 2, batch_size=5, optimizer="adam", verbose=False)
    twin = twin_of(net) if twin_of else pickle.loads(pickle.dumps(net))
    assert everything(twin) == everything(net)
    assert [repr(layer) for layer in twin.layers] == [repr(layer) for layer in net.layers]
    with unchanged(net):
        twin.train(x, y, 0.1, 2, batch_size=5, verbose=False)
    net.train(x, y, 0.1, 2, batch_size=5, verbose=False)
    assert everything(twin) == everything(net)


def test_models_are_dicts_whose_layers_are_json():
    model = deep().model
    description = model.to_dict()
    layers = json.loads(json.dumps(description["layers"]))
    twin = Model.from_dict({**description, "layers": layers})
    assert [layer.config() for layer in twin.layers] == [layer.config() for layer in model.layers]
    assert_array_equal(twin.parameters, model.parameters)
    assert_array_equal(twin.buffers, model.buffers)
    assert list(description["buffers"]) == [
        f"layer_{i}.{name}" for i in (1, 3, 7) for name in ("running_mean", "running_variance")
    ]


@pytest.mark.parametrize("damage", ["missing", "shape", "nan", "dtype"])
def test_damaged_buffers_raise(damage):
    description = deep().model.to_dict()
    buffers = description["buffers"]
    name = "layer_3.running_mean"
    values = buffers.pop(name)
    if damage == "shape":
        buffers[name] = values[:-1]
    elif damage == "nan":
        buffers[name] = values * np.nan
    elif damage == "dtype":
        buffers[name] = values.astype(np.float32)
    with pytest.raises((ValueError, TypeError), match="running_mean"):
        Model.from_dict(description)


@pytest.mark.parametrize("kind", ["layer_norm", "batch_norm"])
def test_damaged_configs_raise(kind):
    layer = cnet.LayerNorm(3) if kind == "layer_norm" else cnet.BatchNorm(3)
    config = layer.config()
    assert config["kind"] == kind
    description = cnet.NeuralNetwork(layer).model.to_dict()
    for name, value in [
        ("epsilon", 0), ("epsilon", -1), ("epsilon", float("nan")), ("affine", 1),
        ("n_neurons", 0), ("activation", "tan"), ("kind", "norm"), ("unknown", 1),
    ]:  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=name):
            Model.from_dict({**description, "layers": [{**config, name: value}]})


def test_predictors_keep_their_running_statistics():
    net = deep()
    x, y = problem(net, 20)
    predictor, outputs = net.predictor(), net.predict(x)
    net.predict(x[0])  # makes the predictor for single rows, which follows the network
    net.train(x, y, 0.1, 1, batch_size=5, verbose=False)
    assert_array_equal(predictor(x), outputs)
    assert_array_equal(net.predict(x[0]), net.predict(x)[0])
    assert not np.array_equal(net.predict(x), outputs)
    net.buffers[...] = net.buffers + 0.5
    assert_array_equal(net.predict(x[0]), net.predict(x)[0])


def test_activations_are_those_of_every_layer():
    net = deep()
    x, _ = problem(net, 20)
    expected = x
    for layer, outputs in zip(net.layers, net.activations(x), strict=True):
        alone = cnet.NeuralNetwork(layer.copy(), dtype="float64")
        for name, values in layer.values().items():
            alone.layers[0].values()[name][...] = values
        expected = alone.predict(expected)
        assert_array_equal(outputs, expected)


def test_summary_shows_kinds(capsys):
    net = cnet.NeuralNetwork(
        cnet.Layer(100, 20, "relu"),
        cnet.BatchNorm(20, dropout=0.5),
        cnet.LayerNorm(20, "tanh", affine=False),
    )
    net.summary()
    assert capsys.readouterr().out.splitlines() == [
        "layer    kind       inputs  neurons  activation  parameters",
        "layer_1  Layer         100       20  relu             2,020",
        "layer_2  BatchNorm      20       20  linear              40  dropout=0.5",
        "layer_3  LayerNorm      20       20  tanh                 0",
        "2,060 parameters, float32, 8,240 bytes",
    ]


def test_print_weights_shows_running_statistics(capsys):
    net = cnet.NeuralNetwork(cnet.LayerNorm(2, affine=False), cnet.BatchNorm(2), dtype="float64")
    net.print_weights()
    assert capsys.readouterr().out.splitlines() == [
        "Layer 1 (LayerNorm, 2 neurons):",
        "Layer 2 (BatchNorm, 2 neurons):",
        "Weights:", "[1. 1.]",
        "Biases:", "[0. 0.]",
        "Running mean:", "[0. 0.]",
        "Running variance:", "[1. 1.]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (cnet.LayerNorm(3), "LayerNorm(3)"),
        (cnet.LayerNorm(3, "relu", affine=False), "LayerNorm(3, 'relu', affine=False)"),
        (cnet.BatchNorm(3, name="norm", dropout=0.5), "BatchNorm(3, name='norm', dropout=0.5)"),
        (
            cnet.BatchNorm(3, trainable=False, learning_rate_factor=0.5),
            "BatchNorm(3, learning_rate_factor=0.5, trainable=False)",
        ),
        (cnet.BatchNorm(3, epsilon=0.01, momentum=0.2), "BatchNorm(3, epsilon=0.01, momentum=0.2)"),
    ],
)
def test_repr(layer, text):
    assert repr(layer) == text
    assert repr(eval(text, vars(cnet))) == text
    assert repr(cnet.NeuralNetwork(cnet.LayerNorm(3, "relu"), cnet.BatchNorm(3))) == (
        "NeuralNetwork(3, LayerNorm relu, BatchNorm; 12 parameters, float32)"
    )


# Errors


@kinds
def test_invalid_settings_raise(kind):
    for arguments, words in [
        ({"n_neurons": 0}, ("n_neurons", "0")),
        ({"n_neurons": 3, "epsilon": 0}, ("epsilon", "above 0")),
        ({"n_neurons": 3, "activation": "rleu"}, ("activation", "rleu", "relu")),
        ({"n_neurons": 3, "dropout": 1}, ("dropout", "1")),
        ({"n_neurons": 3, "learning_rate_factor": -1}, ("learning_rate_factor", "-1")),
    ]:
        with refused(*words):
            kind(**arguments)
    with refused("affine", error=TypeError):
        kind(3, affine=1)
    for momentum in (-0.1, 1.1):
        with refused("momentum", momentum):
            cnet.BatchNorm(3, momentum=momentum)


@kinds
def test_attributes_that_cannot_be_set_raise(kind):
    net = cnet.NeuralNetwork(kind(3), kind(3, affine=False))
    layer, plain = net.layers
    for name in ("epsilon", "affine", "activation", "n_neurons", "dropout"):
        with pytest.raises(AttributeError):
            setattr(layer, name, getattr(layer, name))
    with refused("no attribute 'wieghts'", "weights", error=AttributeError):
        layer.wieghts = np.ones(3)
    for name in ("weights", "biases"):
        assert getattr(plain, name) is None
        with refused("affine=False", name, error=AttributeError):
            setattr(plain, name, np.ones(3))
        with refused(name, "(3,)"):
            setattr(layer, name, np.ones(4))
        with refused(name):
            setattr(layer, name, [1, 2, np.inf])
    with pytest.raises(AttributeError, match="once it is part of"):
        _ = kind(3).weights


def test_running_statistics_are_checked_when_they_are_set():
    layer = cnet.NeuralNetwork(cnet.BatchNorm(2)).layers[0]
    with refused("running_mean", "(2,)"):
        layer.running_mean = [1, 2, 3]
    with refused("running_variance must be 0 or more"):
        layer.running_variance = [1, -1]
    with refused("running_variance"):
        layer.running_variance = [1, np.nan]
    assert_array_equal(layer.running_variance, [1, 1])
    with pytest.raises(AttributeError, match="once it is part of"):
        _ = cnet.BatchNorm(2).running_mean


def test_widths_that_do_not_agree_raise():
    with refused("layer 2 must take 4 inputs", "layer 1", "got 5"):
        cnet.NeuralNetwork(cnet.Layer(3, 4), cnet.BatchNorm(5))
    with refused("softmax", "last"):
        cnet.NeuralNetwork(cnet.LayerNorm(3, "softmax"), cnet.Layer(3, 4))
    net = cnet.NeuralNetwork().add_layer(3, input_layer=True)
    with refused("layer 1 must take 3 inputs", "got 4"):
        net.add(cnet.LayerNorm(4))


def test_dropout_of_the_last_layer_raises():
    net = cnet.NeuralNetwork(cnet.Layer(3, 4), cnet.BatchNorm(4, dropout=0.5))
    with refused("dropout must be 0 in the output layer", of=[net]):
        net.train(np.ones((4, 3)), np.ones((4, 4)), batch_size=2, verbose=False)


def test_arrays_of_the_network_as_data_do_not_change_while_it_learns():
    """Targets that are running statistics are copied, as those that are weights are."""
    net = cnet.NeuralNetwork(cnet.BatchNorm(3), dtype="float64", seed=0)
    x = np.random.default_rng(0).normal(5, 2, (2, 3))
    expected = net.copy()
    targets = net.buffers.reshape(2, 3)
    fixed = targets.copy()
    net.train(x, targets, 0.1, 5, batch_size=None, verbose=False)
    expected.train(x, fixed, 0.1, 5, batch_size=None, verbose=False)
    assert_array_equal(net.parameters, expected.parameters)


# Networks without parameters


@pytest.mark.parametrize("optimizer", ["sgd", "adam", cnet.SGD(clip_norm=1.0)])
@pytest.mark.parametrize(
    "layer", [cnet.LayerNorm(3, affine=False), cnet.BatchNorm(3, affine=False)]
)
def test_networks_without_parameters_can_be_trained(layer, optimizer):
    """They learn running statistics, or nothing."""
    net = cnet.NeuralNetwork(layer.copy(), dtype="float64")
    x, y = problem(net, 2000)
    history = net.train(x, y, 0.1, 2, batch_size=None, optimizer=optimizer, verbose=False)
    assert len(history["loss"]) == 2
    assert net.parameters.size == 0
    assert net.loss_and_gradient(x, y)[1].size == 0
    assert net.input_gradient(x, y).shape == x.shape
    net.train_one(x[0], y[0])


# The engine checks what it is handed


def test_the_engine_refuses_batches_without_room_for_their_statistics(monkeypatch):
    """A workspace of smaller blocks raises an error instead of taking the statistics of a block."""
    net = between(cnet.BatchNorm)
    x, y = problem(net, 30)
    made = engine.Network

    def with_small_blocks(table, parameters, buffers, workspace, layout, training):
        capacity, _, threads = layout
        return made(table, parameters, buffers, workspace, (capacity, 8, threads), training)

    monkeypatch.setattr(engine, "Network", with_small_blocks)
    with refused("blocks of 30 rows"):
        net.train(x, y, 0.1, 1, batch_size=None, verbose=False)
