"""The one step: the ways that take it, the paths it takes, and the seam for several processes."""

import ctypes

import numpy as np
import pytest
from helpers import in_blocks_of, network

import cnet
from cnet import _plan
from cnet.data import as_data

rng = np.random.default_rng(5)
X = rng.normal(size=(40, 6)).astype(np.float32)
Y = rng.uniform(0.1, 0.9, (40, 3)).astype(np.float32)


def half_squared_error(y_true, y_pred):
    """The built-in loss of a batch, with the engine's own formula for the gradient."""
    difference = y_pred - y_true
    scale = y_pred.dtype.type(1 / len(y_pred))
    return 0.5 * float((difference.astype(float) ** 2).sum()) / len(y_pred), scale * difference


def train(net, **settings):
    how = {"learning_rate": 0.05, "epochs": 3, "verbose": False, "loss": "squared_error"}
    return net.train(X, Y, **{**how, **settings})


SIZES = [(6, 8, 3), (6, 40, 30, 3)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("batch_size", [1, 7, None])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", cnet.SGD(clip_norm=0.1)], ids=str)
def test_a_loss_in_python_takes_the_same_step(sizes, dropout, batch_size, optimizer):
    """With the same masks and the same bits, also in narrow networks and for single rows."""
    one, other = (
        network(*sizes[:-1], hidden="tanh", dtype="float32", dropout=dropout).add_layer(sizes[-1])
        for _ in range(2)
    )
    how = {"batch_size": batch_size, "optimizer": optimizer}
    losses = train(one, **how)["loss"]
    np.testing.assert_allclose(
        train(other, loss=half_squared_error, **how)["loss"], losses, rtol=1e-6
    )
    np.testing.assert_array_equal(other.parameters, one.parameters)


@pytest.mark.parametrize("loss", ["squared_error", half_squared_error])
def test_a_loss_in_python_of_several_blocks(loss):
    one, other = (network(6, 20, 20, dtype="float32", dropout=0.5).add_layer(3) for _ in range(2))
    in_blocks_of(16, one, other)
    train(one, batch_size=40)
    train(other, batch_size=40, loss=loss)
    np.testing.assert_array_equal(other.parameters, one.parameters)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_train_one_takes_the_same_step(dropout):
    nets = [network(6, 8, dropout=dropout).add_layer(3) for _ in range(3)]
    how = {"batch_size": 1, "epochs": 1, "shuffle": False, "optimizer": "adam"}
    train(nets[0], **how)
    train(nets[1], loss=half_squared_error, **how)
    for x, y in zip(X, Y, strict=True):
        nets[2].train_one(x, y, 0.05, optimizer="adam", loss="squared_error")
    np.testing.assert_array_equal(nets[2].parameters, nets[0].parameters)
    np.testing.assert_allclose(nets[1].parameters, nets[0].parameters, rtol=1e-12)


def test_batch_callbacks_take_the_same_step():
    class Watch(cnet.Callback):
        def on_batch_begin(self, network, batch):
            seen.append(batch)

    seen = []
    one, other = (network(6, 8, dropout=0.5).add_layer(3) for _ in range(2))
    train(one, batch_size=16)
    train(other, batch_size=16, callbacks=Watch())
    np.testing.assert_array_equal(other.parameters, one.parameters)
    assert seen == [0, 1, 2] * 3


# Paths, asked of the engine


def run_of(net, x, y, batch_size, optimizer=None, **settings):
    """Return the engine's run for a training by batches."""
    plan = net.trainer.plan
    state = (optimizer or cnet.SGD()).start(len(plan.parameters), plan.dtype, 0.1)
    data = as_data(
        x,
        y,
        None,
        n_inputs=plan.n_inputs,
        n_outputs=plan.n_outputs,
        dtype=plan.dtype,
        loss=cnet.SquaredError(),
    )
    return _plan.Job(plan, cnet.SquaredError(), state, batch_size, **settings).run(data)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "settings", "transposed"),
    [
        ((6, 8, 3), 40, {}, True),
        ((6, 16, 3), 40, {}, True),
        ((6, 17, 3), 40, {}, False),
        ((6, 8, 3), 1, {}, False),
        ((6, 8, 3), 40, {"dropout": 0.5}, False),
    ],
)
def test_narrow_networks_are_trained_transposed(sizes, batch_size, settings, transposed):
    net = network(*sizes[:-1], dtype="float32", **settings).add_layer(sizes[-1])
    assert run_of(net, X, Y, batch_size).transposed is transposed


def test_narrow_networks_with_a_skip_connection_are_trained_transposed():
    net = network(6, 8, dtype="float32").add(cnet.Residual(cnet.Layer(8, 8))).add_layer(3)
    assert run_of(net, X, Y, 40).transposed
    net = network(6, 8, dtype="float32").add_layer_norm().add_layer(3)
    assert not run_of(net, X, Y, 40).transposed


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_single_rows_take_the_fast_path(dtype):
    net = network(6, 8, 3, dtype=dtype)
    net.predict(X[0])
    expected = net.predict(X[:1])[0]
    np.testing.assert_array_equal(net.trainer.row_predictor.row(X[0]), expected)
    assert net.trainer.row_predictor.row(X[0].tolist()) is None
    net.train_one(X[0], Y[0])
    learner = net.trainer.committed.row_step.learner
    assert learner(X[0], Y[0]) > 0
    assert learner(X[0].tolist(), Y[0]) is None
    net.train_one(X[1], Y[1])
    assert net.trainer.committed.row_step.learner is learner


# The seam for several processes


class Contribution(ctypes.Structure):
    """`Contribution` of step.pxd."""

    _fields_ = (
        ("gradient", ctypes.c_void_p),
        ("n_parameters", ctypes.c_ssize_t),
        ("item_size", ctypes.c_ssize_t),
        ("n_rows", ctypes.c_double),
        ("weight", ctypes.c_double),
        ("loss", ctypes.c_double),
    )


REDUCE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Contribution))


def gradient_of(contribution):
    """Return the gradient as an array that can be written to."""
    kind = {4: ctypes.c_float, 8: ctypes.c_double}[contribution.item_size]
    address = ctypes.cast(contribution.gradient, ctypes.POINTER(kind))
    return np.ctypeslib.as_array(address, (contribution.n_parameters,))


def reduced(net, function, x=X, y=Y, batch_size=10):
    """Train an epoch whose gradients `function` reduces; return the run and the number of epochs."""
    run = run_of(net, x, y, batch_size, cnet.SGD(clip_norm=1e9))
    callback = REDUCE(function)
    run.set_reduce(ctypes.cast(callback, ctypes.c_void_p).value, 0)
    seeds = np.empty(0, np.uint64)
    finished = run.epochs(
        np.empty((0, 0), np.intp), seeds, np.array([0.1]), np.empty(1, np.float64)
    )
    return run, finished


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reduce_replaces_the_gradient(dtype):
    """Two processes with half of each batch are one with all of it."""
    whole, half = (network(6, 8, 3, dtype=dtype) for _ in range(2))
    n_steps = 0

    def add_other_half(context, pointer):
        nonlocal n_steps
        contribution = pointer[0]
        assert (contribution.n_rows, contribution.weight) == (5, 5)
        assert contribution.loss > 0
        start = 10 * n_steps + 5
        _, other = half.loss_and_gradient(
            X[start : start + 5], Y[start : start + 5], loss="squared_error"
        )
        gradient = gradient_of(contribution)
        gradient += other
        gradient /= 2
        n_steps += 1
        return 0

    first_halves = np.concatenate([np.arange(i, i + 5) for i in range(0, 40, 10)])
    _, finished = reduced(half, add_other_half, X[first_halves], Y[first_halves], 5)
    assert (finished, n_steps) == (1, 4)
    whole.train(X, Y, 0.1, 1, batch_size=10, shuffle=False, loss="squared_error", verbose=False)
    np.testing.assert_allclose(
        half.parameters, whole.parameters, rtol=1e-5 if dtype == "float32" else 1e-12
    )


def test_reduce_can_stop_all_processes():
    net = network(6, 8, 3)
    before = net.parameters.copy()
    calls = []

    def stop(context, pointer):
        calls.append(pointer[0].n_rows)
        return int(len(calls) == 3)

    run, finished = reduced(net, stop)
    assert (finished, run.stopped, calls) == (0, True, [10, 10, 10])
    np.testing.assert_array_equal(net.parameters, before)


def test_reduce_is_told_of_a_loss_that_is_not_finite():
    """Otherwise the other processes would wait for this one."""
    net = network(6, 8, 3, output="linear")
    net.layers[-1].weights = np.full((8, 3), 1e200)
    losses = []

    def note(context, pointer):
        losses.append(pointer[0].loss)
        return 1

    _, finished = reduced(net, note)
    assert finished == 0
    assert len(losses) == 1
    assert not np.isfinite(losses[0])


def test_reduce_needs_the_whole_gradient():
    run = run_of(network(6, 8, 3), X, Y, 10)
    with pytest.raises(ValueError, match="gradient must have as many elements"):
        run.set_reduce(1, 0)
