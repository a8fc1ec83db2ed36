"""The training loop above the engine: batches, order, history, and everything that ends it early."""

import pickle
import signal
import threading
import time
from contextlib import suppress
from itertools import chain, permutations

import numpy as np
import pytest
from helpers import (
    AtOnce,
    Interruption,
    InterruptTraining,
    Reader,
    everything,
    in_blocks_of,
    interrupt_after,
    network,
    refused,
    slowness,
    unchanged,
    without_history,
)
from reference import SGD, Network, PlainPythonNetwork, squared_error

import cnet
from cnet import _epochs, _plan, model
from cnet._core import engine

OPTIMIZERS = ["sgd", "adam", "rmsprop", "rprop", cnet.SGD(momentum=0.9, nesterov=True)]
rng = np.random.default_rng(11)
X = rng.uniform(-1, 1, (10, 3))
Y = rng.uniform(0, 1, (10, 2))


def train(net, epochs=5, x=X, y=Y, learning_rate=0.3, **settings):
    return net.train(x, y, learning_rate, epochs, **{"verbose": False, **settings})


def do_nothing(net, epoch, logs):
    return None


def half_squared_error(y_true, y_pred):
    """Compute squared_error in NumPy, with the mean over rows."""
    d = y_pred - y_true
    return np.sum(d * d) / 2 / len(d), d / len(d)


class BrokenError(Exception):
    """Raised by a user's loss or signal handler."""


class Recorder:
    """A loss that records the targets of every batch."""

    def __init__(self):
        self.batches = []

    def __call__(self, y_true, y_pred):
        self.batches.append(y_true[:, 0].astype(int).tolist())
        return 0.0, np.zeros_like(y_pred)


# Batches and their order


def batches_of(n, batch_size, epochs=1, shuffle=False):
    """Return the row numbers of every batch, epoch by epoch."""
    loss = Recorder()
    net = network(1, 1, output="linear")
    x = np.arange(float(n)).reshape(n, 1)
    train(net, epochs, x, x, loss=loss, batch_size=batch_size, shuffle=shuffle)
    per_epoch = len(loss.batches) // epochs
    return [loss.batches[i * per_epoch : (i + 1) * per_epoch] for i in range(epochs)]


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [
        (1, [1] * 10),
        (3, [3, 3, 3, 1]),
        (5, [5, 5]),
        (9, [9, 1]),
        (10, [10]),
        (11, [10]),
        (2**62, [10]),
        (None, [10]),
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_sizes_of_batches(batch_size, sizes, shuffle):
    for batches in batches_of(10, batch_size, 3, shuffle):
        assert [len(batch) for batch in batches] == sizes


def test_without_shuffling_rows_keep_their_order():
    assert batches_of(7, 3, 2) == [[[0, 1, 2], [3, 4, 5], [6]]] * 2


@pytest.mark.parametrize("batch_size", [1, 4, None])
def test_shuffling_takes_every_row_once_an_epoch(batch_size):
    epochs = [
        list(chain.from_iterable(batches))
        for batches in batches_of(20, batch_size, 4, shuffle=True)
    ]
    assert all(sorted(rows) == list(range(20)) for rows in epochs)
    # Each epoch has a different order.
    assert len({tuple(rows) for rows in [range(20), *epochs]}) == 5


def test_a_batch_is_one_step():
    for batch_size, steps in [(1, 10), (3, 4), (10, 1), (None, 1)]:
        net = network(3, 2)
        train(net, 2, batch_size=batch_size, optimizer="adam")
        assert net.trainer.state.steps[0] == 2 * steps


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_batches_against_numpy(batch_size, reduction):
    net = network(3, 4, 2)
    reference = Network.like(net)
    losses = list(
        reference.train(
            SGD(0.3), X, Y, squared_error, batch_size=batch_size, epochs=3, reduction=reduction
        )
    )
    history = train(net, 3, batch_size=batch_size, reduction=reduction, shuffle=False)
    np.testing.assert_allclose(net.parameters, reference.parameters, rtol=1e-10)
    if reduction == "mean":
        np.testing.assert_allclose(history["loss"], losses, rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [None, 600])
@pytest.mark.parametrize("block", [512, 37, 5000])
def test_batches_larger_than_a_block(dtype, batch_size, block):
    data = np.random.default_rng(0)
    x, y = data.random((1101, 3)), data.random((1101, 2))
    net = network(3, 8, 2, dtype=dtype)
    reference = Network.like(net)
    in_blocks_of(block, net)
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-11}
    expected, gradient, _ = reference.loss_and_gradients(x, y, squared_error)
    loss, found = net.loss_and_gradient(x, y)
    np.testing.assert_allclose(loss, expected, **tolerance)
    np.testing.assert_allclose(found, gradient, **tolerance)
    losses = list(
        reference.train(SGD(0.3), x, y, squared_error, batch_size=batch_size or 1101, epochs=4)
    )
    history = train(net, 4, x, y, batch_size=batch_size, shuffle=False)
    np.testing.assert_allclose(history["loss"], losses, **tolerance)
    np.testing.assert_allclose(net.parameters, reference.parameters, **tolerance)


@pytest.mark.parametrize(
    "loss", ["squared_error", half_squared_error], ids=["compiled", "function"]
)
@pytest.mark.parametrize("output", ["linear", "sigmoid", "softmax", "gelu"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_scratch_memory_is_initialised_before_use(loss, output, optimizer, monkeypatch):
    settings = {"loss": loss, "optimizer": optimizer, "learning_rate": 0.01, "batch_size": 4}
    expected = network(3, 5, 4, 2, hidden=output if output == "gelu" else "tanh", output=output)
    net = expected.copy()
    train(expected, **settings)
    outputs, gradient = expected.predict(X), expected.input_gradient(X, Y, loss=loss)
    monkeypatch.setattr(_plan, "aligned_empty", lambda size, dtype: np.full(size, np.nan, dtype))
    train(net, **settings)
    np.testing.assert_array_equal(net.parameters, expected.parameters)
    np.testing.assert_array_equal(net.predict(X), outputs)
    np.testing.assert_array_equal(net.input_gradient(X, Y, loss=loss), gradient)


@pytest.mark.parametrize("sizes", [(3, 2), (3, 50, 40, 2), (200, 3, 90, 2)], ids=str)
@pytest.mark.parametrize("n", [1, 700])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_write_is_out_of_bounds(sizes, n, dtype, monkeypatch):
    # 37 marks memory that nothing else may write to.
    borders = []

    def bordered(size, dtype):
        array = np.full(size + 200_000, 37, dtype)
        borders.append(array[size:])
        return array[:size]

    for module in (model, _plan):
        monkeypatch.setattr(module, "aligned_empty", bordered)
    data = np.random.default_rng(0)
    x, y = data.random((n, sizes[0])), data.random((n, 2))
    net = network(*sizes, dtype=dtype)
    for loss in ("squared_error", half_squared_error):
        for batch_size in (1, 7, None):
            train(net, 1, x, y, loss=loss, batch_size=batch_size, optimizer="adam")
        net.evaluate(x, y, loss=loss)
        net.loss_and_gradient(x, y, loss=loss)
        net.input_gradient(x, y, loss=loss)
    net.activations(x)
    net.predict(x)
    assert len(borders) > 10
    assert all((border == 37).all() for border in borders)


# Sample weights


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "binary_cross_entropy"])
def test_a_weight_of_two_equals_a_repeated_row(loss):
    weighted, doubled = network(3, 4, 2), network(3, 4, 2)
    settings = {"batch_size": None, "reduction": "sum", "loss": loss, "shuffle": False}
    weights = np.ones(10)
    weights[[2, 5]] = 2
    first = train(weighted, sample_weight=weights, **settings)
    rows = [*range(10), 2, 5]
    second = train(doubled, x=X[rows], y=Y[rows], **settings)
    np.testing.assert_allclose(weighted.parameters, doubled.parameters, rtol=1e-10)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-10)


@pytest.mark.parametrize("batch_size", [1, 5, None])
def test_a_weight_of_zero_equals_a_removed_row(batch_size):
    weighted, shorter = network(3, 4, 2), network(3, 4, 2)
    settings = {"batch_size": batch_size, "reduction": "sum", "shuffle": False}
    weights = np.ones(10)
    weights[5:] = 0
    first = train(weighted, sample_weight=weights, **settings)
    second = train(shorter, x=X[:5], y=Y[:5], **settings)
    np.testing.assert_allclose(weighted.parameters, shorter.parameters, rtol=1e-12)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-12)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("y", [Y, np.arange(10) % 2], ids=["targets", "labels"])
def test_weights_stay_with_their_rows(shuffle, y):
    # Scaling all weights equals scaling the learning rate, whatever the order of rows.
    output = "sigmoid" if y is Y else "softmax"
    weights = np.linspace(0, 1, 10)
    nets = [network(3, 4, 2, output=output) for _ in range(3)]
    settings = {"batch_size": 3, "shuffle": shuffle, "y": y}
    train(nets[0], sample_weight=weights, learning_rate=0.5, **settings)
    train(nets[1], sample_weight=weights / 4, learning_rate=2.0, **settings)
    train(nets[2], sample_weight=weights[::-1], learning_rate=0.5, **settings)
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-12)
    assert not np.allclose(nets[0].parameters, nets[2].parameters, rtol=1e-4)


def test_the_mean_is_over_the_number_of_rows():
    net = network(3, 4, 2)
    weights = np.linspace(0, 3, 10)
    expected = (weights * np.sum((net.predict(X) - Y) ** 2, axis=1) / 2).sum() / 10
    assert train(net, 1, batch_size=None, sample_weight=weights)["loss"] == [
        pytest.approx(expected, rel=1e-12)
    ]


# Resuming


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_five_and_five_epochs_equal_ten(optimizer, dtype):
    halves, whole = network(3, 4, 2, dtype=dtype), network(3, 4, 2, dtype=dtype)
    settings = {"learning_rate": 0.01, "batch_size": 3}
    first = train(halves, 5, optimizer=optimizer, **settings)
    # The default is the previous optimizer.
    second = train(halves, 5, **settings)
    both = train(whole, 10, optimizer=optimizer, **settings)
    assert first["loss"] + second["loss"] == both["loss"]
    assert without_history(halves) == without_history(whole)


def test_another_learning_rate_keeps_the_optimizers_state():
    net = network(3, 4, 2)
    train(net, 2, optimizer="adam", learning_rate=0.1)
    train(net, 1, optimizer="adam", learning_rate=0.01)
    train(net, 1, optimizer=cnet.Adam(0.001), learning_rate=None)
    assert net.trainer.state.steps[0] == 40


def test_another_optimizer_resets_the_state():
    net = network(3, 4, 2)
    train(net, 2, optimizer="adam")
    train(net, 1, optimizer=cnet.Adam(beta_1=0.8))
    assert net.trainer.state.steps[0] == 10
    fresh = network(3, 4, 2)
    fresh.parameters[:] = net.parameters
    fresh.trainer.rng = pickle.loads(pickle.dumps(net.trainer.rng))
    for other in (net, fresh):
        train(other, 1, optimizer="rmsprop", learning_rate=0.01)
    assert everything(net) == everything(fresh)


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 1e-3),
        ({"optimizer": "adam"}, 1e-3),
        ({"optimizer": "rmsprop"}, 1e-2),
        ({"optimizer": cnet.SGD(0.125)}, 0.125),
        ({"optimizer": "sgd(0.125)"}, 0.125),
        ({"optimizer": cnet.SGD(0.125), "learning_rate": 0.25}, 0.25),
    ],
    ids=str,
)
def test_default_learning_rates(settings, rate):
    by_default, given = network(3, 4, 2), network(3, 4, 2)
    train(by_default, **{"learning_rate": None, **settings})
    train(given, learning_rate=rate, optimizer=settings.get("optimizer"))
    np.testing.assert_array_equal(by_default.parameters, given.parameters)


def test_the_optimizer_object_last_given_is_the_default():
    net, explicit = network(3, 4, 2), network(3, 4, 2)
    for rate in (0.001, 0.1):
        for other in (net, explicit):
            train(other, 2, optimizer=cnet.Adam(rate), learning_rate=None)
    train(net, 2, learning_rate=None)
    train(explicit, 2, optimizer=cnet.Adam(0.1), learning_rate=None)
    np.testing.assert_array_equal(net.parameters, explicit.parameters)


def test_a_learning_rate_of_zero_learns_nothing():
    net = network(3, 4, 2)
    before = net.parameters.copy()
    train(net, learning_rate=0)
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("callback", [do_nothing, AtOnce(1), AtOnce(3), AtOnce(7)])
def test_results_do_not_depend_on_grouping_epochs_into_calls(optimizer, callback, monkeypatch):
    # By default all 20 epochs are one call; with a callback each epoch is a call.
    grouped, other = network(3, 4, 2), network(3, 4, 2)
    run = _epochs.Epochs.run
    calls = []

    def counted(epochs, count, *callbacks):
        calls.append(count)
        return run(epochs, count, *callbacks)

    monkeypatch.setattr(_epochs.Epochs, "run", counted)
    train(grouped, 20, batch_size=4, optimizer=optimizer, learning_rate=0.01)
    assert calls == [20]
    calls.clear()
    train(other, 20, batch_size=4, optimizer=optimizer, learning_rate=0.01, callbacks=callback)
    assert sum(calls) == 20
    assert len(calls) > 2
    assert everything(grouped) == everything(other)


# Printed output


def test_total_error_is_computed_before_each_update(capsys):
    net = network(3, 4, 2, hidden="sigmoid")
    plain = PlainPythonNetwork(
        [layer.weights.tolist() for layer in net.layers],
        [layer.biases.tolist() for layer in net.layers],
    )
    errors = plain.train(X.tolist(), Y.tolist(), 0.3, 4)
    history = train(net, 4, shuffle=False, verbose=True)
    assert capsys.readouterr().out.splitlines() == [
        f"Epoch: {epoch}, Total Error: {error:.3f}" for epoch, error in enumerate(errors)
    ]
    np.testing.assert_allclose(history["loss"], np.array(errors) / 2 / 10, rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        ("squared_error", lambda t, p: (p - t) ** 2),
        ("absolute_error", lambda t, p: np.abs(p - t)),
        ("binary_cross_entropy", lambda t, p: -t * np.log(p) - (1 - t) * np.log(1 - p)),
        (half_squared_error, lambda t, p: (p - t) ** 2 / 2),
    ],
)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_total_error_of_a_full_batch(capsys, loss, formula, reduction):
    net = network(3, 4, 2)
    total = formula(Y, net.predict(X)).sum()
    if callable(loss) and reduction == "sum":
        total /= len(Y)  # the function itself returns the mean
    train(net, 1, verbose=True, loss=loss, batch_size=None, reduction=reduction)
    assert capsys.readouterr().out == f"Epoch: 0, Total Error: {total:.3f}\n"


def test_verbose_is_the_default_and_prints_all_epochs(capsys):
    network(3, 4, 2).train(X, Y, 0.1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"Epoch: {i}" for i in range(100)]
    train(network(3, 4, 2), verbose=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_history_of_a_full_batch_equals_evaluate_before_each_epoch(reduction):
    net = network(3, 4, 2)
    expected = []

    class Evaluate(cnet.Callback):
        def on_epoch_begin(self, network, epoch):
            expected.append(network.evaluate(X, Y, reduction=reduction)["loss"])

    history = train(net, 3, batch_size=None, reduction=reduction, callbacks=Evaluate())
    assert list(history) == ["loss"]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-13)
    assert type(history) is cnet.History
    assert all(type(value) is float for value in history["loss"])
    assert net.history is history
    assert train(net, 2) is not history
    assert len(history["loss"]) == 3


# Losses in Python


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("batch_size", [1, 4, None])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_function_gives_the_same_weights_as_the_built_in_loss(optimizer, batch_size, shuffle):
    built_in, function = network(3, 4, 2), network(3, 4, 2)
    settings = {
        "optimizer": optimizer,
        "batch_size": batch_size,
        "shuffle": shuffle,
        "learning_rate": 0.01,
    }
    first = train(built_in, loss="squared_error", **settings)
    second = train(function, loss=half_squared_error, **settings)
    np.testing.assert_allclose(function.parameters, built_in.parameters, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(second["loss"], first["loss"], rtol=1e-9)


def test_a_function_gets_labels_as_rows_in_the_networks_dtype():
    seen = []

    def loss(y_true, y_pred):
        seen.append((y_true.tolist(), y_true.dtype, y_pred.shape, y_pred.dtype))
        return 0, np.zeros_like(y_pred)

    net = network(3, 3, output="softmax", dtype="float32")
    train(net, 1, X[:2], [2, 0], loss=loss, batch_size=None, shuffle=False)
    assert seen == [([[0, 0, 1], [1, 0, 0]], np.float32, (2, 3), np.float32)]


def test_a_function_gets_a_large_batch_in_one_call():
    seen = []

    def loss(y_true, y_pred):
        seen.append(len(y_true))
        return half_squared_error(y_true, y_pred)

    n = 3 * 512  # rows of a block
    x, y = np.random.default_rng(0).random((n, 3)), np.random.default_rng(1).random((n, 2))
    function, built_in = network(3, 4, 2), network(3, 4, 2)
    train(function, 2, x, y, loss=loss, batch_size=None)
    train(built_in, 2, x, y, batch_size=None)
    assert seen == [n, n]
    np.testing.assert_allclose(function.parameters, built_in.parameters, rtol=1e-9)


def test_a_function_may_return_other_dtypes_and_layouts():
    net, expected = network(3, 4, 2), network(3, 4, 2)

    def loss(y_true, y_pred):
        value, gradient = half_squared_error(y_true, y_pred)
        return np.float64(value), np.asfortranarray(gradient.astype(np.longdouble)).tolist()

    train(net, batch_size=None, loss=loss)
    train(expected, batch_size=None, loss=half_squared_error)
    np.testing.assert_array_equal(net.parameters, expected.parameters)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, None])
def test_a_function_cannot_change_the_users_targets(shuffle, batch_size):
    y = Y.copy()

    def loss(y_true, y_pred):
        with suppress(ValueError):  # they may also be read-only
            y_true *= 0
        return half_squared_error(y_true, y_pred)

    net = network(3, 4, 2)
    train(net, 1, y=y, loss=loss, shuffle=shuffle, batch_size=batch_size)
    net.evaluate(X, y, loss=loss)
    np.testing.assert_array_equal(y, Y)


def test_a_function_may_overwrite_its_arguments():
    # The function gets copies; neither training nor the accuracy may depend on how it changes them.
    def loss(y_true, y_pred):
        y_pred -= y_true
        return np.sum(y_pred**2) / 2 / len(y_pred), y_pred / len(y_pred)

    net, expected = network(3, 4, 2), network(3, 4, 2)
    train(net, loss=loss, batch_size=3)
    train(expected, loss=half_squared_error, batch_size=3)
    np.testing.assert_allclose(net.parameters, expected.parameters, rtol=1e-12)
    assert net.evaluate(X, Y, loss=loss) == expected.evaluate(X, Y, loss=half_squared_error)


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (lambda p: None, "got None"),
        (lambda p: 1.0, "got 1.0"),
        (lambda p: p, "got"),
        (lambda p: (1.0,), "got (1.0,)"),
        (lambda p: (1.0, p, p), "got (1.0,"),
        (lambda p: ("one", p), "got ('one'"),
        (lambda p: (None, p), "got (None"),
        (lambda p: (p, p), "got"),
        (lambda p: (1.0, "gradient"), "got (1.0, 'gradient')"),
        (lambda p: (1.0, 1.0), "got a gradient of shape"),
        (lambda p: (1.0, None), "got"),
        (lambda p: (1.0, p[0]), "got a gradient of shape (2,)"),
        (lambda p: (1.0, p.T), "got a gradient of shape (2, 5)"),
        (lambda p: (1.0, p[:, :1]), "got a gradient of shape (5, 1)"),
        (lambda p: (1.0, p[None]), "got a gradient of shape (1, 5, 2)"),
    ],
    ids=range(15),
)
def test_invalid_return_values_of_a_function_raise(result, got):
    def loss(y_true, y_pred):
        return result(y_pred)

    net = network(3, 4, 2)
    parameters = net.parameters.copy()
    with refused("loss must return (value, gradient)", "shape (5, 2)", got):
        train(net, batch_size=5, loss=loss)
    np.testing.assert_array_equal(net.parameters, parameters)
    with refused("loss must return (value, gradient)", of=[net]):
        net.evaluate(X[:5], Y[:5], loss=loss)


@pytest.mark.parametrize("error", [BrokenError, ValueError, TypeError, KeyboardInterrupt])
def test_an_exception_in_a_function_leaves_the_last_finished_epoch(error):
    net, expected = network(3, 4, 2), network(3, 4, 2)
    calls = []

    def loss(y_true, y_pred):
        calls.append(len(y_true))
        # In the second of the four batches of the third epoch.
        if len(calls) == 10:
            raise error("by the user")
        return half_squared_error(y_true, y_pred)

    with pytest.raises(error, match="by the user"):
        train(net, 5, batch_size=3, optimizer="adam", loss=loss)
    train(expected, 2, batch_size=3, optimizer="adam", loss=half_squared_error)
    np.testing.assert_array_equal(net.parameters, expected.parameters)
    assert net.history == expected.history
    # The optimizer's state is reset, because its averages belong to steps that were undone.
    assert net.trainer.state.steps[0] == 0
    assert not net.trainer.state.moments.any()
    train(net, 1, loss=half_squared_error)
    assert net.trainer.state.steps[0] == 10


# Divergence


def diverging(**settings):
    """Return a network and settings with which it diverges in the third epoch or later."""
    net = network(3, 2, output="linear")
    return net, {"learning_rate": 1e60, "batch_size": 5, "epochs": 50, **settings}


@pytest.mark.parametrize(
    "loss", ["squared_error", half_squared_error], ids=["compiled", "function"]
)
@pytest.mark.parametrize("callbacks", [(), [do_nothing]], ids=["grouped", "one by one"])
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_divergence(loss, callbacks, capsys):
    net, settings = diverging(loss=loss)
    with pytest.raises(cnet.DivergenceError, match="finite number in epoch") as caught:
        train(net, callbacks=callbacks, verbose=True, **settings)
    error = caught.value
    assert 0 < error.epoch < 10
    assert f"in epoch {error.epoch};" in str(error)
    assert "learning rate below 1e+60" in str(error)
    assert error.history is net.history
    assert len(error.history["loss"]) == error.epoch
    assert np.isfinite(error.history["loss"]).all()
    # Only finished epochs are printed.
    assert len(capsys.readouterr().out.splitlines()) == error.epoch
    # The weights are those of the last epoch that remained finite.
    assert np.isfinite(net.parameters).all()
    expected, _ = diverging()
    train(expected, **{**settings, "epochs": error.epoch})
    np.testing.assert_array_equal(net.parameters, expected.parameters)


@pytest.mark.parametrize(
    "loss", ["squared_error", half_squared_error], ids=["compiled", "function"]
)
def test_training_can_continue_after_divergence(loss):
    net, fresh = (network(3, 4, 2, output="linear") for _ in range(2))
    settings = {"optimizer": cnet.SGD(momentum=0.9), "loss": loss}
    train(net, 3, **settings)
    before = net.parameters.copy()
    # The loss of the single batch is finite, but the weights after its step are not.
    with pytest.raises(cnet.DivergenceError) as caught:
        train(net, 3, y=1000 * Y, learning_rate=1e307, batch_size=None, **settings)
    assert caught.value.epoch == 0
    np.testing.assert_array_equal(net.parameters, before)
    # The optimizer's state is reset, because its averages belong to other weights.
    fresh.parameters[:] = before
    fresh.trainer.rng = pickle.loads(pickle.dumps(net.trainer.rng))
    assert train(net, 3, **settings) == train(fresh, 3, **settings)
    assert everything(net) == everything(fresh)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["value", "gradient"])
def test_a_function_that_is_not_finite(value, what):
    def loss(y_true, y_pred):
        if what == "value":
            return value, np.zeros_like(y_pred)
        return 0.0, np.full_like(y_pred, value)

    net = network(3, 4, 2)
    before = net.parameters.copy()
    with pytest.raises(cnet.DivergenceError):
        train(net, loss=loss)
    np.testing.assert_array_equal(net.parameters, before)


def test_divergence_if_weights_are_not_finite_at_the_start():
    net = network(3, 4, 2)
    net.parameters[0] = np.nan
    with pytest.raises(cnet.DivergenceError) as caught:
        train(net)
    assert caught.value.epoch == 0


def test_divergence_error_can_be_pickled():
    net, settings = diverging()
    with pytest.raises(cnet.DivergenceError) as caught:
        train(net, **settings)
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is cnet.DivergenceError
    assert str(error) == str(caught.value)
    assert error.epoch == caught.value.epoch
    assert error.history == caught.value.history
    assert isinstance(error, ArithmeticError)


# Ctrl-C and other signals

# Seconds of CPU time until KeyboardInterrupt, and a margin for a machine whose caches others share.
LATENCY, MARGIN = 0.2, 0.2


def large(*sizes, n, hidden="sigmoid"):
    """Return a network and enough rows for many seconds of training."""
    net = network(*sizes, hidden=hidden, dtype="float32")
    data = np.random.default_rng(0)
    x = data.random((n, sizes[0]), dtype=np.float32)
    return net, x, data.random((n, sizes[-1]), dtype=np.float32)


LONG = {
    "large net, row by row": (large, (64, 1000, 1000, 1000, 10), 10_000, {"batch_size": 1}),
    "large net, batches": (large, (64, 1000, 1000, 1000, 10), 60_000, {"batch_size": 32}),
    "large net, full batch": (large, (64, 1000, 1000, 1000, 10), 60_000, {"batch_size": None}),
    "small net, row by row": (large, (4, 16, 16, 1), 4_000_000, {"batch_size": 1}),
    "small net, full batch": (large, (4, 16, 16, 1), 8_000_000, {"batch_size": None}),
    "wide layer, full batch": (large, (2, 100_000, 1), 8_000, {"batch_size": None}),
    "very large net, full batch": (large, (64, 4000, 4000, 10), 10_000, {"batch_size": None}),
    "function, batches": (
        large,
        (64, 1000, 1000, 1000, 10),
        60_000,
        {"batch_size": 32, "loss": half_squared_error},
    ),
    "function, full batch": (
        large,
        (64, 1000, 1000, 1000, 10),
        15_000,
        {"batch_size": None, "loss": half_squared_error},
    ),
}


@pytest.mark.parametrize("case", LONG)
def test_ctrl_c(case):
    make, sizes, n, settings = LONG[case]
    net, x, y = make(*sizes, n=n)
    before = net.parameters.copy()
    interruption = Interruption(0.2)
    callback = InterruptTraining(interruption)
    with interruption, pytest.raises(KeyboardInterrupt):
        train(net, 1, x, y, learning_rate=1e-3, callbacks=callback, **settings)
    assert interruption.age < (LATENCY + MARGIN) * slowness()
    np.testing.assert_array_equal(net.parameters, before)
    assert net.history == {"loss": []}
    assert len(train(net, 2, x[:5], y[:5])["loss"]) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda net, x, y: net.predict(x),
        lambda net, x, y: net.evaluate(x, y),
        lambda net, x, y: net.loss_and_gradient(x, y),
        lambda net, x, y: net.loss_and_gradient(x, y, loss=half_squared_error),
    ],
    ids=["predict", "evaluate", "loss_and_gradient", "loss_and_gradient of a function"],
)
def test_ctrl_c_outside_training(call):
    # 15,000 rows, because all the outputs that a function as loss needs wait in memory.
    net, x, y = large(64, 1000, 1000, 1000, 10, n=15_000)
    with unchanged(net), Interruption(0.1) as interruption, pytest.raises(KeyboardInterrupt):
        call(net, Reader(x, interruption.start), y)
    assert interruption.age < (LATENCY + MARGIN) * slowness()


def test_ctrl_c_leaves_the_last_finished_epoch():
    net, x, y = large(64, 600, 600, 600, 10, n=1_000)
    expected = net.copy()
    how = {"batch_size": 64, "optimizer": "adam", "learning_rate": 1e-3}
    interruption = Interruption(0.1)
    callback = InterruptTraining(interruption, epoch=1)
    with interruption, pytest.raises(KeyboardInterrupt):
        train(net, 1000, x, y, callbacks=callback, **how)
    epochs = len(net.history["loss"])
    assert epochs >= 1
    assert train(expected, epochs, x, y, **how) == net.history
    np.testing.assert_array_equal(net.parameters, expected.parameters)


@pytest.fixture
def alarm():
    """Return a function that sets a handler to be called every 30 ms until the test ends."""
    old = signal.getsignal(signal.SIGALRM)

    def every_30_ms(handler):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.03, 0.03)

    yield every_30_ms
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


def test_the_users_signal_handlers_run_while_the_engine_does(alarm):
    net, x, y = large(64, 600, 600, 600, 10, n=6_000)
    expected = net.copy()
    moments = []
    alarm(lambda number, frame: moments.append(time.perf_counter()))
    start = time.perf_counter()
    train(net, 1, x, y, batch_size=32)
    end = time.perf_counter()
    # Signals that waited for the end of the call would arrive as one.
    assert sum(start < moment < end for moment in moments) > 3
    signal.setitimer(signal.ITIMER_REAL, 0)
    train(expected, 1, x, y, batch_size=32)
    assert everything(net) == everything(expected)


def test_a_signal_handler_may_raise_any_exception(alarm):
    net, x, y = large(64, 600, 600, 600, 10, n=60_000)
    before = net.parameters.copy()

    def handler(number, frame):
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise BrokenError("time is up")

    alarm(handler)
    with pytest.raises(BrokenError, match="time is up"):
        train(net, 1, x, y)
    np.testing.assert_array_equal(net.parameters, before)


# Threads


@pytest.mark.parametrize(
    ("call", "n"),
    [
        (lambda net, x, y: train(net, 1, x, y, batch_size=32), 4_000),
        (lambda net, x, y: net.predict(x), 12_000),
        (lambda net, x, y: net.loss_and_gradient(x, y), 4_000),
    ],
    ids=["train", "predict", "loss_and_gradient"],
)
def test_the_gil_is_released_while_the_engine_runs(call, n):
    net, x, y = large(64, 600, 600, 600, 10, n=n)
    longest = 0.0
    done = threading.Event()

    def look_at_the_clock():
        nonlocal longest
        last = time.perf_counter()
        while not done.is_set():
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now

    other = threading.Thread(target=look_at_the_clock)
    other.start()
    try:
        start = time.perf_counter()
        call(net, x, y)
        duration = time.perf_counter() - start
    finally:
        done.set()
        other.join()
    # If the GIL were held, the other thread would stop for about the whole call.
    assert longest < duration / 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_networks_train_in_threads_as_they_do_one_after_another(dtype):
    x, y = np.random.default_rng(0).random((300, 8)), np.random.default_rng(1).random((300, 3))

    def make(seed):
        return network(8, 30, 20, 3, seed=seed, dtype=dtype)

    def run(net):
        train(net, 30, x, y, batch_size=7, optimizer="adam", learning_rate=0.01)

    one_by_one, together = [make(i) for i in range(4)], [make(i) for i in range(4)]
    for net in one_by_one:
        run(net)
    threads = [threading.Thread(target=run, args=[net]) for net in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [everything(net) for net in together] == [everything(net) for net in one_by_one]


def test_one_network_predicts_in_threads():
    net = network(8, 30, 20, 3)
    x = np.random.default_rng(0).random((2000, 8))
    expected = net.predict(x)
    found = []
    threads = [
        threading.Thread(target=lambda: found.extend(net.predict(x) for _ in range(20)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert all(np.array_equal(outputs, expected) for outputs in found)


def test_the_loss_is_remembered():
    net, expected = network(3, 4, 2), network(3, 4, 2)
    train(net, loss="huber(0.1)")
    train(net)
    train(expected, 5, loss="huber(0.1)")
    train(expected, 5, loss="huber(0.1)")
    assert everything(net) == everything(expected)
    # A function that fails immediately is not remembered.
    with pytest.raises(ValueError, match="loss must return"):
        train(net, loss=lambda y_true, y_pred: 3)
    assert net.evaluate(X, Y) == expected.evaluate(X, Y)


@pytest.mark.parametrize("loss", ["squared_error", half_squared_error], ids=["named", "function"])
def test_an_infinite_moment_is_a_divergence(loss):
    # Adam divides by it from then on: the weight would never change again, without notice.
    net = network(3, 4, 2, output="linear", hidden="relu", dtype="float32")
    before, x = net.parameters.copy(), X.copy()
    x[0] = 1e13
    with pytest.raises(cnet.DivergenceError):
        train(net, 1, x, loss=loss, optimizer="adam", learning_rate=1e-3)
    np.testing.assert_array_equal(net.parameters, before)
    train(net, 1, loss=loss, optimizer="adam")


@pytest.mark.parametrize("finished", [0, 3, 7])
def test_the_history_of_an_interrupted_group_of_epochs(monkeypatch, finished):
    # One engine call for many epochs: those that finished before Ctrl-C are recorded.
    net, expected = network(3, 4, 2), network(3, 4, 2)

    with monkeypatch.context() as patch:
        interrupt_after(patch, finished, 7)
        with pytest.raises(KeyboardInterrupt):
            train(net, 7, shuffle=False)
    train(expected, finished, shuffle=False)
    assert net.history == expected.history
    np.testing.assert_array_equal(net.parameters, expected.parameters)


def test_bias_gradients_of_a_very_large_batch():
    # The gradient of every row is the same, and so is their mean, for any number of rows.
    net = cnet.NeuralNetwork(cnet.Layer(1, 1, "linear"), seed=0)
    net.parameters[:] = 0
    n = 1_000_000
    _, gradient = net.loss_and_gradient(
        np.zeros((n, 1), np.float32), np.full(n, 0.3), reduction="sum"
    )
    # A running sum of a million floats is off by 1 part in 200; sums of 512-row blocks, by some 512 eps.
    assert gradient[1] == pytest.approx(-0.3 * n, rel=1e-3)


# Access during training


def test_a_memory_error_changes_nothing(monkeypatch):
    net = network(3, 4, 2)
    train(net, optimizer="adam")

    def none_left(size, dtype):
        raise MemoryError

    monkeypatch.setattr(_plan, "aligned_empty", none_left)
    with unchanged(net), pytest.raises(MemoryError):
        train(net, optimizer="rprop", loss="huber")


# The order of rows


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox])
def test_all_orders_are_equally_likely(bits):
    n, draws = 4, 24_000
    order = np.empty((draws, n), np.intp)
    engine.shuffle(bits(0), order)
    found, counts = np.unique(order, axis=0, return_counts=True)
    assert [tuple(row) for row in found.tolist()] == sorted(permutations(range(n)))
    # Chi-squared with 23 degrees of freedom exceeds 60 once in 30,000 times.
    assert ((counts - draws / 24) ** 2 / (draws / 24)).sum() < 60
