"""Helpers shared by the tests of arrays, networks and training."""

import functools
import os
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

import cnet
from cnet import _plan
from cnet._plan import Plan


def network(*sizes, hidden="tanh", output="sigmoid", seed=0, dtype="float64", **settings):
    """Return a network with these sizes, including the inputs, and this output activation."""
    net = cnet.NeuralNetwork(seed=seed, dtype=dtype).add_layer(sizes[0], input_layer=True)
    for size in sizes[1:-1]:
        net.add_layer(size, hidden, **settings)
    return net.add_layer(sizes[-1], output, **settings)


def in_blocks_of(rows, *networks):
    """Set the number of rows that pass through the layers of these networks together."""
    for net in networks:
        net.trainer.use_plan(Plan(net.model, block_rows=rows))


class AtOnce(cnet.Callback):
    """Allows a given number of epochs to run before each call."""

    def __init__(self, epochs):
        self.epochs = epochs

    @property
    def epochs_at_once(self):
        return self.epochs


def interrupt_after(monkeypatch, finished, group):
    """Make the engine's next call, for `group` epochs, end with Ctrl-C after some of them."""
    train = _plan.Job.train

    def interrupted(job, data, order, seeds, rates, totals, watcher=None):
        assert len(totals) == group
        if finished:
            n_steps = len(rates) // group
            train(
                job,
                data,
                None if order is None else order[:finished],
                None if seeds is None else seeds[:finished],
                rates[: finished * n_steps] if len(rates) > 1 else rates,
                totals[:finished],
            )
        raise KeyboardInterrupt

    monkeypatch.setattr(_plan.Job, "train", interrupted)


def everything(value):
    """Return the complete state of a network in a comparable form, including the random state.

    Arrays are compared by their bytes, objects by their attributes.
    """
    if isinstance(value, cnet.NeuralNetwork):
        state = {
            **value.__getstate__(),
            "loss": value.trainer.loss,
            "busy": value.trainer.is_training,
        }
        return type(value), everything(state)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, dict):
        return {key: everything(item) for key, item in value.items()}
    if isinstance(value, list):
        return [everything(item) for item in value]
    if hasattr(value, "__dict__") and not callable(value):
        return type(value), everything(vars(value))
    return value


def without_history(net):
    """Return everything about a network except its history."""
    kind, state = everything(net)
    del state["trainer"]["history"]
    return kind, state


@contextmanager
def unchanged(*networks):
    """Fail if the block changes anything about the networks."""
    before = [everything(net) for net in networks]
    histories = [net.history for net in networks]
    yield
    assert [everything(net) for net in networks] == before
    # It must be the same object, not just an equal one.
    assert all(net.history is history for net, history in zip(networks, histories, strict=True))


@contextmanager
def refused(*words, error=ValueError, of=()):
    """Expect an error of exactly this type whose message contains all the words.

    The networks in `of` must be unchanged afterwards.
    """
    with unchanged(*of), pytest.raises(error) as caught:
        yield
    assert caught.type is error
    message = str(caught.value)
    assert all(str(word) in message for word in words), message


class Interruption:
    """Ctrl-C, sent once this process has used `delay` more seconds of CPU time.

    Start it from inside the call that it interrupts: from a callback, or with `Reader` while the call
    reads its arguments. All times are CPU times of this process, so a busy machine changes nothing.
    """

    def __init__(self, delay):
        self._delay = delay
        self._sent = None
        self._cancelled = threading.Event()
        self._timer = threading.Thread(target=self._send)

    def start(self):
        """Start the timer; a second call changes nothing."""
        if self._timer.ident is None:
            self._due = time.process_time() + self._delay
            self._timer.start()

    def _send(self):
        while time.process_time() < self._due:
            if self._cancelled.wait(0.002):
                return
        self._sent = time.process_time()
        os.kill(os.getpid(), signal.SIGINT)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._cancelled.set()
        if self._timer.ident is not None:
            self._timer.join()

    @property
    def age(self):
        """Seconds of CPU time since Ctrl-C; None if it has not been sent."""
        return None if self._sent is None else time.process_time() - self._sent


class InterruptTraining(cnet.Callback):
    """Starts an `Interruption` when an epoch begins."""

    def __init__(self, interruption, epoch=0):
        self.interruption, self.epoch = interruption, epoch

    def on_epoch_begin(self, network, epoch):
        if epoch == self.epoch:
            self.interruption.start()


class Reader:
    """An array-like that calls a function when NumPy reads it."""

    def __init__(self, values, call):
        self.values, self.call = values, call

    def __array__(self, dtype=None, copy=None):
        self.call()
        return np.asarray(self.values, dtype)


@functools.cache
def slowness():
    """Return how much slower than an ordinary build on an ordinary machine the engine is; at least 1.

    It is slower in builds with sanitizers or bounds checks, and on a core that shares its caches.
    """
    net = network(64, 500, 500, 10, dtype="float32")
    x = np.zeros((2000, 64), np.float32)
    times = []
    for _ in range(3):
        start = time.process_time()
        net.predict(x)
        times.append(time.process_time() - start)
    # This makes 574 million multiplications, in vectors of 4 numbers.
    return max(1, min(times) / 0.05)
