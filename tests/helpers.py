"""What the tests of arrays, networks and training have in common."""

import functools
import os
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

import cnet


def network(*sizes, hidden="tanh", output="sigmoid", seed=0, dtype="float64", **settings):
    """Return a network of these sizes, the inputs first, with a softmax or the like at the end."""
    net = cnet.NeuralNetwork(seed=seed, dtype=dtype).add_layer(sizes[0], input_layer=True)
    for size in sizes[1:-1]:
        net.add_layer(size, hidden, **settings)
    return net.add_layer(sizes[-1], output, **settings)


def everything(value):
    """All that a network is, in things to compare: weights, program, optimizer state, random numbers.

    Arrays are compared by their bytes, objects by their attributes.
    """
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, dict):
        return {key: everything(item) for key, item in value.items()}
    if isinstance(value, list):
        return [everything(item) for item in value]
    if isinstance(value, type(threading.Lock())):
        return value.locked()
    if hasattr(value, "__dict__") and not callable(value):
        return type(value), everything(vars(value))
    return value


@contextmanager
def unchanged(*networks):
    """Fail where the block changes anything about the networks."""
    before = [everything(net) for net in networks]
    histories = [net.history for net in networks]
    yield
    assert [everything(net) for net in networks] == before
    # The same object, not only an equal one.
    assert all(net.history is history for net, history in zip(networks, histories, strict=True))


@contextmanager
def refused(*words, error=ValueError, of=()):
    """Expect an error of just this type whose message has all the words: what, got, wanted.

    Networks in `of` must come out of it as they went in.
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

    Builds with sanitizers or bounds checks are, and so is a core whose caches others use.
    """
    net = network(64, 500, 500, 10, dtype="float32")
    x = np.zeros((2000, 64), np.float32)
    times = []
    for _ in range(3):
        start = time.process_time()
        net.predict(x)
        times.append(time.process_time() - start)
    # 574 million multiplications by vectors of 4 numbers.
    return max(1, min(times) / 0.05)
