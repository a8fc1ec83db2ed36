"""The number of threads, which does not change a single bit of any result."""

import os
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import network
from reference import LOSSES, Network

import cnet

DTYPES = ["float32", "float64"]
# The work exceeds MIN_PARALLEL_WORK per layer and batch; no size fills whole tiles or pieces. Weights
# are split into several pieces, and a step over all of them into several more.
SIZES = 101, 165, 121, 7
BATCH = 300
LARGE_BATCH = 900  # several blocks
COUNTS = [2, 3, 16]

# Imports the same cnet as this test, and helpers.py.
MODULES = os.pathsep.join([str(Path(cnet.__file__).parents[1]), str(Path(__file__).parent)])

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="counts threads in Linux's /proc"
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture(autouse=True)
def default_number():
    cnet.set_num_threads(None)
    yield
    cnet.set_num_threads(None)


@pytest.fixture
def cores(monkeypatch):
    """Return a function that makes this process see `n` cores, without OMP_NUM_THREADS."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def confine(n):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(n)), raising=False)

    confine(6)
    return confine


def run(code, **environment):
    """Return the output of a fresh interpreter; if it hangs, the test fails."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "", "PYTHONPATH": MODULES, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The number


def test_the_default_is_the_number_of_cores(cores):
    assert cnet.get_num_threads() == 6
    # The current number, not the number at import.
    cores(2)
    assert cnet.get_num_threads() == 2
    cores(200)
    assert cnet.get_num_threads() == 64


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("1", 1),
        ("4", 4),
        (" 3 ", 3),
        ("2,8", 2),
        ("6", 6),
        ("7", 6),
        ("1000000", 6),
        ("", 6),
        ("0", 6),
        ("-2", 6),
        ("2.5", 6),
        ("many", 6),
        (",2", 6),
    ],
)
def test_omp_num_threads_limits_the_default(cores, monkeypatch, variable, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert cnet.get_num_threads() == expected
    # An explicit setting takes precedence.
    cnet.set_num_threads(9)
    assert cnet.get_num_threads() == 9


@pytest.mark.parametrize(("count", "expected"), [(5, 5), (None, 1)])
def test_the_default_without_cpu_affinity(cores, monkeypatch, count, expected):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert cnet.get_num_threads() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_the_default_of_a_process():
    code = """
import os, cnet
allowed = os.sched_getaffinity(0)
print(cnet.get_num_threads() == min(len(allowed), 64))
os.sched_setaffinity(0, {min(allowed)})
print(cnet.get_num_threads())
os.sched_setaffinity(0, allowed)
print(cnet.get_num_threads() == min(len(allowed), 64))
"""
    assert run(code).split() == ["True", "1", "True"]
    assert run("import cnet; print(cnet.get_num_threads())", OMP_NUM_THREADS="1") == "1\n"


def test_set_and_get(cores):
    for n in (1, 3, 64, np.int64(5)):
        assert cnet.set_num_threads(n) is None
        assert cnet.get_num_threads() == n
        assert type(cnet.get_num_threads()) is int
    cnet.set_num_threads(None)
    assert cnet.get_num_threads() == 6


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (65, ValueError),
        (2**70, ValueError),
        (True, TypeError),
        (2.0, TypeError),
        (float("nan"), TypeError),
        ("2", TypeError),
        ([2], TypeError),
    ],
)
def test_invalid_numbers_of_threads_raise(value, error):
    cnet.set_num_threads(3)
    with pytest.raises(error, match=r"n must be .*(64|at least 1)") as caught:
        cnet.set_num_threads(value)
    assert str(value) in str(caught.value)
    assert cnet.get_num_threads() == 3
    with cnet.num_threads(5):
        with pytest.raises(error, match="n must be"), cnet.num_threads(value):
            raise AssertionError("the block was entered")
        assert cnet.get_num_threads() == 5
    assert cnet.get_num_threads() == 3


def test_the_context_manager(cores):
    for around, outside in [(None, 6), (4, 4)]:
        cnet.set_num_threads(around)
        with cnet.num_threads(2) as entered:
            assert entered is None
            assert cnet.get_num_threads() == 2
            with cnet.num_threads(7):
                assert cnet.get_num_threads() == 7
            assert cnet.get_num_threads() == 2
        assert cnet.get_num_threads() == outside
        with pytest.raises(KeyError), cnet.num_threads(3):
            raise KeyError
        assert cnet.get_num_threads() == outside


def test_the_context_manager_overrides_a_setting_made_within(cores):
    with cnet.num_threads(2):
        cnet.set_num_threads(5)
        assert cnet.get_num_threads() == 2
    assert cnet.get_num_threads() == 5


def test_the_context_manager_applies_to_one_python_thread(cores):
    cnet.set_num_threads(4)
    met = threading.Barrier(2, timeout=20)
    seen = {}

    def other():
        seen["before"] = cnet.get_num_threads()
        with cnet.num_threads(5):
            met.wait()  # both are in their blocks
            seen["within"] = cnet.get_num_threads()
            met.wait()
        seen["after"] = cnet.get_num_threads()

    thread = threading.Thread(target=other)
    with cnet.num_threads(2):
        thread.start()
        met.wait()
        seen["here"] = cnet.get_num_threads()
        met.wait()
        thread.join()
        assert cnet.get_num_threads() == 2
    assert seen == {"before": 4, "within": 5, "after": 4, "here": 2}


# The threads


COUNTING = """
import os
import numpy as np
import cnet
from helpers import network

def threads():
    return len(os.listdir("/proc/self/task"))

x = np.random.default_rng(0).random((900, 101), np.float32)
y = np.arange(900) % 7
net = network(101, 165, 121, 7, output="softmax", dtype="float32")

def train(n=300, **settings):
    net.train(x[:n], y[:n], 0.01, 1, batch_size=n, verbose=False, **settings)
"""


@needs_proc
def test_the_requested_number_of_threads_is_started_if_there_is_work():
    code = """
before = threads()
cnet.set_num_threads(1)
train()
net.predict(x)
print(threads() - before)
cnet.set_num_threads(8)
small = network(4, 8, 3, output="softmax", dtype="float32")
small.train(x[:, :4], y % 3, epochs=2, batch_size=32, verbose=False)
small.predict(x[:, :4])
net.predict(x[0])
print(threads() - before)
# Each call may use one thread more than the one before, which is hired for it alone.
for count, call in enumerate([
    lambda: net.predict(x),
    lambda: net.predictor()(x),
    lambda: net.evaluate(x, y),
    lambda: net.loss_and_gradient(x, y),
    lambda: net.input_gradient(x, y),
    lambda: train(),
    lambda: train(900, optimizer="adam"),
    lambda: train(optimizer=cnet.Adam(clip_norm=1.0)),
    lambda: train(loss=lambda t, a: (0.0, a - t)),
], 2):
    with cnet.num_threads(count):
        call()
    print(threads() - before)
# Less is asked for: nobody leaves, nobody comes.
cnet.set_num_threads(2)
train()
print(threads() - before)
"""
    assert run(COUNTING + code).split() == [str(n) for n in (0, 0, *range(1, 10), 9)]


def large(dtype, output="softmax", **settings):
    return network(*SIZES, hidden="gelu", output=output, dtype=dtype, **settings)


def inputs(n, dtype):
    return np.random.default_rng(1).normal(size=(n, SIZES[0])).astype(dtype)


def targets(n, labels):
    values = np.random.default_rng(2).random((n, SIZES[-1]))
    return values.argmax(axis=1) if labels else values / values.sum(axis=1, keepdims=True)


def error_and_gradient(y_true, y_pred):
    return float(np.sum((y_pred - y_true) ** 2)), 2 * (y_pred - y_true)


def trained(dtype, batch_size, optimizer, *, labels=True, **settings):
    net = large(dtype)
    n = batch_size + 37  # the last batch is shorter
    history = net.train(
        inputs(n, dtype),
        targets(n, labels),
        0.01,
        2,
        batch_size=batch_size,
        optimizer=optimizer,
        verbose=False,
        **settings,
    )
    return net.parameters, net.trainer.state.moments, history["loss"]


CALLS = {
    "sgd": lambda dtype: trained(dtype, BATCH, "sgd"),
    "sgd, large batch": lambda dtype: trained(dtype, LARGE_BATCH, "sgd", labels=False),
    "momentum, clip_norm": lambda dtype: trained(
        dtype, BATCH, cnet.SGD(momentum=0.9, clip_norm=0.1)
    ),
    "adam": lambda dtype: trained(dtype, BATCH, "adam", labels=False),
    "adam, large batch": lambda dtype: trained(dtype, LARGE_BATCH, "adam"),
    "adam, clip_norm": lambda dtype: trained(dtype, BATCH, cnet.Adam(clip_norm=0.1)),
    "rprop, sample_weight": lambda dtype: trained(
        dtype, BATCH, "rprop", sample_weight=np.linspace(0, 2, BATCH + 37)
    ),
    "function": lambda dtype: trained(dtype, LARGE_BATCH, "adam", loss=error_and_gradient),
    "predict": lambda dtype: [large(dtype).predict(inputs(LARGE_BATCH, dtype))],
    "predictor": lambda dtype: [large(dtype).predictor()(inputs(LARGE_BATCH, dtype))],
    "activations": lambda dtype: large(dtype).activations(inputs(BATCH, dtype)),
    "loss_and_gradient": lambda dtype: large(dtype).loss_and_gradient(
        inputs(LARGE_BATCH, dtype), targets(LARGE_BATCH, False)
    ),
    "loss_and_gradient, function": lambda dtype: large(dtype).loss_and_gradient(
        inputs(LARGE_BATCH, dtype), targets(LARGE_BATCH, False), loss=error_and_gradient
    ),
    "input_gradient": lambda dtype: [
        large(dtype).input_gradient(inputs(LARGE_BATCH, dtype), targets(LARGE_BATCH, True))
    ],
    "evaluate": lambda dtype: list(
        large(dtype).evaluate(inputs(LARGE_BATCH, dtype), targets(LARGE_BATCH, True)).values()
    ),
}


def bits(values):
    return [np.asarray(value).tobytes() for value in values]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", CALLS)
def test_the_same_bits_for_any_number_of_threads(call, dtype):
    with cnet.num_threads(1):
        alone = bits(CALLS[call](dtype))
    for count in COUNTS:
        with cnet.num_threads(count):
            assert bits(CALLS[call](dtype)) == alone, count


@pytest.mark.parametrize("sizes", [(40, 300, 1), (3, 2000, 2), (700, 30), (257, 96, 96, 33)])
def test_shapes(sizes):
    """Products that are split by rows only, by columns only, and into very few parts."""
    x = np.random.default_rng(3).normal(size=(BATCH, sizes[0])).astype("float32")
    y = np.random.default_rng(4).random((BATCH, sizes[-1]))

    def compute():
        net = network(*sizes, output="linear", dtype="float32")
        history = net.train(x, y, epochs=2, batch_size=None, optimizer="adam", verbose=False)
        return bits([net.parameters, history["loss"], net.predict(x), net.input_gradient(x, y)])

    with cnet.num_threads(1):
        alone = compute()
    for count in (2, 7, 64):
        with cnet.num_threads(count):
            assert compute() == alone, count


def test_threads_against_numpy():
    net = large("float64")
    x, y = inputs(LARGE_BATCH, "float64"), targets(LARGE_BATCH, False)
    reference = Network.like(net)
    with cnet.num_threads(3):
        loss, gradient = net.loss_and_gradient(x, y)
        by_inputs = net.input_gradient(x, y)
        outputs = net.predict(x)
    expected = reference.loss_and_gradients(x, y, LOSSES["cross_entropy"])
    np.testing.assert_allclose(loss, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(by_inputs, expected[2], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(outputs, reference.predict(x), rtol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
def test_python_threads_that_train_in_parallel(dtype):
    """All of them share one thread pool; a caller that finds it busy works alone."""

    def compute(seed):
        net = large(dtype, seed=seed)
        x, y = inputs(BATCH, dtype), targets(BATCH, True)
        with cnet.num_threads(2):
            net.train(x, y, 0.01, 6, batch_size=100, optimizer="adam", verbose=False)
            return bits([net.parameters, net.history["loss"], net.predict(x)])

    one_by_one = [compute(seed) for seed in range(4)]
    together = [None] * 4
    started = threading.Barrier(4, timeout=20)

    def work(seed):
        started.wait()
        together[seed] = compute(seed)

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == one_by_one
    assert all(a != b for a, b in pairwise(one_by_one))


# Fork, in a separate process that pytest's threads and earlier tests have not touched.


FORKING = (
    COUNTING
    + """
import multiprocessing, signal, sys, threading, traceback

cnet.set_num_threads(3)

def result(i=0):
    train(optimizer="adam")
    return net.parameters.tobytes() + net.predict(x).tobytes()

def in_child(function):
    \"\"\"Return what the function returns in a child, or stop with it.\"\"\"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Whatever happens, the child ends here.
        try:
            signal.alarm(20)
            os.close(reading)
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(function())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, "the child failed, or hung"
    return found
"""
)


@needs_fork
@needs_proc
def test_a_forked_process_has_its_own_threads():
    code = """
result()

def child():
    alone = threads()
    found = result()
    assert (alone, threads()) == (1, 3), (alone, threads())
    # A child of the child, too.
    copied = net.parameters.copy()
    assert in_child(result) == result()
    return found

found = in_child(child)
# Here nothing has changed, and the threads go on.
assert result() == found
assert in_child(result) == result()
print("same")
"""
    assert run(FORKING + code) == "same\n"


@needs_fork
@needs_proc
def test_fork_while_another_thread_trains():
    """The child's pool must not wait for a caller or a lock that exists only in the parent."""
    code = """
busy = network(101, 165, 121, 7, output="softmax", dtype="float32")
stop = False
started = threading.Event()

def work():
    while not stop:
        busy.train(x, y, 0.01, 20, batch_size=300, verbose=False, callbacks=[note])

def note(*_):
    started.set()
    return stop

with cnet.num_threads(1):
    expected = net.copy()
    expected.train(x[:300], y[:300], 0.01, 1, batch_size=300, optimizer="adam", verbose=False)
    expected = expected.parameters.tobytes() + expected.predict(x).tobytes()
other = threading.Thread(target=work)
other.start()
assert started.wait(20)

def child():
    found = result()
    assert threads() == 3, threads()
    return found

try:
    for i in range(12):
        assert in_child(child) == expected, i
finally:
    stop = True
    other.join()
assert result() == expected
print("same")
"""
    assert run(FORKING + code) == "same\n"


@needs_fork
def test_multiprocessing():
    code = """
result()
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map_async(result, range(2), chunksize=1).get(40)
mine = result()
# One process may have taken both.
assert mine in found and set(found) <= {mine, result()}
print("same")
"""
    assert run(FORKING + code) == "same\n"
