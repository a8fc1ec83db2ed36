"""Helpers shared by the tests of arrays, networks and training."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

import cnet


def network(*sizes, hidden="tanh", output="sigmoid", seed=0, dtype="float64", **settings):
    """Return a network with these sizes, including the inputs, and this output activation."""
    net = cnet.NeuralNetwork(seed=seed, dtype=dtype).add_layer(sizes[0], input_layer=True)
    for size in sizes[1:-1]:
        net.add_layer(size, hidden, **settings)
    return net.add_layer(sizes[-1], output, **settings)


def everything(value):
    """Return the complete state of a network in a comparable form, including the random state.

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
    """Fail if the block changes anything about the networks."""
    before = [everything(net) for net in networks]
    histories = [net.history for net in networks]
    yield
    assert [everything(net) for net in networks] == before
    # The same object, not just an equal one.
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
    """Ctrl-C, sent to this process after `delay` seconds, and how long ago that was.

    How long is counted in seconds of this process's own, so that what else the machine has to do does
    not matter.
    """

    def __init__(self, delay):
        self._sent = None
        self._timer = threading.Timer(delay, self._send)

    def _send(self):
        self._sent = time.process_time()
        os.kill(os.getpid(), signal.SIGINT)

    def __enter__(self):
        self._timer.start()
        return self

    def __exit__(self, *exception):
        self._timer.cancel()
        self._timer.join()

    @property
    def age(self):
        """Seconds of CPU time since Ctrl-C; None if it has not been sent."""
        return None if self._sent is None else time.process_time() - self._sent
