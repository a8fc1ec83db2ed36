"""What the tests of arrays, networks and training have in common."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

import cnet
from cnet._plan import Plan


def network(*sizes, hidden="tanh", output="sigmoid", seed=0, dtype="float64", **settings):
    """Return a network of these sizes, the inputs first, with a softmax or the like at the end."""
    net = cnet.NeuralNetwork(seed=seed, dtype=dtype).add_layer(sizes[0], input_layer=True)
    for size in sizes[1:-1]:
        net.add_layer(size, hidden, **settings)
    return net.add_layer(sizes[-1], output, **settings)


def in_blocks_of(rows, *networks):
    """Make the engine take so many rows at a time through the layers of these networks."""
    for net in networks:
        net.trainer.use_plan(Plan(net.model, block_rows=rows))


class AtOnce(cnet.Callback):
    """Lets so many epochs run before it is called."""

    def __init__(self, epochs):
        self.epochs = epochs

    @property
    def epochs_at_once(self):
        return self.epochs


def everything(value):
    """Return all that a network consists of, for comparison: layers, weights, optimizer, random numbers.

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
        """Seconds since Ctrl-C; None where it has not been sent."""
        return None if self._sent is None else time.process_time() - self._sent
