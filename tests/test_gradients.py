"""Gradients against central differences of the loss, and against the float64 oracle."""

from functools import partial
from itertools import count, product

import numpy as np
import pytest
import reference

import cnet

# Settings of huber and quantile other than the defaults, for which both branches of the formulas agree.
LOSSES = {
    "squared_error": cnet.SquaredError(),
    "absolute_error": cnet.AbsoluteError(),
    "huber": cnet.Huber(0.6),
    "quantile": cnet.Quantile(0.8),
    "binary_cross_entropy": cnet.BinaryCrossEntropy(),
    "cross_entropy": cnet.CrossEntropy(),
    "poisson": cnet.Poisson(),
}
ORACLES = {
    **reference.LOSSES,
    "huber": partial(reference.huber, delta=0.6),
    "quantile": partial(reference.quantile, q=0.8),
}
PAIRS = [(loss, output) for loss in LOSSES for output in reference.OUTPUTS[loss]]
HIDDEN = tuple(reference.ELEMENTWISE)

# Much farther than a difference step or float32 rounding can move a pre-activation, so that none crosses
# the kink, which is at 0 for all activations that have one.
MARGIN = 1e-3


def draw_targets(rng, loss, outputs):
    """Return random legal targets, away from the kinks of the loss as a function of the output."""
    if loss == "binary_cross_entropy":
        return rng.uniform(0, 1, outputs.shape)
    if loss == "cross_entropy":
        return rng.dirichlet(np.ones(outputs.shape[1]), len(outputs))
    if loss == "poisson":
        return rng.poisson(2.0, outputs.shape).astype(np.float64)
    # Kinks are at a distance of 0 and, for Huber's second derivative, 0.6.
    distances = np.where(
        rng.random(outputs.shape) < 0.5,
        rng.uniform(0.1, 0.5, outputs.shape),
        rng.uniform(0.7, 1.5, outputs.shape),
    )
    return outputs + distances * rng.choice([-1.0, 1.0], outputs.shape)


@pytest.fixture(scope="module")
def make_problem(make_network):
    """Return a function that makes a random network, rows and targets at which the loss is smooth."""

    def make(sizes, activations, loss, *, rows=5, bias=True, dtype="float64"):
        for seed in count():
            net = make_network(sizes, activations, bias=bias, dtype=dtype, seed=seed)
            rng = np.random.default_rng(seed)
            # Float32 numbers, which are exact in the oracle and in networks of either dtype.
            x = rng.standard_normal((rows, sizes[0])).astype(np.float32)
            oracle = reference.Network.like(net)
            passed = oracle.forward(x)
            z = np.concatenate([z.ravel() for z, _ in passed])
            # Below 4, so that repeated exponentials do not amplify the difference step.
            if np.abs(z).min() > MARGIN and np.abs(z).max() < 4:
                targets = draw_targets(rng, loss, passed[-1][1]).astype(np.float32)
                return net, oracle, x, targets

    return make


def slope(function, values, direction, step=1e-5):
    """Return the central difference of a function of an array, which is modified and restored."""
    start = values.copy()
    found = []
    for signed_step in (step, -step):
        values[...] = start + signed_step * direction
        found.append(function())
    values[...] = start
    return (found[0] - found[1]) / (2 * step)


def assert_close(actual, expected, tolerance):
    """Compare with a tolerance relative to the largest element.

    An element may be the difference of much larger ones, whose rounding error it keeps.
    """
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_gradients(make_problem, hidden, loss, output):
    """All depths, with and without biases and weights, mean and sum, against both references."""
    rng = np.random.default_rng(1)
    weights = np.array([0.5, 2.0, 0.0, 1.0, 1.5])
    for depth, bias in product((1, 2, 3), (True, False)):
        sizes = (3, *(4, 2, 3)[:depth], 3)
        net, oracle, x, y = make_problem(sizes, [hidden] * depth + [output], loss, bias=bias)
        x = x.astype(np.float64)
        for sample_weight, reduction in product((None, weights), ("mean", "sum")):
            how = {"reduction": reduction, "sample_weight": sample_weight}
            value, gradient = net.loss_and_gradient(x, y, loss=LOSSES[loss], **how)
            by_inputs = net.input_gradient(x, y, loss=LOSSES[loss], **how)

            expected = oracle.loss_and_gradients(x, y, ORACLES[loss], **how)
            assert value == pytest.approx(expected[0], rel=1e-12)
            assert_close(gradient, expected[1], 1e-12)
            assert_close(by_inputs, expected[2], 1e-12)

            def evaluate(x=x, y=y, net=net, how=how):
                return net.evaluate(x, y, loss=LOSSES[loss], **how)["loss"]

            for values, found in ((net.parameters, gradient), (x, by_inputs)):
                direction = rng.standard_normal(values.shape)
                # The step is 1e-5. Its square and a rounding error divided by it add up to about 1e-10,
                # times the third derivatives, which are large for consecutive exponentials.
                assert slope(evaluate, values, direction) == pytest.approx(
                    np.sum(found * direction), rel=1e-6, abs=1e-7
                )


@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_float32(make_problem, hidden, loss, output):
    """A float32 network matches the float64 oracle up to float32 rounding."""
    net, oracle, x, y = make_problem(
        (3, 4, 4, 3), [hidden, hidden, output], loss, rows=11, dtype="float32"
    )
    value, gradient = net.loss_and_gradient(x, y, loss=LOSSES[loss])
    by_inputs = net.input_gradient(x, y, loss=LOSSES[loss])
    expected = oracle.loss_and_gradients(x, y, ORACLES[loss])
    assert gradient.dtype == by_inputs.dtype == np.float32
    # Three layers of sums of five products, three values and three derivatives, each rounded at half an
    # eps of its largest term: about 30 eps, and more if an exponential magnifies its input.
    tolerance = 200 * float(np.finfo(np.float32).eps)
    assert value == pytest.approx(expected[0], rel=tolerance)
    assert_close(gradient, expected[1], tolerance)
    assert_close(by_inputs, expected[2], tolerance)


def compare_with_oracle(net, n_rows, tolerance=1e-12):
    """Compare everything a network computes from rows with weights and soft or integer labels."""
    rng = np.random.default_rng(2)
    n_outputs = net.layers[-1].n_neurons
    x = rng.standard_normal((n_rows, net.layers[0].n_inputs))
    labels = rng.integers(n_outputs, size=n_rows)
    weights = rng.uniform(0, 2, n_rows)
    oracle = reference.Network.like(net)
    assert_close(net.predict(x), oracle.predict(x), tolerance)
    for found, (_, expected) in zip(net.activations(x), oracle.forward(x), strict=True):
        assert_close(found, expected, tolerance)
    for targets, y in (
        (rng.dirichlet(np.ones(n_outputs), n_rows),) * 2,
        (np.eye(n_outputs)[labels], labels),
    ):
        # With one output, a label is a number like any other, and 1 is the only one for cross_entropy.
        y = np.ones(n_rows) if n_outputs == 1 else y
        value, gradient = net.loss_and_gradient(x, y, sample_weight=weights)
        by_inputs = net.input_gradient(x, y, sample_weight=weights)
        expected = oracle.loss_and_gradients(
            x, targets, reference.cross_entropy, sample_weight=weights
        )
        assert value == pytest.approx(expected[0], rel=tolerance, abs=1e-15)
        # With one output, softmax is 1 and its gradient 0, so relative errors are meaningless.
        for found, wanted in zip((gradient, by_inputs), expected[1:], strict=True):
            assert_close(found, wanted, tolerance)


@pytest.mark.parametrize("n_rows", [1, 2, 7, 511, 512, 513, 1024, 1301])
def test_more_rows_than_a_block(make_network, n_rows):
    """Internally, at most 512 rows go through the layers at a time: every boundary must be right."""
    compare_with_oracle(make_network((5, 6, 4), ["gelu", "softmax"]), n_rows)


@pytest.mark.parametrize(
    ("sizes", "n_rows"),
    [
        ((300, 520, 5), 17),  # products longer than the 256 terms that are summed at a time
        ((3, 700, 3), 400),  # many panels of the weights, reused by the rows
        ((20, 600, 600, 3), 30),  # both
        ((90, 33, 34, 100, 2), 600),  # a few columns beyond whole tiles, and rows that add to them
        ((420, 40, 3), 20),  # a panel slightly deeper than the others
    ],
)
def test_large_layers(make_network, sizes, n_rows):
    activations = ["silu"] * (len(sizes) - 2) + ["softmax"]
    compare_with_oracle(make_network(sizes, activations, spread=0.05), n_rows)


@pytest.mark.parametrize("n_neurons", [1, 3, 7, 17, 33])
@pytest.mark.parametrize("n_inputs", [1, 3, 7, 17, 33])
def test_widths_that_are_no_multiple_of_a_vector(make_network, n_inputs, n_neurons):
    """Widths that are not multiples of a vector or tile, in every place, with few rows."""
    for n_outputs, n_rows in product((1, 3, 7, 17, 33), (1, 2, 7)):
        net = make_network((n_inputs, n_neurons, n_outputs), ["tanh", "softmax"], spread=0.3)
        compare_with_oracle(net, n_rows)


def test_input_gradient_of_a_sum_is_that_of_each_row(make_network):
    net = make_network((3, 4, 2), ["tanh", "linear"])
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    row_by_row = [net.input_gradient(row, target) for row, target in zip(x, y, strict=True)]
    assert_close(net.input_gradient(x, y, reduction="sum"), np.array(row_by_row), 1e-15)


# A loss in Python must give the same results as the same built-in loss, for every output activation.


def mean_squared_error(y_true, y_pred):
    difference = y_pred - y_true
    return np.sum(difference**2) / 2 / len(y_true), difference / len(y_true)


@pytest.mark.parametrize("output", reference.ACTIVATIONS)
def test_function_as_loss(make_network, output):
    net = make_network((3, 4, 3), ["silu", output])
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((1100, 3)), rng.standard_normal((1100, 3))
    value, gradient = net.loss_and_gradient(x, y, loss=mean_squared_error)
    expected_value, expected = net.loss_and_gradient(x, y, loss="squared_error")
    assert value == pytest.approx(expected_value, rel=1e-12)
    assert_close(gradient, expected, 1e-12)
    assert_close(
        net.input_gradient(x, y, loss=mean_squared_error),
        net.input_gradient(x, y, loss="squared_error"),
        1e-13,
    )
    assert net.evaluate(x, y, loss=mean_squared_error)["loss"] == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("batch_size", [1, 30, 600, None])
@pytest.mark.parametrize("shuffle", [True, False])
def test_training_with_a_function_as_loss(make_network, batch_size, shuffle):
    """The same batches in the same order, with a stateful optimizer and a shorter last batch."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((1100, 3)), rng.standard_normal((1100, 2))
    found = []
    for loss in (mean_squared_error, "squared_error"):
        net = make_network((3, 4, 2), ["softplus", "gelu"])
        history = net.train(
            x, y, 0.01, 2, batch_size=batch_size, optimizer="adam", loss=loss, shuffle=shuffle,
            verbose=False,
        )  # fmt: skip
        found.append((net.parameters, history["loss"]))
    assert_close(found[0][0], found[1][0], 1e-11)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-12)
