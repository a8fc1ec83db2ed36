"""Tables and arrays that do not fit raise an exception in the engine, which must not crash."""

import numpy as np
import pytest
from helpers import refused

import cnet
from cnet._core import engine
from cnet._lowering import objective_record, operation_table, optimizer_record
from cnet.losses import CrossEntropy, FunctionLoss, SquaredError

DTYPE = np.dtype("float64")
NOTHING = np.empty(0)
NO_ROWS = np.empty((0, 0))
NO_ORDER = np.empty((0, 0), np.intp)
NO_SEEDS = np.empty(0, np.uint64)
NO_LABELS = np.empty(0, np.intp)
LARGE = 2**63 - 4


def model():
    """Return a model with every kind of operation, whose layers have 4 inputs."""
    return cnet.NeuralNetwork(
        cnet.Layer(4, 4, "tanh", dropout=0.5),
        cnet.Residual(cnet.LayerNorm(4), cnet.BatchNorm(4)),
        cnet.Layer(4, 4, "softmax"),
        seed=0,
        dtype=DTYPE,
    ).model


def laid_out(layout=(8, 8, 1), *, training=True, change=None, read_only=()):
    """Return a network of the engine; `change` is a field, an operation and a value for the table."""
    whole = model()
    table = operation_table(whole, whole.layers, training=training)
    if change is not None:
        field, kind, value = change
        table[field][table["kind"] == engine.OPERATIONS[kind]] = value
    arrays = {"parameters": whole.parameters.copy(), "buffers": whole.buffers.copy()}
    for name in read_only:
        arrays[name].flags.writeable = False
    size, _ = engine.measure(table, layout, training, DTYPE)
    workspace = np.empty(size)
    return engine.Network(table, *arrays.values(), workspace, layout, training)


def run(network, n, loss=None, *, batch_size=8, stored=True):
    """Return a run of plain gradient descent on n rows."""
    loss = loss or SquaredError()
    n_parameters, n_buffers = len(model().parameters), len(model().buffers)
    return engine.Run(
        network,
        (np.zeros((n, 4)), np.full((n, 4), 0.25), NO_LABELS, NOTHING),
        objective_record(loss, "mean"),
        loss.value_and_gradient if loss.in_python else None,
        optimizer_record(cnet.SGD()),
        (np.empty((0, n_parameters)), np.zeros(1, np.intp)),
        (np.empty(n_parameters if stored else 0), np.empty(n_parameters + n_buffers)),
        batch_size,
    )


@pytest.mark.parametrize(
    "change",
    [
        # Sums that overflow.
        ("weights", "dense", LARGE),
        ("weights", "layer_norm", LARGE),
        ("statistics", "batch_norm", LARGE),
        ("n_inputs", "dense", 2**62),
        # Settings of operations that have no matrix of weights.
        ("max_norm", "activation", 1.0),
        ("max_norm", "batch_norm", 1.0),
        ("l1", "layer_norm", 1.0),
        ("l2", "residual_end", 1.0),
        ("l2", "dropout", np.nan),
    ],
)
def test_an_operation_that_does_not_fit_raises(change):
    with refused("does not fit the table"):
        laid_out(change=change)


def test_operations_that_do_nothing_raise():
    whole = model()
    table = operation_table(whole, whole.layers, training=False)
    table = table[table["kind"] == engine.OPERATIONS["dropout"]]
    with refused("must have an operation that does something"):
        engine.measure(table, (8, 8, 1), False, DTYPE)


@pytest.mark.parametrize("layout", [(2**62, 8, 1), (8, 2**62, 1), (2**31, 1, 1)])
def test_a_layout_whose_size_overflows_raises(layout):
    with refused("layout must be"):
        laid_out(layout)


def test_a_size_beyond_every_memory_does_not_overflow():
    """Of many wide operations, each has room, but all together do not."""
    table = np.zeros(9, engine.OPERATION)
    table["kind"] = engine.OPERATIONS["layer_norm"]
    table["n_inputs"] = table["n_outputs"] = 2**31 - 1
    for field in ("weights", "biases", "statistics", "partner"):
        table[field] = -1
    size, _ = engine.measure(table, (2**30, 1, 1), False, DTYPE)
    assert size == 2**62


def test_training_requires_writable_buffers():
    """A forward pass in training changes the running statistics."""
    laid_out(training=False, read_only=["buffers"])
    with refused("buffers must be", "writable"):
        laid_out(read_only=["buffers"])
    with refused("buffers must be", "writable"):
        run(laid_out(training=False, read_only=["buffers"]), 8)


def test_a_run_is_not_evaluated():
    """It would keep the addresses of the arrays for its next step."""
    with refused("a run cannot be evaluated", error=TypeError):
        run(laid_out(), 8).evaluate(8.0, NO_ROWS, NOTHING, NO_ROWS)


def test_an_epoch_has_no_more_rows_than_examples():
    """The workspace has room for a batch of the examples."""
    loss = FunctionLoss(lambda y_true, y_pred: (1.0, y_pred - y_true))
    running = run(laid_out(), 8, loss, batch_size=16)
    order = np.zeros((1, 16), np.intp)
    with refused("order must have at most 8 rows", "got 16"):
        running.epochs(order, NO_SEEDS, np.full(1, 0.1), np.empty(1))
    assert running.epochs(order[:, :8].copy(), NO_SEEDS, np.full(1, 0.1), np.empty(1)) == 1


def test_only_cross_entropy_learns_from_labels():
    running = run(laid_out((1, 1, 1)), 1)
    with refused("labels must be given for the loss 'cross_entropy' only"):
        engine.Learner(running, True, -np.inf, np.inf, 0.1, 0)
    learner = engine.Learner(running, False, -np.inf, np.inf, 0.1, 0)
    x, y = np.zeros((1, 4)), np.full((1, 4), 0.25)
    assert np.isfinite(learner.learn_from(x, y, np.zeros(1, np.intp)))
    assert learner(x[0], 1) is None
    learner = engine.Learner(run(laid_out((1, 1, 1)), 1, CrossEntropy()), True, 0, 1, 0.1, 0)
    assert np.isfinite(learner.learn_from(x, NO_ROWS, np.zeros(1, np.intp)))
    with refused("labels below the number of outputs"):
        learner.learn_from(x, NO_ROWS, np.full(1, 4))
