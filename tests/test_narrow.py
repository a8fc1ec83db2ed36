"""Training of networks with layers narrower than a vector, where vectors hold several rows."""

import numpy as np
import pytest
import reference
from helpers import in_blocks_of, network

import cnet

TOLERANCE = {"float32": 2e-4, "float64": 1e-10}
# One output, three, and the most that count as narrow; hidden layers of odd widths, and none.
SIZES = [(4, 8, 3), (2, 4, 1), (1, 1), (3, 2), (5, 7, 3, 2), (16, 16, 16), (16, 5, 1)]
# Fewer rows than a vector, one left over, whole vectors, a last batch shorter than the others.
BATCHES = [(7, 7), (15, 15), (33, 33), (64, 32), (50, 16), (45, 20), (100, 67)]
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def problem(sizes, n, output="sigmoid", seed=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, sizes[0]))
    if output == "softmax":
        return x, np.eye(sizes[-1])[rng.integers(0, sizes[-1], n)]
    return x, rng.uniform(0.1, 0.9, (n, sizes[-1]))


def compare(net, x, y, loss, *, batch_size, optimizer="sgd", given=None, epochs=2, **settings):
    """Train, and check that losses and parameters match the reference's."""
    expected = reference.Network.like(net)
    history = net.train(
        x,
        y if given is None else given,
        0.05,
        epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        loss=loss,
        shuffle=False,
        verbose=False,
    )
    step = reference.OPTIMIZERS[optimizer](0.05)
    losses = expected.train(
        step, x, y, reference.LOSSES[loss], batch_size=batch_size, epochs=epochs
    )
    tolerance = TOLERANCE[net.dtype.name]
    np.testing.assert_allclose(history["loss"], list(losses), rtol=tolerance)
    np.testing.assert_allclose(
        net.parameters, expected.parameters, rtol=tolerance, atol=tolerance / 10
    )


@dtypes
@pytest.mark.parametrize(("n", "batch_size"), BATCHES)
@pytest.mark.parametrize("sizes", SIZES)
def test_sizes_and_batch_sizes(sizes, n, batch_size, dtype):
    x, y = problem(sizes, n)
    compare(network(*sizes, dtype=dtype), x, y, "squared_error", batch_size=batch_size)


@dtypes
@pytest.mark.parametrize("labels", [True, False], ids=["labels", "targets"])
@pytest.mark.parametrize(("n", "batch_size"), [(7, 7), (100, 67), (45, 20)])
def test_cross_entropy(n, batch_size, labels, dtype):
    x, y = problem((4, 8, 3), n, "softmax")
    net = network(4, 8, 3, hidden="relu", output="softmax", dtype=dtype)
    if not labels:
        # Smoothed targets, so that all of them count.
        y = 0.7 * y + 0.1
    given = y.argmax(axis=1) if labels else y
    compare(net, x, y, "cross_entropy", batch_size=batch_size, given=given)


@dtypes
@pytest.mark.parametrize("activation", sorted(reference.ACTIVATIONS))
def test_activations(activation, dtype):
    x, y = problem((3, 5, 2), 37)
    hidden = "tanh" if activation == "softmax" else activation
    net = network(3, 5, 2, hidden=hidden, output=activation, dtype=dtype)
    net.parameters[...] *= 0.5
    compare(net, x, y, "squared_error", batch_size=19)


@dtypes
@pytest.mark.parametrize("loss", sorted(reference.LOSSES))
def test_losses(loss, dtype):
    output = reference.OUTPUTS[loss][0] if len(reference.OUTPUTS[loss]) < 3 else "tanh"
    x, y = problem((3, 5, 2), 41, output)
    net = network(3, 5, 2, output=output, dtype=dtype)
    compare(net, x, y, loss, batch_size=15)


@dtypes
@pytest.mark.parametrize("optimizer", sorted(reference.OPTIMIZERS))
def test_optimizers(optimizer, dtype):
    x, y = problem((4, 8, 3), 40)
    net = network(4, 8, 3, dtype=dtype)
    compare(net, x, y, "squared_error", batch_size=16, optimizer=optimizer)


@dtypes
def test_without_biases(dtype):
    x, y = problem((3, 5, 2), 41)
    compare(network(3, 5, 2, bias=False, dtype=dtype), x, y, "squared_error", batch_size=20)


@dtypes
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("n", [7, 100, 1100])
def test_sample_weights_and_blocks(n, loss, dtype):
    # 1,100 rows are three blocks, whose gradients are added.
    output = "softmax" if loss == "cross_entropy" else "sigmoid"
    x, y = problem((4, 6, 3), n, output)
    weights = np.random.default_rng(5).uniform(0, 2, n)
    net = network(4, 6, 3, output=output, dtype=dtype)
    expected = reference.Network.like(net)
    value, gradient, _ = expected.loss_and_gradients(
        x, y, reference.LOSSES[loss], sample_weight=weights
    )
    history = net.train(
        x,
        y,
        0.5,
        1,
        batch_size=None,
        optimizer="sgd",
        loss=loss,
        sample_weight=weights,
        verbose=False,
    )
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(history["loss"], [value], rtol=tolerance)
    np.testing.assert_allclose(
        net.parameters, expected.parameters - 0.5 * gradient, rtol=tolerance, atol=tolerance / 10
    )


@dtypes
def test_padding_rows_do_not_affect_the_result(dtype):
    # exp of the biases alone is infinite, so only real rows may be computed.
    net = cnet.NeuralNetwork(cnet.Layer(1, 2, "exp"), cnet.Layer(2, 1, "linear"), dtype=dtype)
    net.layers[0].weights, net.layers[0].biases = [[-1000.0, -1000.0]], [1000.0, 1000.0]
    history = net.train(np.ones((7, 1)), np.zeros(7), 0.01, 3, batch_size=7, verbose=False)
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("block", [33, 37, 47])
@pytest.mark.parametrize("sizes", [(20, 2000, 3), (3, 3)])
def test_block_sizes(sizes, block):
    """Blocks are rounded up to whole vectors, and so is the space for packing them."""
    x, y = problem(sizes, 160)
    net = network(*sizes, hidden="tanh", dtype="float32")
    net.parameters[...] *= 0.1
    in_blocks_of(block, net)
    compare(net, x, y, "squared_error", batch_size=150)


@dtypes
def test_blocks_of_a_single_row_are_not_transposed(dtype):
    """Their workspace has room for one row, which is less than a vector."""
    x, y = problem((16, 16, 16), 64)
    nets = [network(16, 16, 16, dtype=dtype) for _ in range(2)]
    in_blocks_of(1, nets[0])
    for net in nets:
        net.train(x, y, 0.1, 2, batch_size=16, shuffle=False, verbose=False)
    np.testing.assert_allclose(
        nets[0].parameters, nets[1].parameters, rtol=0, atol=TOLERANCE[dtype]
    )
