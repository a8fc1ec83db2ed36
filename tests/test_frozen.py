"""Frozen layers and rates per layer: which layers training changes, and how fast."""

import json

import numpy as np
import pytest
from helpers import in_blocks_of, refused
from numpy.testing import assert_allclose, assert_array_equal
from reference_layers import Network, mean_squared_error, problem, spread
from reference_torch import Twin
from test_normalization import CLASSES, OPTIMIZERS, Watching, check_gradients, optimizers

import cnet
from cnet._core import engine
from cnet.model import Model

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def deep(dtype="float64"):
    """Return a network with a layer of every kind below, inside and above a skip connection."""
    net = cnet.NeuralNetwork(
        cnet.Layer(3, 5, "tanh", name="first"),
        cnet.BatchNorm(5, "silu", name="batch_norm"),
        cnet.Residual(
            cnet.LayerNorm(5, name="layer_norm"),
            cnet.Layer(5, 4, "tanh", name="inner", max_norm=0.3, l2=0.1),
            cnet.BatchNorm(4, "tanh", name="norm"),
            cnet.Layer(4, 5, "linear", name="out"),
            name="block",
        ),
        cnet.Layer(5, 2, "sigmoid", name="last"),
        seed=0,
        dtype=dtype,
    )
    return spread(net)


def narrow(dtype="float64"):
    """Return a network that is trained neuron by neuron."""
    net = cnet.NeuralNetwork(
        cnet.Layer(3, 5, "tanh", name="first"),
        cnet.Layer(5, 4, "silu", name="second"),
        cnet.Layer(4, 2, name="last"),
        seed=0,
        dtype=dtype,
    )
    return spread(net)


def layer_of(net, path):
    """Return the layer with this path, such as "block.inner"."""
    layers = net.layers
    for name in path.split("."):
        found = next(layer for layer in layers if layer.name == name)
        layers = found.children
    return found


def arrays(net):
    """Return copies of all arrays by name."""
    named = {**net.model.tensors, **net.model.named_buffers}
    return {name: values.copy() for name, values in named.items()}


def changed(net, before):
    """Return the paths of the layers with an array that has changed."""
    return {
        name.rpartition(".")[0]
        for name, values in arrays(net).items()
        if values.tobytes() != before[name].tobytes()
    }


ALL = {"first", "batch_norm", "block.layer_norm", "block.inner", "block.norm", "block.out", "last"}
PATHS = [*sorted(ALL), "block"]


def within(path):
    """Return the layers with their own arrays within the layer with this path."""
    return {name for name in ALL if name == path or name.startswith(f"{path}.")}


def ways_to_train(net, x, y):
    """Yield a function for every way to train."""
    settings = {"batch_size": 7, "verbose": False}
    yield lambda: net.train(x, y, 0.1, 2, **settings)
    yield lambda: net.train(x, y, 0.1, 2, loss=mean_squared_error, **settings)
    yield lambda: net.train(x, y, 0.1, 2, callbacks=[Watching()], **settings)
    yield lambda: net.train(x, y, 0.1, 2, optimizer=cnet.SGD(clip_norm=0.1), **settings)
    # Weight decay would change weights even without a gradient.
    yield lambda: net.train(x, y, 0.1, 2, optimizer=cnet.AdamW(weight_decay=0.1), **settings)
    yield lambda: net.train(
        x, y, 0.1, 2, optimizer=cnet.SGD(momentum=0.9, weight_decay=0.1), **settings
    )
    yield lambda: net.train(x, y, 0.1, 2, batch_size=None, verbose=False)
    yield lambda: net.train_one(x[0], y[0], 0.1)
    yield lambda: net.train_one(x[0], y[0], 0.1, optimizer="adam")
    yield lambda: net.train_one(x[0], y[0], 0.1, loss=mean_squared_error)
    yield lambda: net.backward_propagate(x[0], y[0], 0.1)


# Frozen layers


@pytest.mark.parametrize("path", PATHS)
def test_a_frozen_layer_does_not_change_and_the_others_do(path):
    net = deep()
    x, y = problem(net, 23)
    # Longer than max_norm allows, so that only freezing keeps it from being applied.
    layer_of(net, "block.inner").weights *= 10
    layer_of(net, path).trainable = False
    for way in ways_to_train(net, x, y):
        before = arrays(net)
        way()
        found = changed(net, before)
        assert not found & within(path)
        assert found == ALL - within(path)


@pytest.mark.parametrize("path", ["first", "block", "last"])
def test_a_frozen_layer_does_not_change_if_a_batch_has_several_blocks(path):
    net = deep()
    # Batch statistics need the whole batch.
    layer_of(net, "batch_norm").trainable = layer_of(net, "block.norm").trainable = False
    in_blocks_of(8, net)
    x, y = problem(net, 50)
    layer_of(net, path).trainable = False
    before = arrays(net)
    net.train(x, y, 0.1, 2, batch_size=30, optimizer="adam", verbose=False)
    frozen = within(path) | {"batch_norm", "block.norm"}
    assert changed(net, before) == ALL - frozen


@pytest.mark.parametrize("frozen", [("first",), ("second",), ("last",), ("first", "last")])
@dtypes
def test_frozen_layers_of_narrow_networks(frozen, dtype):
    net = narrow(dtype)
    x, y = problem(net, 40)
    for path in frozen:
        layer_of(net, path).trainable = False
    slow = Network(net)
    slow.train("sgd", 0.1, x, y, batch_size=16, epochs=2)
    before = arrays(net)
    net.train(x, y, 0.1, 2, batch_size=16, shuffle=False, verbose=False)
    assert changed(net, before) == {"first", "second", "last"} - set(frozen)
    tolerance = {"float32": 1e-4, "float64": 1e-10}[dtype]
    assert_allclose(net.parameters, slow.parameters, rtol=tolerance, atol=tolerance)


def check_training(net, name, settings):
    """Check that a training of three epochs agrees with the reference."""
    x, y = problem(net, 44)
    slow = Network(net)
    losses = slow.train(name, 0.02, x, y, batch_size=11, epochs=3, **settings)
    history = net.train(
        x, y, 0.02, 3, batch_size=11, optimizer=CLASSES[name](**settings), shuffle=False,
        verbose=False,
    )  # fmt: skip
    assert_allclose(history["loss"], losses, rtol=1e-6)
    assert_allclose(net.parameters, slow.parameters, rtol=1e-6, atol=1e-7)
    assert_allclose(net.buffers, slow.buffers, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "frozen", [("first",), ("first", "batch_norm"), ("block",), ("block.inner", "last")]
)
@pytest.mark.parametrize("block", [None, 4])
@optimizers
def test_training_agrees_with_the_reference(frozen, block, name, settings):
    net = deep_without_penalties()
    for path in frozen:
        layer_of(net, path).trainable = False
    if block:
        in_blocks_of(block, net)
    check_training(net, name, settings)


def deep_without_penalties():
    """Return the network that the references can compute, which have no penalties and no max_norm."""
    net = cnet.NeuralNetwork(
        cnet.Layer(3, 5, "tanh", name="first"),
        cnet.BatchNorm(5, "silu", name="batch_norm"),
        cnet.Residual(
            cnet.LayerNorm(5, "tanh", name="layer_norm"),
            cnet.Layer(5, 4, "tanh", name="inner"),
            cnet.BatchNorm(4, "tanh", name="norm"),
            cnet.Layer(4, 5, "linear", name="out"),
            name="block",
        ),
        cnet.Layer(5, 2, "sigmoid", name="last"),
        seed=0,
        dtype="float64",
    )
    return spread(net)


@pytest.mark.parametrize(
    "frozen", [("first",), ("first", "batch_norm"), ("block",), ("block.inner", "last")]
)
@optimizers
def test_training_agrees_with_pytorch(frozen, name, settings):
    torch = pytest.importorskip("torch")
    net = deep_without_penalties()
    for path in frozen:
        layer_of(net, path).trainable = False
    x, y = problem(net, 44)
    twin = Twin(torch, net)
    twin.train(name, 0.02, x, y, batch_size=11, epochs=3, **settings)
    net.train(
        x, y, 0.02, 3, batch_size=11, optimizer=CLASSES[name](**settings), shuffle=False,
        verbose=False,
    )  # fmt: skip
    twin.compare(rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("name", "settings"), OPTIMIZERS)
def test_moments_of_frozen_layers_do_not_change(name, settings):
    net = deep()
    x, y = problem(net, 20)
    layer_of(net, "block").trainable = False
    net.train(x, y, 0.01, 3, batch_size=5, optimizer=CLASSES[name](**settings), verbose=False)
    moments = net.trainer.state.moments
    start = sum(layer.n_parameters for layer in net.layers[:2])
    stop = start + net.layers[2].n_parameters
    # Rprop's second array has the sizes of the steps, which start at the learning rate.
    initial = [0.0, 0.01] if name == "rprop" else [0.0] * len(moments)
    for array, value in zip(moments, initial, strict=True):
        assert (array[start:stop] == value).all()
        assert (array[:start] != value).any()


def test_everything_frozen_trains_nothing():
    for net in (deep(), narrow()):
        x, y = problem(net, 20)
        for layer in net.layers:
            layer.trainable = False
        for way in ways_to_train(net, x, y):
            before = arrays(net)
            way()
            assert changed(net, before) == set()
        net.train(x, y, 0.1, 3, batch_size=1, loss="squared_error", verbose=False)
        expected = net.evaluate(x, y)["loss"]
        assert net.history["loss"] == pytest.approx([expected] * 3, rel=1e-12)
        in_blocks_of(8, net)
        before = arrays(net)
        net.train(x, y, 0.1, 3, batch_size=None, optimizer=cnet.Adam(clip_norm=1.0), verbose=False)
        assert changed(net, before) == set()


def test_penalties_of_frozen_layers_count_in_the_loss():
    net = deep()
    x, y = problem(net, 20)
    for layer in net.layers:
        layer.trainable = False
    w = layer_of(net, "block.inner").weights
    plain = np.mean(np.sum((net.predict(x) - y) ** 2, axis=1)) / 2
    history = net.train(x, y, 0.1, 1, batch_size=None, verbose=False)
    assert history["loss"][0] == pytest.approx(plain + 0.05 * (w**2).sum(), rel=1e-12)


def test_evaluation_has_the_gradients_of_frozen_layers():
    """loss_and_gradient and input_gradient do not depend on what is trained."""
    net = deep()
    x, y = problem(net, 6)
    expected = net.loss_and_gradient(x, y)[1], net.input_gradient(x, y)
    for layer in net.layers:
        layer.trainable = False
        layer.learning_rate_factor = 0.5
    assert_array_equal(net.loss_and_gradient(x, y)[1], expected[0])
    assert_array_equal(net.input_gradient(x, y), expected[1])
    assert (expected[0] != 0).any()
    check_gradients(net, x, y)


def test_a_frozen_batch_norm_uses_running_statistics():
    """Rows then do not depend on each other, and batches are split into blocks as for other layers."""
    net = deep_without_penalties()
    for path in ("batch_norm", "block.norm"):
        layer_of(net, path).trainable = False
    x, y = problem(net, 30)
    expected = net.parameters - 0.1 * net.loss_and_gradient(x, y)[1]
    frozen = np.concatenate([np.zeros(20), np.ones(10), np.zeros(net.parameters.size - 30)]) == 1
    net.train(x, y, 0.1, 1, batch_size=None, verbose=False)
    inner = layer_of(net, "block.norm")
    expected[frozen] = net.parameters[frozen]
    start = np.flatnonzero(np.isclose(net.parameters, inner.weights[0], rtol=0, atol=0))[0]
    expected[start : start + 8] = net.parameters[start : start + 8]
    assert_allclose(net.parameters, expected, rtol=1e-10)


# Unfreezing


@pytest.mark.parametrize("make", [deep, narrow])
def test_unfreezing_takes_effect_at_the_next_call_of_train(make):
    net = make()
    x, y = problem(net, 20)
    settings = {"batch_size": 5, "verbose": False}
    for trainable in (True, False, True, True, False):
        net.layers[0].trainable = trainable
        before = arrays(net)
        net.train(x, y, 0.1, 1, **settings)
        assert ("first" in changed(net, before)) is trainable


@pytest.mark.parametrize("make", [deep, narrow])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_unfreezing_takes_effect_at_the_next_call_of_train_one(make, optimizer):
    net = make()
    x, y = problem(net, 1)
    optimizer = CLASSES[optimizer]()
    # Two calls each, because the second takes the fast path.
    for trainable in (True, False, True, False):
        net.layers[0].trainable = trainable
        for _ in range(2):
            before = arrays(net)
            net.train_one(x[0], y[0], 0.1, optimizer=optimizer)
            assert ("first" in changed(net, before)) is trainable


def test_layers_inside_take_effect_at_the_next_call_of_train_one():
    net = deep()
    x, y = problem(net, 1)
    inner = layer_of(net, "block.inner")
    for layer in (inner, layer_of(net, "block")):
        for trainable in (True, False, True):
            layer.trainable = trainable
            before = arrays(net)
            net.train_one(x[0], y[0], 0.1)
            assert ("block.inner" in changed(net, before)) is trainable
    inner.learning_rate_factor = 0.0
    before = arrays(net)
    net.train_one(x[0], y[0], 0.1)
    assert inner.weights.tobytes() == before["block.inner.weights"].tobytes()


def test_freezing_during_training_takes_effect_at_the_next_call():
    net = deep()
    x, y = problem(net, 20)
    expected = net.copy()

    def freeze(network, epoch, logs):
        network.layers[0].trainable = False

    net.train(x, y, 0.1, 3, batch_size=5, callbacks=[freeze], verbose=False)
    expected.train(x, y, 0.1, 3, batch_size=5, verbose=False)
    assert_array_equal(net.parameters, expected.parameters)
    before = arrays(net)
    net.train(x, y, 0.1, 1, batch_size=5, verbose=False)
    assert "first" not in changed(net, before)


# Frozen layers at the bottom are skipped


def touched(monkeypatch, net, x, y, **settings):
    """Return how many elements of its workspace one step of the engine writes."""
    workspaces = []
    made = engine.Network

    def recorded(table, parameters, buffers, workspace, layout, training):
        if training:
            workspace[...] = np.nan
            workspaces.append(workspace)
        return made(table, parameters, buffers, workspace, layout, training)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "Network", recorded)
        net.train(x, y, 0.1, 1, batch_size=None, verbose=False, **settings)
    (workspace,) = workspaces
    return int(np.count_nonzero(~np.isnan(workspace)))


def test_the_backward_pass_ends_above_frozen_layers_at_the_bottom(monkeypatch):
    """The engine writes no deltas of the frozen layers, which are wide, into its workspace.

    Deltas of the layers above are 4 and 2 wide, those of the frozen ones 40.
    """
    n, wide = 64, 40

    def make():
        return cnet.NeuralNetwork(
            cnet.Layer(3, wide, "tanh"),
            cnet.Residual(cnet.Layer(wide, wide, "tanh"), cnet.LayerNorm(wide)),
            cnet.Layer(wide, 4, "tanh"),
            cnet.Layer(4, 2),
            seed=0,
            dtype="float64",
        )

    x, y = problem(make(), n)
    counts = []
    for n_frozen in range(4):
        net = make()
        for layer in net.layers[:n_frozen]:
            layer.trainable = False
        counts.append(touched(monkeypatch, net, x, y))
    all_trained, first_frozen, both_frozen, three_frozen = counts
    # Two buffers of deltas, and the delta that the skip connection keeps.
    assert all_trained - both_frozen >= 3 * n * (wide - 4)
    assert all_trained >= first_frozen > both_frozen >= three_frozen
    # The layers that are trained get the same gradient.
    trained, frozen = make(), make()
    frozen.layers[0].trainable = frozen.layers[1].trainable = False
    for net in (trained, frozen):
        net.train(x, y, 0.1, 1, batch_size=None, verbose=False)
    for mine, other in zip(trained.layers[2:], frozen.layers[2:], strict=True):
        assert_array_equal(mine.weights, other.weights)


def test_a_frozen_layer_has_no_gradient(monkeypatch):
    """The stored gradient stays 0 for parameters that are not trained."""
    gradients = []
    made = engine.Run

    def recorded(*arguments):
        gradients.append(arguments[6][0])
        return made(*arguments)

    monkeypatch.setattr(engine, "Run", recorded)
    net = deep()
    x, y = problem(net, 20)
    layer_of(net, "block").trainable = False
    # Clipping by the norm requires the whole gradient to be stored.
    net.train(x, y, 0.1, 1, batch_size=5, optimizer=cnet.SGD(clip_norm=1e9), verbose=False)
    (gradient,) = gradients
    start = sum(layer.n_parameters for layer in net.layers[:2])
    stop = start + net.layers[2].n_parameters
    assert (gradient[start:stop] == 0).all()
    assert np.count_nonzero(gradient[:start]) > start / 2
    assert np.count_nonzero(gradient[stop:]) > 0


# Rates per layer


def with_rates(net):
    """Give layers and biases different rates, including 0."""
    first, batch_norm, block, last = net.layers
    first.learning_rate_factor = 0.1
    batch_norm.learning_rate_factor, batch_norm.bias_learning_rate_factor = 2.0, 0.5
    block.learning_rate_factor = 0.5
    block.layers[1].learning_rate_factor = 4.0
    block.layers[3].bias_learning_rate_factor = 0.0
    last.bias_learning_rate_factor = 3.0
    return net


@optimizers
@pytest.mark.parametrize("block", [None, 4])
def test_rates_agree_with_the_reference(name, settings, block):
    net = with_rates(deep_without_penalties())
    if block:
        in_blocks_of(block, net)
    check_training(net, name, settings)


@optimizers
def test_rates_agree_with_pytorch(name, settings):
    torch = pytest.importorskip("torch")
    net = with_rates(deep_without_penalties())
    x, y = problem(net, 44)
    twin = Twin(torch, net)
    twin.train(name, 0.02, x, y, batch_size=11, epochs=3, **settings)
    net.train(
        x, y, 0.02, 3, batch_size=11, optimizer=CLASSES[name](**settings), shuffle=False,
        verbose=False,
    )  # fmt: skip
    twin.compare(rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rprop"])
@dtypes
def test_rates_of_single_rows_and_of_narrow_networks(optimizer, dtype):
    def make():
        net = narrow(dtype)
        for layer, factor in zip(net.layers, (0.5, 2.0, 0.0), strict=True):
            layer.learning_rate_factor = factor
        net.layers[1].bias_learning_rate_factor = 0.25
        return net

    tolerance = {"float32": 1e-3, "float64": 1e-8}[dtype]
    net = make()
    x, y = problem(net, 33)
    slow = Network(net)
    slow.train(optimizer, 0.05, x, y, batch_size=11, epochs=2)
    net.train(x, y, 0.05, 2, batch_size=11, optimizer=optimizer, shuffle=False, verbose=False)
    assert_allclose(net.parameters, slow.parameters, rtol=tolerance, atol=tolerance)
    net = make()
    slow = Network(net)
    slow.train(optimizer, 0.05, x[:5], y[:5], batch_size=1)
    for row, target in zip(x[:5], y[:5], strict=True):
        net.train_one(row, target, 0.05, optimizer=optimizer)
    assert_allclose(net.parameters, slow.parameters, rtol=tolerance, atol=tolerance)


def test_results_with_rates_do_not_depend_on_the_number_of_threads():
    found = []
    for threads in (1, 2, 3):
        net = cnet.NeuralNetwork(
            cnet.Layer(40, 300, "relu", learning_rate_factor=0.5, bias_learning_rate_factor=2.0),
            cnet.Layer(300, 300, "tanh", trainable=False),
            cnet.Layer(300, 2),
            seed=0,
        )
        x, y = problem(net, 150)
        with cnet.num_threads(threads):
            optimizer = cnet.Adam(clip_norm=1.0)
            net.train(x, y, 0.05, 2, batch_size=64, optimizer=optimizer, verbose=False)
            net.train(x, y, 0.05, 2, batch_size=64, optimizer="adam", verbose=False)
        found.append(net.parameters)
    assert_array_equal(found[1], found[0])
    assert_array_equal(found[2], found[0])


def test_a_factor_of_1_is_the_same_as_none():
    nets = [deep(), deep()]
    for layer in nets[1].layers:
        layer.learning_rate_factor = 1.0
        layer.bias_learning_rate_factor = 1.0
    x, y = problem(nets[0], 20)
    for net in nets:
        net.train(x, y, 0.1, 2, batch_size=5, optimizer="adam", verbose=False)
    assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_factors_scale_the_step_of_gradient_descent():
    plain, scaled = narrow(), narrow()
    x, y = problem(plain, 20)
    scaled.layers[1].learning_rate_factor = 0.25
    scaled.layers[1].bias_learning_rate_factor = 3.0
    steps = []
    for net in (plain, scaled):
        before = arrays(net)
        net.train(x, y, 0.1, 1, batch_size=None, verbose=False)
        steps.append({name: values - before[name] for name, values in arrays(net).items()})
    factors = {"second.weights": 0.25, "second.biases": 3.0}
    for name, step in steps[0].items():
        assert_allclose(steps[1][name], factors.get(name, 1.0) * step, rtol=1e-9, atol=1e-15)


def test_factors_take_effect_at_the_next_call():
    net = narrow()
    x, y = problem(net, 20)
    for factor in (1.0, 0.5, 2.0):
        net.layers[0].learning_rate_factor = factor
        slow = Network(net)
        slow.train("sgd", 0.1, x, y, batch_size=20)
        net.train(x, y, 0.1, 1, batch_size=None, verbose=False)
        assert_allclose(net.parameters, slow.parameters, rtol=1e-10, atol=1e-14)
        slow = Network(net)
        slow.train("sgd", 0.1, x[:1], y[:1], batch_size=1)
        net.train_one(x[0], y[0], 0.1)
        assert_allclose(net.parameters, slow.parameters, rtol=1e-10, atol=1e-14)


def test_first_steps_of_rprop_have_the_factors():
    net = narrow()
    x, y = problem(net, 20)
    net.layers[0].learning_rate_factor = 0.5
    net.layers[0].bias_learning_rate_factor = 0.25
    net.layers[2].learning_rate_factor = 3.0
    before = arrays(net)
    net.train(x, y, 0.01, 1, batch_size=None, optimizer="rprop", verbose=False)
    sizes = {
        "first.weights": 0.005,
        "first.biases": 0.0025,
        "last.weights": 0.03,
        "last.biases": 0.03,
    }
    for name, values in arrays(net).items():
        step = abs(values - before[name])
        assert_allclose(step, np.full(values.shape, sizes.get(name, 0.01)), rtol=1e-9)


@pytest.mark.parametrize("way", ["divergence", "exception", "train_one"])
def test_steps_of_rprop_restart_with_the_factors(way):
    net = narrow()
    x, y = problem(net, 20)
    net.layers[0].learning_rate_factor = 0.5
    optimizer = cnet.Rprop()
    net.train(x, y, 0.01, 3, batch_size=None, optimizer=optimizer, verbose=False)

    def diverges(y_true, y_pred):
        return np.inf, np.zeros_like(y_pred)

    def fails(y_true, y_pred):
        raise OSError("the disk is full")

    settings = {"optimizer": optimizer, "loss": fails if way == "exception" else diverges}
    if way == "train_one":
        with pytest.raises(cnet.DivergenceError):
            net.train_one(x[0], y[0], 0.01, **settings)
    else:
        with pytest.raises((cnet.DivergenceError, OSError)):
            net.train(x, y, 0.01, 1, batch_size=None, verbose=False, **settings)
    sizes = net.trainer.state.moments[1]
    assert_array_equal(sizes, [0.005] * 20 + [0.01] * (sizes.size - 20))


def test_a_factor_of_0_keeps_weights_but_not_running_statistics():
    net = deep()
    x, y = problem(net, 20)
    for layer in net.layers:
        layer.learning_rate_factor = 0.0
    before = arrays(net)
    net.train(x, y, 0.1, 1, batch_size=5, verbose=False)
    after = arrays(net)
    names = {name for name in after if after[name].tobytes() != before[name].tobytes()}
    # max_norm is also applied.
    assert names == {
        *("batch_norm.running_mean", "batch_norm.running_variance"),
        *("block.norm.running_mean", "block.norm.running_variance"),
        "block.inner.weights",
    }


# Settings


@pytest.mark.parametrize(
    "layer",
    [cnet.Layer(3, 3), cnet.LayerNorm(3), cnet.BatchNorm(3), cnet.Residual(cnet.Layer(3, 3))],
)
def test_setters_check_their_values(layer):
    layer = layer.copy()
    net = cnet.NeuralNetwork(layer)
    for name, value, error in [
        ("trainable", 1, TypeError),
        ("trainable", None, TypeError),
        ("trainable", "no", TypeError),
        ("learning_rate_factor", -0.1, ValueError),
        ("learning_rate_factor", float("nan"), ValueError),
        ("learning_rate_factor", float("inf"), ValueError),
        ("learning_rate_factor", None, TypeError),
        ("learning_rate_factor", True, TypeError),
        ("bias_learning_rate_factor", -0.1, ValueError),
        ("bias_learning_rate_factor", "0.1", TypeError),
    ]:
        with refused(name, error=error, of=[net]):
            setattr(layer, name, value)
        with refused(name, error=error):
            type(layer)(*arguments_of(layer), **{name: value})
    layer.trainable = False
    layer.learning_rate_factor = 2
    layer.bias_learning_rate_factor = 0.5
    assert (layer.trainable, layer.learning_rate_factor, layer.bias_learning_rate_factor) == (
        False,
        2.0,
        0.5,
    )
    layer.bias_learning_rate_factor = None
    assert layer.bias_learning_rate_factor is None
    with refused("no attribute 'trainabel'", "trainable", error=AttributeError):
        layer.trainabel = False


def arguments_of(layer):
    if isinstance(layer, cnet.Layer):
        return (3, 3)
    return (cnet.Layer(3, 3),) if isinstance(layer, cnet.Residual) else (3,)


def test_settings_are_arguments_of_the_methods_that_add_layers():
    net = cnet.NeuralNetwork().add_layer(3, input_layer=True)
    net.add_layer(4, trainable=False, learning_rate_factor=0.5, bias_learning_rate_factor=2.0)
    net.add_layer_norm(trainable=False).add_batch_norm(learning_rate_factor=0.25)
    first, second, third = net.layers
    assert (first.trainable, first.learning_rate_factor, first.bias_learning_rate_factor) == (
        False,
        0.5,
        2.0,
    )
    assert not second.trainable
    assert third.learning_rate_factor == 0.25
    assert third.trainable


def test_settings_are_copied_pickled_and_json():
    net = with_rates(deep())
    net.layers[0].trainable = False
    layer_of(net, "block.norm").trainable = False
    configs = [layer.config() for layer in net.layers]
    assert [layer.config() for layer in net.copy().layers] == configs
    description = net.model.to_dict()
    twin = Model.from_dict({**description, "layers": json.loads(json.dumps(description["layers"]))})
    assert [layer.config() for layer in twin.layers] == configs
    x, y = problem(net, 20)
    copied = net.copy()
    before = arrays(copied)
    copied.train(x, y, 0.1, 1, batch_size=5, verbose=False)
    assert changed(copied, before) == ALL - {"first", "block.norm"}
    # The copy has its own settings.
    copied.layers[0].trainable = True
    assert not net.layers[0].trainable


def test_freezing_keeps_the_state_of_the_optimizer():
    net = narrow()
    x, y = problem(net, 20)
    net.train(x, y, 0.01, 2, batch_size=5, optimizer="adam", verbose=False)
    moments = net.trainer.state.moments.copy()
    net.layers[0].trainable = False
    net.train(x, y, 0.01, 2, batch_size=5, verbose=False)
    assert_array_equal(net.trainer.state.moments[:, :20], moments[:, :20])
    assert (net.trainer.state.moments[:, 20:] != moments[:, 20:]).all()


def test_summary_shows_frozen_layers_and_rates(capsys):
    net = cnet.NeuralNetwork(
        cnet.Layer(3, 4, "relu", trainable=False, l2=0.5),
        cnet.Residual(cnet.Layer(4, 4, "tanh"), cnet.LayerNorm(4), trainable=False),
        cnet.Layer(4, 1, learning_rate_factor=0.5, bias_learning_rate_factor=2),
    )
    net.summary()
    assert capsys.readouterr().out.splitlines() == [
        "layer      kind       inputs  neurons  activation  parameters",
        "layer_1    Layer           3        4  relu                16  l2=0.5  frozen",
        "layer_2    Residual        4        4  linear              28  frozen",
        "  layer_1  Layer           4        4  tanh                20  frozen",
        "  layer_2  LayerNorm       4        4  linear               8  frozen",
        "layer_3    Layer           4        1  sigmoid              5"
        "  learning_rate_factor=0.5  bias_learning_rate_factor=2",
        "49 parameters, 44 frozen, float32, 196 bytes",
    ]


def test_repr():
    layer = cnet.Layer(
        3, 4, "relu", name="a", l2=0.5, trainable=False, learning_rate_factor=0.5,
        bias_learning_rate_factor=2,
    )  # fmt: skip
    text = (
        "Layer(3, 4, 'relu', name='a', l2=0.5, learning_rate_factor=0.5, "
        "bias_learning_rate_factor=2, trainable=False)"
    )
    assert repr(layer) == text
    assert repr(eval(text, vars(cnet))) == text
