"""Guards against rare events: overflowing moments, bools as rates, other threads."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import network, unchanged

import cnet

PACKAGE = str(Path(cnet.__file__).parent)


# Moments of the optimizer that overflow


def overflowing(dtype):
    """Return a network and a row whose Adam step overflows nothing but the squared gradient.

    The output is 0 and the target 1, so the loss is 1 and the gradient of the weight is minus the
    input. Its square is infinite. The step divides by its root and leaves the weight at 0.
    """
    net = cnet.NeuralNetwork(cnet.Layer(1, 1, "linear", bias=False), seed=0, dtype=dtype)
    net.parameters[...] = 0
    return net, np.full((1, 1), {"float32": 1e30, "float64": 1e200}[dtype]), np.ones((1, 1))


HOW = {"loss": "absolute_error", "optimizer": "adam"}
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@dtypes
@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("called", ["after training", "after epochs", "after batches"])
def test_train_raises_when_a_moment_overflows(dtype, epochs, called):
    net, x, y = overflowing(dtype)
    method = {"training": "on_train_end", "epochs": "on_epoch_end", "batches": "on_batch_end"}
    callback = cnet.Callback()
    setattr(callback, method[called.removeprefix("after ")], lambda *arguments: None)
    with pytest.raises(cnet.DivergenceError) as caught:
        net.train(x, y, epochs=epochs, callbacks=callback, verbose=False, **HOW)
    assert caught.value.epoch == 0
    assert net.history == {"loss": []}
    assert net.parameters[0] == 0


@dtypes
def test_train_raises_when_a_moment_overflows_with_a_function_as_loss(dtype):
    def absolute_error(y_true, y_pred):
        return np.abs(y_pred - y_true).mean(), np.sign(y_pred - y_true) / len(y_true)

    net, x, y = overflowing(dtype)
    with pytest.raises(cnet.DivergenceError):
        net.train(x, y, epochs=1, verbose=False, optimizer="adam", loss=absolute_error)
    assert net.parameters[0] == 0


@dtypes
@pytest.mark.parametrize("steps_before", [0, 1], ids=["first call", "later call"])
def test_train_one_raises_when_a_moment_overflows(dtype, steps_before):
    net, x, y = overflowing(dtype)
    for _ in range(steps_before):
        net.train_one(np.zeros(1), y[0], **HOW)
    with pytest.raises(cnet.DivergenceError):
        net.train_one(x[0], y[0], **HOW)
    assert net.parameters[0] == 0
    # The state starts again from zero. A moment that stays infinite would stop the weight for good.
    net.train_one(np.ones(1), y[0], **HOW)
    assert net.parameters[0] == pytest.approx(1e-3)


# Bools as learning rate


@pytest.mark.parametrize("rate", [True, False, np.True_, np.False_], ids=repr)
@pytest.mark.parametrize("rate_before", [None, "none", "equal", "other"])
def test_train_one_rejects_a_bool_as_learning_rate(rate, rate_before):
    """Python and NumPy take True for 1 and False for 0, also in comparisons with an earlier rate."""
    net = network(3, 4, 2)
    x, y = np.ones(3), np.full(2, 0.5)
    if rate_before == "none":
        net.train_one(x, y)
    elif rate_before is not None:
        net.train_one(x, y, float(rate) + (0.5 if rate_before == "other" else 0))
    with unchanged(net), pytest.raises(TypeError, match="learning_rate must be"):
        net.train_one(x, y, rate)


# Another thread, at every line of train_one


def in_another_thread(call):
    """Run a call in another thread until it ends; return the error that it raised, or None."""
    errors = []

    def run():
        try:
            call()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors[0] if errors else None


class AtLine:
    """Runs `call` in another thread, once, when this thread reaches line `number` of cnet's code.

    ``error`` is what the call raised, and ``lines`` the number of lines of cnet that this thread ran.
    """

    def __init__(self, number, call):
        self.number, self.call = number, call
        self.lines = 0
        self.error = None

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exception):
        sys.settrace(self._before)

    def _trace(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            if self.lines == self.number:
                self.error = in_another_thread(self.call)
            self.lines += 1
        return self._trace


ROW, TARGET = np.array([0.5, -0.25, 1.0]), np.array([0.25, 0.75])
ROWS = np.random.default_rng(1).normal(size=(5, 3))
TARGETS = np.random.default_rng(2).uniform(size=(5, 2))

# The first takes the fast path, and the second checks everything.
STEPS = {
    "arrays": lambda net: net.train_one(ROW, TARGET),
    "lists": lambda net: net.train_one(
        ROW.tolist(), TARGET.tolist(), 0.05, optimizer="adam", loss="squared_error"
    ),
}
INTRUSIONS = {
    "adds a layer": lambda net: net.add_layer(2),
    "trains": lambda net: net.train(
        ROWS, TARGETS, 0.1, 2, optimizer="rmsprop", loss="huber", verbose=False
    ),
    "trains one row": lambda net: net.train_one(
        ROWS[0], TARGETS[0], 0.1, optimizer="rmsprop", loss="huber"
    ),
}


def primed():
    """Return a network that has learnt a row, so that the next row takes the fast path."""
    net = network(3, 4, 2)
    net.train_one(ROW, TARGET, optimizer=cnet.SGD(0.5, momentum=0.9), loss="squared_error")
    net.train_one(ROW, TARGET)
    return net


def outcome(net):
    """Return the state of the network, and its state after further training."""
    later = net.copy()
    later.train(ROWS, TARGETS, epochs=2, verbose=False)
    return (
        len(net.layers),
        net.parameters.tobytes(),
        net.history,
        later.parameters.tobytes(),
        later.history,
    )


def after(*calls):
    """Return the outcome of these calls, one after the other."""
    net = primed()
    for call in calls:
        call(net)
    return outcome(net)


@pytest.mark.parametrize("intrusion", INTRUSIONS)
@pytest.mark.parametrize("step", STEPS)
def test_train_one_is_one_step_whenever_another_thread_interferes(step, intrusion):
    """Either one call comes after the other, or one of them raises RuntimeError and does nothing."""
    step, intrude = STEPS[step], INTRUSIONS[intrusion]
    both = [after(intrude, step), after(step, intrude)]
    only_step, only_intrusion = after(step), after(intrude)
    found = set()
    number = 0
    while True:
        net = primed()
        refused = None
        # Assigned here, so that the former network is not freed while lines are counted.
        at_line = AtLine(number, lambda net=net: intrude(net))
        with at_line:
            try:
                step(net)
            except RuntimeError as error:
                refused = error
        lines = at_line.lines
        if number >= lines:
            break
        where = f"line {number} of {lines}: step raised {refused!r}, other {at_line.error!r}"
        assert at_line.error is None or isinstance(at_line.error, RuntimeError), where
        assert refused is None or at_line.error is None, where
        if refused is not None:
            assert outcome(net) == only_intrusion, where
            found.add("step refused")
        elif at_line.error is not None:
            assert outcome(net) == only_step, where
            found.add("intrusion refused")
        else:
            assert outcome(net) in both, where
            found.add("both")
        number += 1
    # Both lines before the lock is taken and lines that hold it were tried.
    assert number > 4
    assert {"both", "intrusion refused"} <= found


class Intruding:
    """An array-like that runs a call in another thread while NumPy converts it."""

    def __init__(self, values, call):
        self.values, self.call = values, call
        self.calls = 0

    def __array__(self, dtype=None, copy=None):
        if self.calls == 0:
            self.error = in_another_thread(self.call)
        self.calls += 1
        return np.asarray(self.values, dtype)


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize("before", [network, primed], ids=["first call", "later call"])
def test_train_one_raises_when_a_layer_is_added_while_it_reads_its_arguments(which, before):
    def start():
        return network(3, 4, 2) if before is network else primed()

    net, expected = start(), start()
    expected.add_layer(2)
    x, y = ROW, TARGET
    if which == "x":
        x = intruding = Intruding(x, lambda: net.add_layer(2))
    else:
        y = intruding = Intruding(y, lambda: net.add_layer(2))
    with pytest.raises(RuntimeError):
        net.train_one(x, y)
    assert intruding.calls == 1
    assert intruding.error is None
    assert outcome(net) == outcome(expected)


@pytest.mark.parametrize("which", ["x", "y"])
def test_train_one_follows_a_training_that_runs_while_it_reads_its_arguments(which):
    net = primed()
    how = {"learning_rate": 0.05, "optimizer": "adam", "loss": "squared_error"}
    x, y = ROW, TARGET
    if which == "x":
        x = Intruding(x, lambda: INTRUSIONS["trains"](net))
    else:
        y = Intruding(y, lambda: INTRUSIONS["trains"](net))
    net.train_one(x, y, **how)
    assert outcome(net) == after(
        INTRUSIONS["trains"], lambda net: net.train_one(ROW, TARGET, **how)
    )
