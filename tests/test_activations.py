"""Activations and derivatives over the whole range of each dtype, and losses of extreme logits."""

import re

import numpy as np
import pytest
import reference

import cnet

DTYPES = ("float32", "float64")

# From mpmath with 50 digits: the reference for cnet and for the oracle.
TABLE_Z = (-20.0, -5.0, -0.75, 0.5, 12.0)
TABLE = {
    "sigmoid": (
        2.06115361819020358e-9,
        0.00669285092428485556,
        0.320821300824607027,
        0.622459331201854565,
        0.999993855825397785,
    ),
    "tanh": (
        -0.999999999999999992,
        -0.999909204262595131,
        -0.635148952387287319,
        0.462117157260009759,
        0.999999999924497309,
    ),
    "elu": (
        -0.999999997938846378,
        -0.993262053000914533,
        -0.527633447258985293,
        0.5,
        12.0,
    ),
    "selu": (
        -1.75809933722366403,
        -1.74625336066962014,
        -0.927632015835051226,
        0.525350493677740247,
        12.6084118482657659,
    ),
    "gelu": (
        -5.50724823721246739e-88,
        -1.43325785939596956e-6,
        -0.169970514282651149,
        0.345731230637006552,
        12.0,
    ),
    "silu": (
        -4.12230723638040716e-8,
        -0.0334642546214242778,
        -0.24061597561845527,
        0.311229665600927282,
        11.9999262699047734,
    ),
    "softplus": (
        2.0611536203143807e-9,
        0.00671534848911806862,
        0.386871006114899944,
        0.974076984180106681,
        12.0000061441934777,
    ),
    "softsign": (
        -0.952380952380952381,
        -0.833333333333333333,
        -0.428571428571428571,
        0.333333333333333333,
        0.923076923076923077,
    ),
    "exp": (
        2.06115362243855783e-9,
        0.0067379469990854671,
        0.472366552741014707,
        1.64872127070012815,
        162754.791419003921,
    ),
    "linear": TABLE_Z,
    "relu": (0, 0, 0, 0.5, 12.0),
    "leaky_relu": (-0.2, -0.05, -0.0075, 0.5, 12.0),
}

# Rounding of the intermediate steps: the exponential or similar to 1 or 2 ulp, as in any good C library,
# followed by a sum, a quotient and a product.
ULPS = 4


def ulps_of(activation, z):
    """Return the allowed error of a value, in ulp.

    For negative z, erfc multiplies the relative error of its argument z / sqrt(2), which comes from two
    roundings here and two in the oracle, by z^2.
    """
    return ULPS + (2 * np.clip(z, -40, 0) ** 2 if activation == "gelu" else 0)


def grid(dtype):
    """Return numbers from the whole range of the dtype, densest where the functions change most."""
    limits = np.finfo(dtype)
    largest = float(limits.max)
    positive = np.concatenate(
        [
            [limits.smallest_subnormal, limits.tiny, 1e-30, 0.5, 1, 1000, 1e30, largest],
            np.geomspace(limits.tiny, largest / 2, 200),
            np.linspace(0.01, 1.2 * np.log(largest), 2000),  # up to beyond exp's overflow
        ]
    )
    return np.concatenate([-positive, [0], positive]).astype(dtype)


def assert_close(found, truth, ulps, z):
    """Compare with a float64 truth that may exceed the range of the result's dtype."""
    limits = np.finfo(found.dtype)
    with np.errstate(over="ignore"):
        expected = truth.astype(found.dtype)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite], expected[~finite])
    error = np.abs(found[finite].astype(np.float64) - truth[finite])
    # Below the smallest normal number digits are lost. The remaining exponential may be multiplied by z,
    # which is below 1000 as long as anything remains.
    allowed = ulps * limits.eps * np.abs(truth) + 1000 * limits.tiny
    wrong = ~(error <= allowed[finite])
    assert not wrong.any(), (z[finite][wrong], found[finite][wrong], truth[finite][wrong])


def identity_network(activation, dtype, *, n=1, hidden=False):
    """Return a network that only applies the activation, as its output layer or as a hidden layer."""
    layers = [cnet.Layer(n, n, activation, bias=False)]
    if hidden:
        layers.append(cnet.Layer(n, n, "linear", bias=False))
    net = cnet.NeuralNetwork(*layers, dtype=dtype)
    for layer in net.layers:
        layer.weights = np.eye(n)
    return net


def test_all_activations_are_tested():
    """Every known name has a place in the oracle, and so in these tests."""
    with pytest.raises(ValueError, match="activation must be one of") as refusal:
        cnet.Layer(1, 1, "none")
    names = re.findall(r"'(\w+)'", str(refusal.value))
    assert set(names) - {"none"} == set(reference.ACTIVATIONS) == {*TABLE, "softmax"}


@pytest.mark.parametrize("activation", TABLE)
def test_known_values(activation):
    """Checks the oracle too, which the other tests use as the truth."""
    z, truth = np.array(TABLE_Z), np.array(TABLE[activation])
    for found in (
        identity_network(activation, "float64").predict(z[:, np.newaxis])[:, 0],
        reference.activate(activation, z),
    ):
        assert_close(found, truth, ulps_of(activation, z), z)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", reference.ELEMENTWISE)
@np.errstate(over="ignore")
def test_values(activation, dtype):
    """Includes infinite values, such as exp(1000) and selu of the largest number."""
    z = grid(dtype)
    found = identity_network(activation, dtype).predict(z[:, np.newaxis])[:, 0]
    assert found.dtype == dtype
    truth = reference.activate(activation, z.astype(np.float64))
    assert_close(found, truth, ulps_of(activation, z.astype(np.float64)), z)


def derivative(net, z):
    """Return the derivative of the outputs by z, from a loss whose gradient is 1."""
    return net.input_gradient(
        z[:, np.newaxis], np.zeros(len(z)), loss=lambda y_true, y_pred: (0.0, np.ones_like(y_pred))
    )[:, 0]


@pytest.mark.parametrize("hidden", [False, True], ids=["output", "hidden"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", reference.ELEMENTWISE)
@np.errstate(over="ignore")
def test_derivatives(activation, dtype, hidden):
    """Includes z = 0: 0 for relu as in PyTorch, 0.01 for leaky_relu, the left derivative for selu.

    Most derivatives are computed from outputs of about 1, whose last digit is 1 eps. This is their
    error, no matter how small they are. In silu's, half an eps of 1 - sigmoid(z) is multiplied by z.
    Those of exp and softplus are accurate to all digits where they are small.
    """
    z = grid(dtype)
    found = derivative(identity_network(activation, dtype, hidden=hidden), z)
    truth = reference.activation_backward(activation, z.astype(np.float64), np.ones(len(z)))
    assert found.dtype == dtype
    ulps = ULPS
    if activation not in ("exp", "softplus"):
        ulps = ulps / np.clip(np.abs(truth), 1e-300, 1)
    if activation == "silu":
        ulps = ulps * (1 + np.minimum(np.abs(z), 40) / 8)
    assert_close(found, truth, ulps, z)


@pytest.mark.parametrize("dtype", DTYPES)
def test_limits_at_infinity(dtype):
    """The exact limits: no warning, no infinity, no NaN."""
    far = np.array([[-1000], [1000]], dtype)
    for activation, left, right in (
        ("sigmoid", 0, 1),
        ("tanh", -1, 1),
        ("elu", -1, 1000),
        ("gelu", 0, 1000),
        ("silu", 0, 1000),
        ("softplus", 0, 1000),
        ("exp", 0, np.inf),
    ):
        assert identity_network(activation, dtype).predict(far).ravel().tolist() == [left, right]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_nan_propagates(activation, dtype):
    """NaN from a broken weight must appear in the outputs, and not be taken for 0 by a comparison."""
    net = identity_network(activation, dtype, n=3)
    net.parameters[0] = np.nan
    found = net.predict(np.ones(3))
    assert np.isnan(found[0])
    assert np.isnan(found).all() == (activation == "softmax")


# Softmax, and the losses that are computed from the pre-activations of the outputs.

HUGE_LOGITS = (
    (1000, 0, -1000),
    (1000, 999, 1001),
    (-1000, 0, 1000),
    (-1000, -1000, -1000),
    (1e30, -1e30, 0),
    (np.inf, np.inf, np.inf),  # stands for the dtype's largest number
    (-np.inf, -np.inf, -np.inf),
    (np.inf, 0, -np.inf),
)


def huge_logits(dtype):
    largest = np.finfo(dtype).max
    return np.clip(np.array(HUGE_LOGITS), -largest, largest).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@np.errstate(over="ignore")
def test_softmax(dtype):
    """Softmax of huge logits, of many logits, and of logits that are all the same."""
    limits = np.finfo(dtype)
    rng = np.random.default_rng(0)
    for z in (huge_logits(dtype), rng.normal(0, 5, (50, 10)).astype(dtype), np.zeros((1, 300))):
        a = identity_network("softmax", dtype, n=z.shape[1]).predict(z)
        np.testing.assert_allclose(a.sum(axis=1), 1, rtol=0, atol=10 * limits.eps)
        # As above; in addition, an exponent is off by half an ulp of a difference of up to 50.
        truth = reference.softmax(z.astype(np.float64))
        np.testing.assert_allclose(a, truth, rtol=(ULPS + 50) * limits.eps, atol=limits.tiny)


def each_row(net, x, y, loss):
    """Return the losses of single rows, and their gradients by the logits."""
    values = [
        net.evaluate(row, target, loss=loss)["loss"] for row, target in zip(x, y, strict=True)
    ]
    _, by_parameters = net.loss_and_gradient(x / len(x), y, loss=loss)
    assert np.isfinite(by_parameters).all()
    return np.array(values), net.input_gradient(x, y, loss=loss, reduction="sum")


def softplus(z):
    return np.logaddexp(0, z)


def log_softplus(z):
    # For z < -37, softplus(z) is exp(z) to the last digit of float64.
    return np.where(z < -40, z, np.log(softplus(np.maximum(z, -40))))


def sigmoid_over_softplus(z):
    return np.where(z < -40, 1, reference.sigmoid(z) / softplus(np.maximum(z, -40)))


# Output activation, legal targets, and, as functions of logit and target, the loss as a sum of two exact
# terms, and its gradient.
LOGIT_LOSSES = {
    "binary_cross_entropy": (
        "sigmoid",
        (0, 0.25, 1),
        lambda z, t: (t * softplus(-z), (1 - t) * softplus(z)),
        lambda z, t: reference.sigmoid(z) - t,
    ),
    "poisson of exp": (
        "exp",
        (0, 0.5, 7),
        lambda z, t: (np.exp(z), -t * z),
        lambda z, t: np.exp(z) - t,
    ),
    "poisson of softplus": (
        "softplus",
        (0, 0.5, 7),
        lambda z, t: (softplus(z), -t * log_softplus(z)),
        lambda z, t: reference.sigmoid(z) - t * sigmoid_over_softplus(z),
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOGIT_LOSSES)
@np.errstate(over="ignore")
def test_losses_of_extreme_logits(name, dtype):
    """Where the true value is finite, the loss is finite and right, and so is its gradient."""
    activation, targets, terms_of, slope_of = LOGIT_LOSSES[name]
    limits = np.finfo(dtype)
    logits = np.concatenate([grid(dtype)[::7], np.array([-1000, -100, -30, 30, 60], dtype)])
    for t in targets:
        z = logits.astype(np.float64)
        # Leave out losses that are too large for the dtype.
        finite = np.sum(np.abs(terms_of(z, t)), axis=0) < limits.max / 2
        assert finite.sum() > len(z) // 2
        z, x = z[finite], logits[finite, np.newaxis]
        net = identity_network(activation, dtype)
        values, gradients = each_row(net, x, np.full(len(x), t, dtype), name.split()[0])
        # Terms may cancel, also in the gradient; each is off by a few ulp of itself.
        size = np.sum(np.abs(terms_of(z, t)), axis=0)
        error = np.abs(values - np.sum(terms_of(z, t), axis=0))
        assert (error <= 2 * ULPS * limits.eps * size + 1000 * limits.tiny).all()
        slope = slope_of(z, t)
        error = np.abs(gradients[:, 0] - slope)
        assert (error <= 2 * ULPS * limits.eps * np.maximum(np.abs(slope), max(t, 1))).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("as_rows", [False, True], ids=["labels", "one-hot"])
@np.errstate(over="ignore")
def test_cross_entropy_of_extreme_logits(as_rows, dtype):
    """The loss is the distance from the largest logit; 0 * infinity does not make it NaN."""
    z = np.repeat(huge_logits(dtype), 3, axis=0)
    labels = np.tile(np.arange(3), len(HUGE_LOGITS))
    net = identity_network("softmax", dtype, n=3)
    y = np.eye(3)[labels] if as_rows else labels[:, np.newaxis]
    values, gradients = each_row(net, z, y, "cross_entropy")
    exact = z.astype(np.float64)
    top = exact.max(axis=1)
    log_sum = np.log(np.exp(exact - top[:, np.newaxis]).sum(axis=1))
    truth = (top - exact[np.arange(len(z)), labels]) + log_sum
    largest = float(np.finfo(dtype).max)
    truth = np.where(truth > largest, np.inf, truth)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(values, truth, rtol=ULPS * eps, atol=ULPS * eps)
    truth = reference.softmax(exact) - np.eye(3)[labels]
    np.testing.assert_allclose(gradients, truth, rtol=0, atol=ULPS * eps)
