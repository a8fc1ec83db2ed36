"""Memory that training and prediction take in addition to the user's arrays, measured by tracemalloc.

NumPy reports its arrays to tracemalloc, and the engine allocates nothing.
"""

import tracemalloc
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import network

import cnet

# Per thread: a panel, some rows of a tile, and the gradient of a piece of a layer, which is at most
# 98,304 numbers and one row.
PANELS = 600_000
# Python objects: settings, the history, the table of layers.
OBJECTS = 50_000
ITEM = 4  # bytes of a float32


@contextmanager
def measured():
    """Yield an object that receives the block's peak memory and the memory it leaves allocated."""
    found = SimpleNamespace()
    tracemalloc.start()
    try:
        yield found
        found.left, found.peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


def numbers(n, width):
    return np.random.default_rng(0).random((n, width), np.float32)


def labels(n):
    return np.arange(n) % 10


def activations(sizes):
    """Return the bytes of a row's inputs and of every layer's outputs."""
    return sum(sizes) * ITEM


@pytest.mark.parametrize(
    ("optimizer", "batch_size", "copies"),
    [
        # Adam's two moments, and the weights of the last finished epoch.
        ("adam", 128, 3),
        # The complete gradient as well.
        (cnet.Adam(clip_norm=1.0), 128, 4),
        ("adam", None, 4),
        ("sgd", 128, 1),
        (cnet.SGD(momentum=0.9), 1, 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sizes", [(784, 256, 10), (300, 1500, 1000, 10)], ids=str)
def test_training(sizes, threads, optimizer, batch_size, copies):
    net = network(*sizes, hidden="relu", output="softmax", dtype="float32")
    n = 1100 if batch_size is None else 3 * batch_size + 5
    x, y = numbers(n, sizes[0]), labels(n)
    parameters = net.parameters.nbytes
    block = min(n, batch_size or 512)
    allowed = 2 * block * activations(sizes) + threads * PANELS + OBJECTS
    # A layer's deltas in panels, padded to the widest tile.
    allowed += block * (max(sizes[1:]) + 32) * ITEM
    # The order of rows, and the engine's copy of the labels.
    allowed += n * 16
    with cnet.num_threads(threads), measured() as first:
        net.train(x, y, epochs=1, batch_size=batch_size, optimizer=optimizer, verbose=False)
    assert copies * parameters < first.peak < copies * parameters + allowed
    # Only the optimizer's state remains.
    moments = net.trainer.state.moments.nbytes
    assert moments <= first.left < moments + OBJECTS
    with cnet.num_threads(threads), measured() as second:
        net.train(x, y, epochs=2, batch_size=batch_size, verbose=False)
    assert second.peak < copies * parameters - moments + allowed
    assert second.left < OBJECTS


def test_shuffling_takes_an_index_for_each_row():
    net = network(2, 3, 2, output="softmax", dtype="float32")
    x, y = np.zeros((300_000, 2), np.float32), np.zeros(300_000, np.intp)

    def peak(**settings):
        with measured() as found:
            net.train(x, y, batch_size=3000, verbose=False, **settings)
        return found.peak

    straight = peak(epochs=3, shuffle=False)
    # A block of 512 rows: inputs, targets, two deltas, outputs and z, with a cache line each.
    block = 512 * 7 * 16 * ITEM
    # The engine's copy of the labels.
    assert straight < y.nbytes + OBJECTS + 100_000 + block
    # One order of rows in total, not one per epoch.
    assert y.nbytes - OBJECTS < peak(epochs=3) - straight < y.nbytes + OBJECTS


# A large x, compared with which nothing else matters.
N, WIDTH = 40_000, 200
LAYOUTS = {
    "whole": lambda x: x,
    "rows of a larger one": lambda x: np.concatenate([x, x])[100 : 100 + N],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}
CALLS = {
    "train": lambda net, x, y: net.train(x, y, epochs=1, batch_size=500, verbose=False),
    "train, in order": lambda net, x, y: net.train(
        x, y, epochs=1, batch_size=500, shuffle=False, optimizer="adam", verbose=False
    ),
    "train, full batch": lambda net, x, y: net.train(
        x, y, epochs=1, batch_size=None, verbose=False
    ),
    "train, function": lambda net, x, y: net.train(
        x, y, epochs=1, batch_size=500, loss=lambda t, a: (0.0, a - t), verbose=False
    ),
    "predict": lambda net, x, y: net.predict(x),
    "predict_class": lambda net, x, y: net.predict_class(x),
    "predictor": lambda net, x, y: net.predictor()(x),
    "evaluate": lambda net, x, y: net.evaluate(x, y),
    "loss_and_gradient": lambda net, x, y: net.loss_and_gradient(x, y),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_x_is_not_copied(call, layout):
    net = network(WIDTH, 8, 3, hidden="relu", output="softmax", dtype="float32")
    x, y = layout(numbers(N, WIDTH)), np.arange(N) % 3
    with cnet.num_threads(1), measured() as found:
        call(net, x, y)
    # Outputs, targets, the order of rows and the activations of a block.
    assert found.peak < x.nbytes / 10


def test_the_measurement_detects_a_copy():
    net = network(WIDTH, 8, 3, hidden="relu", output="softmax", dtype="float32")
    x = numbers(N, WIDTH)
    with measured() as found:
        net.predict(np.asfortranarray(x))
    assert found.peak > x.nbytes
