"""Callbacks, early stopping, progress output, and the state after training ends, however it ends."""

import copy
import math
import pickle
import signal
import sys
import threading
from functools import partial
from types import ModuleType

import numpy as np
import pytest
from helpers import (
    Interruption,
    InterruptTraining,
    everything,
    interrupt_after,
    network,
    refused,
)

import cnet
from cnet import _plan

rng = np.random.default_rng(11)
X = rng.uniform(-1, 1, (10, 3))
Y = rng.uniform(0, 1, (10, 2))
OTHER = rng.uniform(-1, 1, (7, 3)), rng.uniform(0, 1, (7, 2))


def train(net, epochs=5, x=X, y=Y, learning_rate=0.3, **settings):
    return net.train(x, y, learning_rate, epochs, **{"verbose": False, **settings})


def half_squared_error(y_true, y_pred):
    """Compute squared_error in NumPy, with the mean over rows."""
    d = y_pred - y_true
    return np.sum(d * d) / 2 / len(d), d / len(d)


# Epochs


class Hooks(cnet.Callback):
    """Records which of its methods are called."""

    def __init__(self, calls, name="", stop=None):
        self.calls = calls
        self.name = name
        self.stop = stop

    def on_train_begin(self, network):
        self.calls.append(f"{self.name}begin")

    def on_epoch_begin(self, network, epoch):
        self.calls.append(f"{self.name}begin {epoch}")

    def on_epoch_end(self, network, epoch, logs):
        self.calls.append(f"{self.name}end {epoch}")
        return epoch == self.stop

    def on_train_end(self, network, history):
        assert network.history is history
        self.calls.append(f"{self.name}end")


def test_hooks_are_called_in_order():
    calls = []
    train(network(3, 2), 2, callbacks=[Hooks(calls, "a "), Hooks(calls, "b ")])
    assert calls == [
        *("a begin", "b begin"),
        *("a begin 0", "b begin 0", "a end 0", "b end 0"),
        *("a begin 1", "b begin 1", "a end 1", "b end 1"),
        *("a end", "b end"),
    ]


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: [f], lambda f: (f,), lambda f: iter([f])])
def test_functions_as_callbacks(wrap):
    net = network(3, 2)
    seen = []

    def note(*arguments):
        seen.append(arguments)

    history = train(net, 3, callbacks=wrap(note))
    assert [(network, epoch) for network, epoch, _ in seen] == [(net, 0), (net, 1), (net, 2)]
    assert [logs for _, _, logs in seen] == [{"loss": value} for value in history["loss"]]


def test_the_callback_base_class_does_nothing():
    plain, watched = network(3, 2), network(3, 2)
    train(plain)
    train(watched, callbacks=[cnet.Callback()])
    assert everything(plain) == everything(watched)


def test_callbacks_see_the_network_after_each_epoch():
    net, expected = network(3, 2), network(3, 2)
    seen = []
    train(net, 3, callbacks=[lambda net, epoch, logs: seen.append(net.parameters.copy())])
    for parameters in seen:
        train(expected, 1)
        np.testing.assert_array_equal(parameters, expected.parameters)


def test_callbacks_can_be_called_once_for_several_epochs():
    class Patient(cnet.Callback):
        epochs_at_once = 4

        def __init__(self):
            self.told = []

        def on_epoch_end(self, network, epoch, logs):
            self.told.append((epoch, logs["loss"], network.parameters.copy()))

    net, expected, patient = network(3, 2), network(3, 2), Patient()
    history = train(net, 10, callbacks=[patient])
    assert history == train(expected, 10)
    np.testing.assert_array_equal(net.parameters, expected.parameters)
    assert [(epoch, loss) for epoch, loss, _ in patient.told] == list(enumerate(history["loss"]))
    # Four epochs, four more, and the last two.
    weights = [parameters for _, _, parameters in patient.told]
    for last in (3, 7, 9):
        np.testing.assert_array_equal(weights[last - last % 4], weights[last])
    assert not np.array_equal(weights[3], weights[4])
    # With epochs_at_once = 0, a callback is called after each epoch.
    patient.epochs_at_once = 0
    assert train(net, 3, callbacks=patient) == train(expected, 3)
    # The smallest number among the callbacks applies.
    seen = []
    train(
        network(3, 2), 3, callbacks=[Patient(), lambda net, *_: seen.append(net.parameters.copy())]
    )
    assert not np.array_equal(seen[0], seen[1])


@pytest.mark.parametrize("first", [True, False])
def test_returning_true_stops(first):
    net, expected = network(3, 2), network(3, 2)
    calls = []
    # The other callbacks also see the last epoch.
    others = [Hooks(calls)]
    stop = [lambda net, epoch, logs: epoch == 1]
    history = train(net, 10, callbacks=stop + others if first else others + stop)
    assert len(history["loss"]) == 2
    assert calls == ["begin", "begin 0", "end 0", "begin 1", "end 1", "end"]
    train(expected, 2)
    assert everything(net) == everything(expected)


def test_a_method_that_returns_true_stops():
    calls = []
    assert len(train(network(3, 2), 10, callbacks=Hooks(calls, stop=3))["loss"]) == 4


@pytest.mark.parametrize("value", [None, False, 0])
def test_training_continues_if_a_callback_returns_nothing(value):
    history = train(network(3, 2), 4, callbacks=[lambda net, epoch, logs: value])
    assert len(history["loss"]) == 4


class BrokenError(Exception):
    """Raised by a user's callback or loss."""


class RaiseAt(cnet.Callback):
    """Raises in one method in the third epoch."""

    def __init__(self, method):
        self.method = method
        setattr(self, method, self.fail)

    def fail(self, network, epoch=2, *logs):
        if epoch == 2:
            raise BrokenError(self.method)


@pytest.mark.parametrize(
    ("method", "epochs"),
    [("on_train_begin", 0), ("on_epoch_begin", 2), ("on_epoch_end", 3), ("on_train_end", 5)],
)
def test_an_exception_in_a_callback(method, epochs):
    net, expected = network(3, 4, 2), network(3, 4, 2)
    callback = RaiseAt(method)
    if method == "on_train_end":
        callback.on_train_end = lambda network, history: callback.fail(network)
    with pytest.raises(BrokenError, match=method):
        train(net, 5, optimizer="adam", callbacks=[callback])
    train(expected, epochs, optimizer="adam")
    assert len(net.history["loss"]) == epochs
    # Training can continue as if nothing had happened.
    assert everything(net) == everything(expected)
    assert train(net, 2) == train(expected, 2)


def test_zero_epochs():
    net = network(3, 4, 2)
    train(net, 2, optimizer="adam")
    calls = []
    before = everything([net.parameters, net.trainer.state, net.trainer.rng])
    history = train(net, 0, callbacks=[Hooks(calls)])
    assert history == {"loss": []}
    assert net.history is history
    assert calls == ["begin", "end"]
    assert everything([net.parameters, net.trainer.state, net.trainer.rng]) == before


# Batches


class BatchHooks(Hooks):
    """Records the batches too."""

    def on_batch_begin(self, network, batch):
        self.calls.append(f"{self.name}begin batch {batch}")

    def on_batch_end(self, network, batch, logs):
        self.calls.append(f"{self.name}end batch {batch}")


def test_batch_hooks_are_called_in_order():
    calls = []
    callbacks = [BatchHooks(calls, "a "), Hooks(calls, "b "), BatchHooks(calls, "c ")]
    train(network(3, 2), 1, batch_size=6, callbacks=callbacks)
    assert calls == [
        *("a begin", "b begin", "c begin", "a begin 0", "b begin 0", "c begin 0"),
        *("a begin batch 0", "c begin batch 0", "a end batch 0", "c end batch 0"),
        *("a begin batch 1", "c begin batch 1", "a end batch 1", "c end batch 1"),
        *("a end 0", "b end 0", "c end 0", "a end", "b end", "c end"),
    ]


class Steps(cnet.Callback):
    """Records the logs of each batch, and the parameters before and after it."""

    def __init__(self):
        self.logs = []
        self.parameters = []

    def on_batch_begin(self, network, batch):
        self.parameters.append(network.parameters.copy())

    def on_batch_end(self, network, batch, logs):
        self.logs.append(logs)
        self.parameters.append(network.parameters.copy())


@pytest.mark.parametrize(
    "loss", ["squared_error", half_squared_error], ids=["compiled", "function"]
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
def test_batch_logs_contain_loss_and_size(loss, reduction):
    """The loss before the update, equal to evaluate's on the same rows, and the number of rows."""
    net = network(3, 4, l2=0.1).add_layer(2)
    twin = net.copy()
    steps = Steps()
    weights = None if callable(loss) else np.linspace(0.1, 2, 10)
    how = {"loss": loss, "reduction": reduction}
    train(net, 2, batch_size=4, shuffle=False, callbacks=steps, sample_weight=weights, **how)
    assert [logs["size"] for logs in steps.logs] == [4, 4, 2] * 2
    for i, logs in enumerate(steps.logs):
        rows = slice(i % 3 * 4, i % 3 * 4 + 4)
        twin.parameters[...] = steps.parameters[2 * i]
        own = None if weights is None else weights[rows]
        expected = twin.evaluate(X[rows], Y[rows], sample_weight=own, **how)["loss"]
        assert logs["loss"] == pytest.approx(expected, rel=1e-12)
        assert (steps.parameters[2 * i] != steps.parameters[2 * i + 1]).any()
    # Nothing changes between the batches.
    for after, before in zip(steps.parameters[1:-1:2], steps.parameters[2::2], strict=True):
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", cnet.SGD(clip_norm=0.1), "rprop"], ids=str)
@pytest.mark.parametrize(
    "loss", ["squared_error", half_squared_error], ids=["compiled", "function"]
)
@pytest.mark.parametrize("batch_size", [1, 4, None])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batch_callbacks_do_not_change_the_result(optimizer, loss, batch_size, shuffle):
    plain, watched = network(3, 4, 2), network(3, 4, 2)
    how = {"optimizer": optimizer, "loss": loss, "batch_size": batch_size, "shuffle": shuffle}
    first = train(plain, learning_rate=0.01, **how)
    assert train(watched, learning_rate=0.01, callbacks=Steps(), **how) == first
    assert everything(plain) == everything(watched)


class Counted:
    """Counts the epochs of each call of the engine."""

    def __init__(self, monkeypatch):
        self.calls = []
        train = _plan.Job.train

        def counted(job, *arguments):
            self.calls.append(len(arguments[4]))
            return train(job, *arguments)

        monkeypatch.setattr(_plan.Job, "train", counted)


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({}, [5]),
        ({"callbacks": cnet.EarlyStopping("loss")}, [1] * 5),
        ({"callbacks": lambda net, epoch, logs: None}, [1] * 5),
        ({"validation_data": OTHER, "metrics": "mse"}, [1] * 5),
        ({"schedule": "reduce_on_plateau"}, [1] * 5),
        ({"schedule": "one_cycle"}, [5]),
        ({"callbacks": Steps()}, [1] * 5),
    ],
)
def test_epochs_of_each_call_of_the_engine(settings, calls, monkeypatch):
    counted = Counted(monkeypatch)
    train(network(3, 4, 2), batch_size=3, **settings)
    assert counted.calls == calls


def test_methods_set_on_an_object_are_called_too():
    callback = cnet.Callback()
    assert not callback.watches_batches
    seen = []
    callback.on_batch_end = lambda network, batch, logs: seen.append(batch)
    train(network(3, 2), 1, batch_size=5, callbacks=callback)
    assert seen == [0, 1]


# Exceptions

METHODS = ["on_batch_begin", "on_batch_end"]


class RaiseInBatch(cnet.Callback):
    """Raises before or after a given batch of the third epoch."""

    def __init__(self, method, batch, act):
        self.epoch = -1

        def fail(network, number, *logs):
            if (self.epoch, number) == (2, batch):
                act()

        setattr(self, method, fail)

    def on_epoch_begin(self, network, epoch):
        self.epoch = epoch


def raise_broken():
    raise BrokenError("by the user")


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize(
    ("act", "error"), [(raise_broken, BrokenError), (press_ctrl_c, KeyboardInterrupt)]
)
@pytest.mark.parametrize(
    "loss", ["squared_error", half_squared_error], ids=["compiled", "function"]
)
def test_an_exception_at_any_batch(method, batch, act, error, loss):
    """The network has the weights of the last finished epoch, and the history ends there."""
    net, expected = (network(3, 8, dropout=0.5, l2=0.1).add_layer(2) for _ in range(2))
    how = {"optimizer": "adam", "batch_size": 2, "loss": loss, "metrics": "mse"}
    how |= {"validation_split": 0.2, "schedule": "cosine", "learning_rate": 0.01}
    with pytest.raises(error):
        train(net, 6, callbacks=RaiseInBatch(method, batch, act), **how)
    stop = {"callbacks": lambda net, epoch, logs: epoch == 1}
    history = train(expected, 6, **how, **stop)
    assert len(history["loss"]) == 2
    assert net.history == history
    np.testing.assert_array_equal(net.parameters, expected.parameters)
    # Training can continue.
    assert net.trainer.state.steps[0] == 0
    assert not net.trainer.state.moments.any()
    assert len(train(net, 2, **how)["val_mse"]) == 2


@pytest.mark.parametrize("method", ["on_batch_begin", "on_batch_end"])
def test_ctrl_c_between_batches_of_a_large_network(method):
    data = np.random.default_rng(0)
    x, y = data.random((4000, 64), np.float32), data.random((4000, 10), np.float32)
    sizes = (64, 300, 300, 10)
    net, expected = (network(*sizes, dtype="float32", dropout=0) for _ in range(2))
    how = {"batch_size": 1000, "optimizer": "adam", "learning_rate": 1e-3}
    interruption = Interruption(0.05)
    callback = InterruptTraining(interruption, epoch=1)
    setattr(callback, method, lambda *arguments: None)
    with interruption, pytest.raises(KeyboardInterrupt):
        train(net, 100, x, y, callbacks=callback, **how)
    epochs = len(net.history["loss"])
    assert epochs >= 1
    assert train(expected, epochs, x, y, **how) == net.history
    np.testing.assert_array_equal(net.parameters, expected.parameters)


@pytest.mark.parametrize("settings", [{}, {"callbacks": Steps()}, {"callbacks": cnet.Callback()}])
@pytest.mark.parametrize(
    "loss", ["squared_error", half_squared_error], ids=["compiled", "function"]
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_divergence(settings, loss):
    net, expected = (network(3, 8, dropout=0.5).add_layer(2, "linear") for _ in range(2))
    # From the fourth epoch on, the rate is so high that the weights overflow.
    how = {"batch_size": 3, "loss": loss, "optimizer": cnet.SGD(momentum=0.5)}
    how["schedule"] = lambda epoch: 0.1 if epoch < 3 else 1e200
    with pytest.raises(cnet.DivergenceError) as caught:
        train(net, 10, **how, **settings)
    assert caught.value.epoch >= 3
    assert caught.value.history is net.history
    history = train(expected, caught.value.epoch, **how)
    assert history == net.history
    np.testing.assert_array_equal(net.parameters, expected.parameters)
    assert {len(values) for values in net.history.values()} == {caught.value.epoch}
    how["schedule"] = None
    net.parameters[...] = 0.1
    assert len(train(net, 2, **how)["loss"]) == 2


@pytest.mark.parametrize("finished", [0, 1, 4])
def test_an_interrupted_group_of_epochs(monkeypatch, finished):
    """If one engine call covers several epochs, the finished ones are recorded in full."""
    net, expected = (network(3, 8, dropout=0.5).add_layer(2) for _ in range(2))

    how = {"schedule": "cosine(2)", "batch_size": 3}
    with monkeypatch.context() as patch:
        interrupt_after(patch, finished, 6)
        with pytest.raises(KeyboardInterrupt):
            train(net, 6, **how)
    if finished:
        train(expected, 6, callbacks=lambda net, epoch, logs: epoch == finished - 1, **how)
        assert net.history == expected.history
    assert {name: len(values) for name, values in net.history.items()} == {
        "loss": finished,
        "learning_rate": finished,
    }
    np.testing.assert_array_equal(net.parameters, expected.parameters)


def test_no_batch_callback_runs_after_divergence():
    net = network(3, 4, 2, output="linear")
    before = net.parameters.copy()
    seen = []

    class Spoil(cnet.Callback):
        def on_batch_begin(self, network, batch):
            seen.append(f"begin {batch}")
            if batch == 2:
                network.parameters[0] = np.nan

        def on_batch_end(self, network, batch, logs):
            seen.append(f"end {batch}")

    with pytest.raises(cnet.DivergenceError, match="in epoch 0"):
        train(net, batch_size=2, callbacks=Spoil())
    assert seen == ["begin 0", "end 0", "begin 1", "end 1", "begin 2"]
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize("watched", [False, True])
def test_an_overflowing_step_is_a_divergence_even_if_the_loss_is_finite(watched):
    net = cnet.NeuralNetwork(cnet.Layer(1, 1, "linear", init="zeros"))
    callback = cnet.Callback()
    if watched:
        callback.on_batch_end = lambda network, batch, logs: None
    with pytest.raises(cnet.DivergenceError, match="in epoch 0"):
        net.train([[1e18]] * 4, [1e18] * 4, 1e30, 2, verbose=False, callbacks=callback)
    np.testing.assert_array_equal(net.parameters, 0)


# Access during training


def test_a_callback_cannot_add_layers_or_train():
    net, expected = network(3, 4, 2), network(3, 4, 2)

    def meddle(net, epoch, logs):
        with pytest.raises(RuntimeError, match="trained already"):
            net.add_layer(2)
        with pytest.raises(RuntimeError, match="trained already"):
            train(net)

    train(net, callbacks=meddle)
    train(expected)
    assert everything(net) == everything(expected)
    # Training has ended, and a copy made meanwhile is not in training.
    copies = []
    train(net, 1, callbacks=lambda net, epoch, logs: copies.append(net.copy()))
    net.add_layer(2)
    train(copies[0])


def test_callbacks_can_be_none():
    train(network(3, 4, 2), callbacks=None)


@pytest.mark.parametrize("method", ["on_batch_begin", "on_batch_end", "on_epoch_begin"])
def test_networks_can_be_read_during_training(method):
    net, expected = (network(3, 8, dropout=0.5).add_layer(2) for _ in range(2))
    calls = []

    def ask(net, *arguments):
        net.predict(X[0])
        net.evaluate(X, Y)
        twin = net.copy()
        train(twin, 1)
        pickle.dumps(net)
        with pytest.raises(RuntimeError, match="trained already"):
            net.train_one(X[0], Y[0])
        with pytest.raises(RuntimeError, match="trained already"):
            train(net, 1)
        calls.append(twin)

    callback = cnet.Callback()
    setattr(callback, method, ask)
    train(net, 2, batch_size=5, callbacks=callback)
    assert len(calls) == (2 if method == "on_epoch_begin" else 4)
    train(expected, 2, batch_size=5)
    parts = [
        [each.parameters, each.trainer.state, each.trainer.rng, each.history]
        for each in (net, expected)
    ]
    assert everything(parts[0]) == everything(parts[1])


def test_networks_train_in_threads_as_they_do_one_after_another():
    def make(seed):
        net = network(3, 30, seed=seed, dropout=0.4, l1=1e-3, max_norm=2)
        return net.add_layer(2)

    def run(net):
        train(
            net, 10, batch_size=3, validation_split=0.2, metrics=["mse", "accuracy"],
            callbacks=[Steps(), cnet.EarlyStopping()], schedule="cosine(1)",
        )  # fmt: skip

    one_by_one, together = [make(i) for i in range(4)], [make(i) for i in range(4)]
    for net in one_by_one:
        run(net)
    threads = [threading.Thread(target=run, args=[net]) for net in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [everything(net) for net in together] == [everything(net) for net in one_by_one]


def test_one_network_trains_in_one_thread_at_a_time():
    net = network(3, 4, 2)
    refusals = []

    def other():
        with pytest.raises(RuntimeError, match="trained already, by another thread"):
            train(net, 1)
        refusals.append(1)

    def begin(net, epoch, logs):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    train(net, 2, callbacks=begin)
    assert refusals == [1, 1]


# Early stopping


class Epochs(cnet.Callback):
    """Records the parameters after each epoch."""

    def __init__(self):
        self.parameters = []

    def on_epoch_end(self, network, epoch, logs):
        self.parameters.append(network.parameters.copy())


class Told:
    """A metric that returns the given values, after one call before training."""

    def __init__(self, values):
        self.values = iter([math.nan, *values])

    def __call__(self, y_true, y_pred):
        return next(self.values)


@pytest.mark.parametrize(
    ("values", "settings", "best", "stopped"),
    [
        ([3, 2, 1, 1, 1, 1, 1], {"patience": 3}, 2, 5),
        ([3, 2, 1, 1, 1, 0, 1], {"patience": 3}, 5, None),
        ([3, 2, 1, 1, 1, 1, 0], {"patience": 2}, 2, 4),
        ([3, 2, 1, 2, 1, 2, 1], {"patience": 1}, 2, 3),
        ([3, 2, 1, 2, 1, 2, 1], {"patience": 0}, 2, 3),
        ([3, 2, 1, 2, 1, 2, 1], {"patience": 99}, 2, None),
        ([1, 2, 3, 3, 3, 3, 3], {"patience": 3, "mode": "max"}, 2, 5),
        ([1, 2, 3, 4, 5, 6, 7], {"patience": 2, "mode": "min"}, 0, 2),
        # 0.9 is better than 1 by no more than min_delta.
        ([1, 0.9, 0.8, 0.75, 0.6, 1, 1], {"patience": 2, "min_delta": 0.15}, 4, 6),
        ([1, 0.9, 0.8, 0.75, 0.6, 1, 1], {"patience": 1, "min_delta": 0.15}, 0, 1),
        ([0, 0.5, 0.75, 1, 1, 1, 1], {"patience": 2, "min_delta": 0.25, "mode": "max"}, 3, 5),
        # NaN is no improvement, and any number is an improvement on it.
        ([3, math.nan, 2, math.nan, math.nan, 1, 1], {"patience": 2}, 2, 4),
        ([math.nan, math.nan, 2, 1, 2, 2, 2], {"patience": 3}, 3, 6),
        ([math.inf, 2, 1, 1, 1, 1, 1], {"patience": 2}, 2, 4),
        ([math.nan] * 7, {"patience": 3}, -1, 2),
    ],
)
@pytest.mark.parametrize("restore_best", [True, False])
def test_when_training_stops(values, settings, best, stopped, restore_best):
    net = network(3, 4, 2)
    callback = cnet.EarlyStopping("told", restore_best=restore_best, **settings)
    assert (callback.best_epoch, callback.stopped_epoch) == (-1, None)
    seen = []
    history = train(
        net, 7, metrics={"told": Told(values)},
        callbacks=[callback, lambda net, epoch, logs: seen.append(net.parameters.copy())],
    )  # fmt: skip
    last = 6 if stopped is None else stopped
    np.testing.assert_array_equal(history["told"], values[: last + 1])
    assert (callback.best_epoch, callback.stopped_epoch) == (best, stopped)
    if best >= 0:
        assert callback.best == values[best]
    expected = seen[best if restore_best and best >= 0 else last]
    np.testing.assert_array_equal(net.parameters, expected)


@pytest.mark.parametrize(
    ("monitor", "greater"),
    [
        ("loss", False),
        ("val_loss", False),
        *((name, True) for name in ("accuracy", "auc", "f1", "r2", "recall", "precision")),
        *((name, False) for name in ("mae", "mse", "rmse", "log_loss", "own")),
        ("val_accuracy", True),
        ("val_mae", False),
    ],
)
def test_early_stopping_knows_whether_higher_is_better(monitor, greater):
    callback = cnet.EarlyStopping(monitor, patience=1)
    net = network(3, 2)
    callback.on_train_begin(net)
    assert not callback.on_epoch_end(net, 0, {monitor: 0.5})
    assert bool(callback.on_epoch_end(net, 1, {monitor: 0.6})) != greater
    assert callback.best == (0.6 if greater else 0.5)


def test_early_stopping_monitors_the_validation_loss():
    net = network(3, 8, 2)
    callback = cnet.EarlyStopping(patience=2)
    history = train(net, 200, learning_rate=1.0, validation_data=OTHER, callbacks=callback)
    losses = history["val_loss"]
    assert callback.best_epoch == int(np.argmin(losses))
    assert callback.stopped_epoch == len(losses) - 1 == callback.best_epoch + 2
    assert net.evaluate(*OTHER)["loss"] == pytest.approx(min(losses), rel=1e-14)


def test_one_early_stopping_object_serves_several_trainings():
    callback = cnet.EarlyStopping("told", patience=2)
    for values, best in [([3, 2, 1, 1, 1], 2), ([9, 10, 11, 12, 13], 0), ([5, 4, 3, 2, 1], 4)]:
        net = network(3, 2)
        epochs = Epochs()
        train(net, 5, metrics={"told": Told(values)}, callbacks=[callback, epochs])
        assert callback.best_epoch == best
        np.testing.assert_array_equal(net.parameters, epochs.parameters[best])
    assert callback.stopped_epoch is None
    twin = pickle.loads(pickle.dumps(copy.deepcopy(callback)))
    assert (twin.best, twin.best_epoch) == (1, 4)


def test_an_exception_does_not_restore_the_best_weights():
    net, expected = network(3, 2), network(3, 2)

    def fail(net, epoch, logs):
        if epoch == 3:
            raise BrokenError

    with pytest.raises(BrokenError):
        train(
            net, metrics={"told": Told([1, 2, 3, 4, 5])},
            callbacks=[cnet.EarlyStopping("told"), fail],
        )  # fmt: skip
    train(expected, 4)
    np.testing.assert_array_equal(net.parameters, expected.parameters)


@pytest.mark.parametrize(
    ("settings", "name", "error"),
    [
        ({"monitor": 3}, "monitor", TypeError),
        ({"monitor": None}, "monitor", TypeError),
        ({"patience": -1}, "patience", ValueError),
        ({"patience": 1.5}, "patience", TypeError),
        ({"min_delta": -0.1}, "min_delta", ValueError),
        ({"min_delta": "0"}, "min_delta", TypeError),
        ({"restore_best": 1}, "restore_best", TypeError),
        ({"mode": "best"}, "mode", ValueError),
    ],
)
def test_settings_of_early_stopping(settings, name, error):
    with refused(f"{name} must be", "got", repr(settings[name]), error=error):
        cnet.EarlyStopping(**settings)


def test_a_callback_can_only_monitor_recorded_values():
    callback = cnet.Callback()
    callback.monitor = "val_loss"
    net = network(3, 2)
    with refused("monitor must be something that is recorded, loss", "got 'val_loss'", of=[net]):
        train(net, callbacks=callback)
    train(net, callbacks=callback, validation_data=OTHER)


# The bar


class Bar:
    """Stands in for tqdm's bar and records what it is asked to show."""

    def __init__(self, made, total, unit, unit_scale):
        assert (unit, unit_scale) == ("rows", True)
        self.total, self.n, self.closed, self.shown = total, 0, False, []
        made.append(self)

    def set_description(self, text, refresh):
        self.text = text

    def set_postfix(self, values, refresh):
        self.shown.append((self.text, values))

    def update(self, n):
        self.n += n

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    """Return the bars created, in place of tqdm's."""
    made = []
    module = ModuleType("tqdm.auto")
    module.tqdm = partial(Bar, made)
    monkeypatch.setitem(sys.modules, "tqdm", ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    return made


@pytest.mark.parametrize("settings", [{}, {"metrics": "mse", "validation_split": 0.3}])
def test_progress_bar(bars, settings, capsys):
    net = network(3, 2)
    history = train(net, 3, verbose="bar", callbacks=cnet.Callback(), **settings)
    n = 7 if settings else 10
    (bar,) = bars
    assert (bar.total, bar.n, bar.closed) == (3 * n, 3 * n, True)
    assert bar.shown == [
        (f"epoch {i + 1}", {name: f"{values[i]:.4g}" for name, values in history.items()})
        for i in range(3)
    ]
    # No lines are printed.
    assert capsys.readouterr().out == ""


def test_progress_bar_of_grouped_epochs(bars):
    history = train(network(3, 2), 50, verbose="bar")
    (bar,) = bars
    assert (bar.total, bar.n) == (500, 500)
    assert bar.shown[-1] == ("epoch 50", {"loss": f"{history['loss'][-1]:.4g}"})


@pytest.mark.parametrize("method", ["on_train_begin", "on_epoch_begin", "on_epoch_end"])
def test_an_exception_closes_the_progress_bar(bars, method):
    with pytest.raises(BrokenError):
        train(network(3, 2), verbose="bar", callbacks=RaiseAt(method))
    (bar,) = bars
    assert bar.closed
    assert bar.n == {"on_train_begin": 0, "on_epoch_begin": 20, "on_epoch_end": 30}[method]


def test_progress_bar_if_training_stops_early(bars):
    train(network(3, 2), verbose="bar", callbacks=lambda net, epoch, logs: epoch == 1)
    assert (bars[0].n, bars[0].closed) == (20, True)


def test_invalid_arguments_open_no_progress_bar(bars):
    with pytest.raises(ValueError, match="monitor must be"):
        train(network(3, 2), verbose="bar", callbacks=cnet.EarlyStopping())
    assert bars == []


def test_progress_bar_with_tqdm(capfd):
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    history = train(network(3, 2), 3, verbose="bar", metrics="mse")
    shown = capfd.readouterr().err
    assert "epoch 3: 100%" in shown
    assert "rows/s" in shown
    assert f"loss={history['loss'][-1]:.4g}" in shown
    assert f"mse={history['mse'][-1]:.4g}" in shown


def test_progress_bar_without_tqdm(monkeypatch):
    for name in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    net = network(3, 2)
    train(net, 2, optimizer="adam")
    words = ['verbose="bar" requires tqdm', "pip install cnet[progress]"]
    with refused(*words, error=ImportError, of=[net]):
        train(net, verbose="bar", optimizer="rprop", validation_split=0.5)
    train(net, verbose=False)


# The history


def test_history_as_a_data_frame():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    history = train(network(3, 2), 3, metrics="mse", validation_data=OTHER)
    frame = history.to_pandas()
    assert frame.columns.tolist() == ["loss", "mse", "val_loss", "val_mse"]
    assert frame.index.tolist() == [0, 1, 2]
    assert frame.index.name == "epoch"
    assert frame.to_dict("list") == history
    assert isinstance(frame, pd.DataFrame)
    assert cnet.History(loss=[]).to_pandas().empty


def test_to_pandas_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with refused("to_pandas requires pandas: pip install pandas", error=ImportError):
        cnet.History(loss=[1.0]).to_pandas()


def test_histories_can_be_copied_and_pickled():
    history = train(network(3, 2), 3, metrics="mse")
    for twin in (copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert twin == history
        assert type(twin) is cnet.History
