"""Losses: hand-computed values, reductions, weights, targets, names, settings, functions as losses."""

import re
from functools import partial
from math import e, log

import numpy as np
import pytest
import reference

import cnet


def outputs_are(activation, n_outputs):
    """Return a network whose outputs are just the activation of its inputs."""
    layer = cnet.Layer(n_outputs, n_outputs, activation, bias=False)
    net = cnet.NeuralNetwork(layer, dtype="float64")
    layer.weights = np.eye(n_outputs)
    return net


# Loss, output activation, its inputs, targets, losses of the two rows.
ERRORS = ([[1.0, 2.0], [0.0, -1.0]], [[0.0, 2.0], [3.0, -1.0]])  # 1 too high; 3 too low
BY_HAND = [
    ("squared_error", "linear", *ERRORS, (0.5, 4.5)),
    ("absolute_error", "linear", *ERRORS, (1.0, 3.0)),
    ("huber", "linear", *ERRORS, (0.5, 2.5)),
    (cnet.Huber(0.5), "linear", *ERRORS, (0.375, 1.375)),
    (cnet.Huber(2), "linear", *ERRORS, (0.5, 4.0)),
    ("huber(2)", "linear", *ERRORS, (0.5, 4.0)),
    ("quantile", "linear", *ERRORS, (0.5, 1.5)),
    (cnet.Quantile(0.9), "linear", *ERRORS, (0.1, 2.7)),
    ("quantile(0.9)", "linear", *ERRORS, (0.1, 2.7)),
    # The errors of both outputs are added.
    ("squared_error", "linear", [[1.0, 2.0], [0.0, 3.0]], [[3.0, 1.0], [1.0, 0.0]], (2.5, 5.0)),
    (
        # Probabilities of 3/4 and 1/2, and of 1/4 and 9/10.
        "binary_cross_entropy",
        "sigmoid",
        [[log(3), 0.0], [-log(3), log(9)]],
        [[1.0, 0.0], [1.0, 0.25]],
        (-log(0.75) - log(0.5), -log(0.25) - 0.25 * log(0.9) - 0.75 * log(0.1)),
    ),
    (
        # Probabilities of 1/6, 2/6, 3/6, and of 1/4, 1/4, 1/2.
        "cross_entropy",
        "softmax",
        [[log(1), log(2), log(3)], [5.0, 5.0, 5.0 + log(2)]],
        [[0, 1, 0], [0.5, 0, 0.5]],
        (log(3), 0.5 * log(4) + 0.5 * log(2)),
    ),
    ("poisson", "exp", [[log(2), 0.0], [1.0, 1.0]], [[3, 0], [0, 2]], (3 - 3 * log(2), 2 * e - 2)),
    # log(1 + exp(log(e^2 - 1))) = 2, log(1 + exp(0)) = log 2
    ("poisson", "softplus", [[log(e**2 - 1)], [0.0]], [[3], [0]], (2 - 3 * log(2), log(2))),
]


@pytest.mark.parametrize(
    ("loss", "activation", "inputs", "targets", "rows"),
    BY_HAND,
    ids=[f"{loss}-{activation}" for loss, activation, *_ in BY_HAND],
)
def test_values_by_hand(loss, activation, inputs, targets, rows):
    """A row's loss is summed over its outputs; over rows it is the weighted mean or sum."""
    net = outputs_are(activation, len(inputs[0]))
    first, second = rows
    for how, expected in (
        ({}, (first + second) / 2),
        ({"reduction": "mean"}, (first + second) / 2),
        ({"reduction": "sum"}, first + second),
        # The mean divides by the number of rows, not by the sum of the weights.
        ({"sample_weight": [3, 0.5]}, (3 * first + 0.5 * second) / 2),
        ({"sample_weight": [0, 0.5]}, 0.5 * second / 2),
        ({"sample_weight": [3, 0.5], "reduction": "sum"}, 3 * first + 0.5 * second),
    ):
        expected = pytest.approx(expected, rel=1e-14)
        assert net.evaluate(inputs, targets, loss=loss, **how)["loss"] == expected
        assert net.loss_and_gradient(inputs, targets, loss=loss, **how)[0] == expected
        # With a learning rate of 0 the network does not change, so an epoch's loss is that of all rows.
        history = net.train(inputs, targets, 0, 1, loss=loss, verbose=False, **how)
        assert history["loss"] == [expected]


def test_all_losses_are_tested():
    """Every known name has hand-computed values above, and a place in the oracle."""
    net = outputs_are("linear", 1)
    with pytest.raises(ValueError, match="loss must be one of") as refusal:
        net.evaluate([1], [1], loss="none")
    names = set(re.findall(r"'(\w+)'", str(refusal.value))) - {"none", "auto"}
    by_name = {loss for loss, *_ in BY_HAND if isinstance(loss, str)}
    assert names == set(reference.LOSSES) == {name for name in by_name if "(" not in name}


@pytest.mark.parametrize("loss", ["absolute_error", "quantile(0.9)", "huber(0.5)", "squared_error"])
def test_gradient_of_an_exact_prediction_is_0(loss):
    """Even if the slopes to the left and right of it differ, so that a perfect fit remains one."""
    net = outputs_are("linear", 2)
    assert net.input_gradient([1.0, -2.0], [1.0, -2.0], loss=loss).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("loss", "gradient"),
    [
        ("squared_error", [1, -3]),
        ("absolute_error", [1, -1]),
        ("huber", [1, -1]),
        ("huber(2)", [1, -2]),
        ("quantile(0.75)", [0.25, -0.75]),
    ],
)
def test_gradient_by_hand(loss, gradient):
    net = outputs_are("linear", 2)
    assert net.input_gradient([1.0, 0.0], [0.0, 3.0], loss=loss).tolist() == gradient


@pytest.mark.parametrize("output", reference.ACTIVATIONS)
@pytest.mark.parametrize("how", [{}, {"loss": "auto"}])
def test_default_loss(output, how):
    """Cross-entropy after softmax, squared error otherwise."""
    net = outputs_are(output, 2)
    x, y = [[0.3, -0.2]], [[0.4, 0.6]]
    expected = "cross_entropy" if output == "softmax" else "squared_error"
    assert net.evaluate(x, y, **how)["loss"] == net.evaluate(x, y, loss=expected)["loss"]
    assert net.train(x, y, 0, 1, verbose=False, **how)["loss"] == [
        net.evaluate(x, y, loss=expected)["loss"]
    ]


# Targets.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("loss", "output"),
    [
        ("cross_entropy", "softmax"),
        ("squared_error", "softmax"),
        ("binary_cross_entropy", "sigmoid"),
    ],
)
def test_labels_are_one_hot_rows(loss, output, dtype):
    """The same loss, gradients and weights after training with batches and sample weights."""
    rng = np.random.default_rng(0)
    n = 40
    x, labels = rng.standard_normal((n, 4)), rng.integers(3, size=n)
    weights = rng.uniform(0, 2, n)
    found = []
    for y in (labels, labels[:, np.newaxis], labels.astype(float), np.eye(3)[labels]):
        net = cnet.NeuralNetwork(
            cnet.Layer(4, 5, "tanh"), cnet.Layer(5, 3, output), seed=1, dtype=dtype
        )
        value, gradient = net.loss_and_gradient(x, y, loss=loss, sample_weight=weights)
        history = net.train(
            x, y, 0.1, 3, batch_size=7, loss=loss, sample_weight=weights, verbose=False
        )
        found.append([value, *gradient, *history["loss"], *net.parameters])
    tolerance = 20 * np.finfo(dtype).eps
    for other in found[:-1]:
        np.testing.assert_allclose(other, found[-1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("loss", "output", "targets", "message"),
    [
        ("binary_cross_entropy", "sigmoid", [0.5, 1.5], "at least 0 and at most 1 .* got 1.5"),
        ("binary_cross_entropy", "sigmoid", [-0.1, 0.5], "at least 0 and at most 1 .* got -0.1"),
        ("poisson", "exp", [2, -1], "at least 0 .* got -1"),
        ("cross_entropy", "softmax", [0.5, 0.6], "sum to 1"),
        ("cross_entropy", "softmax", [-0.5, 1.5], "at least 0 and at most 1"),
    ],
)
def test_targets_out_of_range(loss, output, targets, message):
    net = outputs_are(output, 2)
    with pytest.raises(ValueError, match=f"y must be .*{message}"):
        net.evaluate([[0, 0]], [targets], loss=loss)


# Combinations of losses and output layers.

ILLEGAL = [
    (loss, output)
    for loss in reference.LOSSES
    for output in reference.ACTIVATIONS
    if output not in reference.OUTPUTS[loss]
]


@pytest.mark.parametrize(("loss", "output"), ILLEGAL)
def test_losses_with_the_wrong_output_activation_raise(loss, output):
    """The message lists the activations the loss requires, and the losses that fit the activation."""
    net = outputs_are(output, 2)
    start = net.parameters.copy()
    for call in (net.evaluate, net.loss_and_gradient, net.input_gradient, net.train):
        with pytest.raises(ValueError, match=f"loss '{loss}' requires") as refusal:
            call([[0, 0]], [[0, 1]], loss=loss)
        wanted, losses = str(refusal.value).split(", got")
        assert set(re.findall(r"'(\w+)'", wanted)) == {loss, *reference.OUTPUTS[loss]}
        fitting = {name for name, legal in reference.OUTPUTS.items() if output in legal}
        assert set(re.findall(r"'(\w+)'", losses)) == {output, *fitting}
    np.testing.assert_array_equal(net.parameters, start)


# Settings.


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        ("squared_error", cnet.SquaredError()),
        ("absolute_error", cnet.AbsoluteError()),
        ("huber", cnet.Huber(1)),
        ("huber(0.5)", cnet.Huber(delta=0.5)),
        ("huber()", cnet.Huber(delta=1)),
        ("quantile", cnet.Quantile(0.5)),
        ("quantile(0.9)", cnet.Quantile(q=0.9)),
        ("quantile( .25 )", cnet.Quantile(0.25)),
    ],
)
def test_names_and_objects(text, loss):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 9, 2))
    net = outputs_are("linear", 2)
    assert net.evaluate(x, y, loss=text) == net.evaluate(x, y, loss=loss)


@pytest.mark.parametrize(
    ("make", "value", "error"),
    [
        *((cnet.Huber, value, ValueError) for value in (0, -1, np.inf, np.nan)),
        *((cnet.Quantile, value, ValueError) for value in (0, 1, -0.5, 1.5, np.nan)),
        *(
            (make, value, TypeError)
            for make in (cnet.Huber, cnet.Quantile)
            for value in ("1", True)
        ),
        *((make, None, TypeError) for make in (cnet.Huber, cnet.Quantile)),
    ],
)
def test_bad_settings(make, value, error):
    with pytest.raises(error, match=r"^(delta|q) must be"):
        make(value)


@pytest.mark.parametrize(
    "loss",
    ["mse", "Huber", "huber(", "huber)", "huber(,)", "huber(x)", "huber(delta=1)", "quantile 0.9", "",
     1, cnet.Huber, cnet.SGD(), cnet.Loss()],
)  # fmt: skip
def test_unknown_losses(loss):
    net = outputs_are("linear", 1)
    with pytest.raises(ValueError, match=r"loss must be one of 'auto', 'squared_error', .* got"):
        net.train([[0]], [[0]], loss=loss)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("huber(0)", "delta must"),
        ("quantile(1)", "q must"),
        ("huber(1, 2)", "loss must have the settings that 'huber' takes"),
    ],
)
def test_bad_settings_in_a_name(loss, message):
    net = outputs_are("linear", 1)
    with pytest.raises(ValueError, match=message):
        net.train([[0]], [[0]], loss=loss)


# Functions.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [5, 6]]),
        ([0, 1, 1], [[1, 0], [0, 1], [0, 1]]),
    ],
    ids=["targets", "labels"],
)
def test_arguments_of_a_function_as_loss(y, expected, dtype):
    """Arrays of the network's dtype, both of shape (rows, n_outputs); labels are one-hot rows."""
    calls = []

    def loss(y_true, y_pred):
        assert y_true.dtype == y_pred.dtype == dtype
        calls.append((y_true.tolist(), y_pred.tolist()))
        return 0.0, np.zeros_like(y_pred)

    net = cnet.NeuralNetwork(cnet.Layer(2, 2, "linear", bias=False), dtype=dtype)
    net.layers[0].weights = np.eye(2)
    x = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    net.evaluate(x, y, loss=loss)
    net.train(x, y, 0.1, 2, batch_size=2, loss=loss, shuffle=False, verbose=False)
    batches = [(expected[:2], x[:2]), (expected[2:], x[2:])]
    assert calls == [(expected, x), *batches, *batches]


def test_gradient_of_a_function_may_have_any_dtype_and_layout():
    net = outputs_are("linear", 2)
    x, y = [[1.0, 2.0], [3.0, 4.0]], [[0, 0], [0, 0]]
    found = net.input_gradient(
        x, y, loss=lambda t, a: (0, np.array([[1, 2], [3, 4]], "i1", order="F"))
    )
    assert found.tolist() == [[1, 2], [3, 4]]
    assert net.input_gradient(
        x, y, loss=lambda t, a: (np.float32(1), [[1, 2], [3, 4]])
    ).tolist() == (found.tolist())


def test_history_of_a_function():
    """A mean is averaged over the batches, weighted by their rows; sums are summed."""
    net = outputs_are("linear", 1)
    x = y = [[0.0], [0.0], [0.0]]
    for reduction, expected in (("mean", (2 * 2 + 1 * 1) / 3), ("sum", 2 + 1)):
        history = net.train(
            x, y, 0.1, 1, batch_size=2, reduction=reduction, verbose=False,
            loss=lambda t, a: (len(t), np.zeros_like(a)),
        )  # fmt: skip
        assert history["loss"] == pytest.approx([expected], rel=1e-15)


def test_a_function_weights_its_rows_itself():
    net = outputs_are("linear", 1)
    for call in (net.evaluate, net.loss_and_gradient, net.input_gradient, net.train):
        with pytest.raises(ValueError, match="sample_weight must be None with a function"):
            call([[0]], [[0]], loss=lambda t, a: (0.0, a), sample_weight=[1])


@pytest.mark.parametrize(
    "returned",
    [
        None,
        1.0,
        (1.0,),
        (1.0, np.ones((2, 1)), 3),
        (1.0, np.ones(2)),
        (1.0, np.ones((1, 2))),
        (1.0, np.ones((2, 2))),
        (1.0, 1.0),
        (1.0, None),
        (1.0, [["a"], ["b"]]),
        (1.0, [[1], [2, 3]]),
        (None, np.ones((2, 1))),
        ("one", np.ones((2, 1))),
        (np.ones((2, 1)), np.ones((2, 1))),
        (1j, np.ones((2, 1))),
        (1.0, np.ones((2, 1), complex)),
    ],
    ids=repr,
)
def test_bad_return_values_of_a_function(returned):
    net = outputs_are("linear", 1)
    start = net.parameters.copy()
    train = partial(net.train, batch_size=None)
    for call in (net.evaluate, net.loss_and_gradient, net.input_gradient, train):
        with pytest.raises(ValueError, match=r"loss must return \(value, gradient\): .* \(2, 1\)"):
            call([[0], [1]], [[0], [1]], loss=lambda t, a: returned)
    np.testing.assert_array_equal(net.parameters, start)


@pytest.mark.parametrize("broken", [(np.nan, 0.0), (np.inf, 0.0), (0.0, np.nan), (0.0, np.inf)])
def test_a_function_that_returns_a_value_that_is_not_finite(broken):
    """Training stops at once, with the previous weights."""
    value, slope = broken
    net = outputs_are("linear", 1)
    start = net.parameters.copy()
    with pytest.raises(cnet.DivergenceError):
        net.train([[1.0]], [[0]], loss=lambda t, a: (value, np.full_like(a, slope)), verbose=False)
    np.testing.assert_array_equal(net.parameters, start)
