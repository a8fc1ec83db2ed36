"""Initialisers: distributions, shapes, names and settings, and reproducibility."""

import re
from math import sqrt

import numpy as np
import pytest
import reference

import cnet
from cnet.initializers import GlorotUniform, HeUniform

N_INPUTS, N_NEURONS = 300, 500

# Name, class and, for a layer of this shape, a uniform's bound or a normal distribution's variance.
UNIFORM = {
    "glorot_uniform": (cnet.GlorotUniform, sqrt(6 / (N_INPUTS + N_NEURONS))),
    "he_uniform": (cnet.HeUniform, sqrt(6 / N_INPUTS)),
    "uniform": (cnet.Uniform, 1.0),
}
NORMAL = {
    "glorot_normal": (cnet.GlorotNormal, 2 / (N_INPUTS + N_NEURONS)),
    "he_normal": (cnet.HeNormal, 2 / N_INPUTS),
    "lecun_normal": (cnet.LecunNormal, 1 / N_INPUTS),
}
OTHER = {"orthogonal": cnet.Orthogonal, "zeros": cnet.Zeros}
CLASSES = {name: made for name, (made, _) in (UNIFORM | NORMAL).items()} | OTHER

# All activations that pass on about half of their input, like relu.
HE = {"relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus"}


def draw(
    init, n_inputs=N_INPUTS, n_neurons=N_NEURONS, activation="linear", *, seed=0, dtype="float64"
):
    layer = cnet.Layer(n_inputs, n_neurons, activation, init=init)
    cnet.NeuralNetwork(layer, seed=seed, dtype=dtype)
    return layer.weights


def test_all_initializers_are_tested():
    """Every known name has a class here."""
    with pytest.raises(ValueError, match="init must be one of") as refusal:
        cnet.Layer(1, 1, init="none")
    assert set(re.findall(r"'(\w+)'", str(refusal.value))) == {*CLASSES, "auto", "none"}


# For 150,000 samples, a mean is within 5 standard errors, except for one seed in a million.


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform(name):
    """Values are within and close to the bound; the mean and the counts in ten equal parts are even."""
    bound = UNIFORM[name][1]
    weights = draw(name)
    assert weights.shape == (N_INPUTS, N_NEURONS)
    n = weights.size
    assert 0.9999 * bound < np.abs(weights).max() <= bound
    assert abs(weights.mean()) < 5 * bound / sqrt(3 * n)
    shares, _ = np.histogram(weights, bins=10, range=(-bound, bound))
    assert np.abs(shares / n - 0.1).max() < 5 * sqrt(0.1 * 0.9 / n)


@pytest.mark.parametrize("name", NORMAL)
def test_normal(name):
    """Moments up to the fourth: 3 for a normal distribution, less for a truncated or uniform one."""
    variance = NORMAL[name][1]
    weights = draw(name) / sqrt(variance)
    n = weights.size
    for power, moment, spread in ((1, 0, 1), (2, 1, sqrt(2)), (3, 0, sqrt(15)), (4, 3, sqrt(96))):
        assert abs(np.mean(weights**power) - moment) < 5 * spread / sqrt(n)
    assert np.abs(weights).max() > 4


@pytest.mark.parametrize("name", [*UNIFORM, *NORMAL])
def test_scale_depends_on_the_layers_shape(name):
    """Inputs and neurons are not swapped: that would change the scale of all except glorot's."""
    here, there = (np.std(draw(name, *shape)) for shape in ((300, 500), (500, 300)))
    expected = sqrt(500 / 300) if name in ("he_uniform", "he_normal", "lecun_normal") else 1
    assert here / there == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("shape", [(40, 25), (25, 40), (30, 30), (1, 7), (7, 1), (1, 1)])
def test_orthogonal(shape):
    """The rows or the columns, whichever are fewer, are orthonormal."""
    weights = draw("orthogonal", *shape)
    assert weights.shape == shape
    product = weights.T @ weights if shape[0] >= shape[1] else weights @ weights.T
    np.testing.assert_allclose(product, np.eye(min(shape)), rtol=0, atol=1e-14)


def test_orthogonal_is_uniform_over_all_matrices():
    """Evenly distributed: QR alone would give the first element the same sign every time."""
    first = np.array([draw("orthogonal", 3, 3, seed=seed)[0, 0] for seed in range(100)])
    assert 30 < np.sum(first > 0) < 70
    # A coordinate of a random point of the sphere is uniform in [-1, 1], with variance 1/3.
    assert np.var(first) == pytest.approx(1 / 3, rel=0.3)


def test_zeros():
    assert not draw("zeros").any()


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_auto(activation):
    """Including the default: he_uniform for relu and similar activations, glorot_uniform otherwise."""
    expected = HeUniform() if activation in HE else GlorotUniform()
    layer = cnet.Layer(5, 4, activation)
    assert layer.init == cnet.Layer(5, 4, activation, init="auto").init == expected
    cnet.NeuralNetwork(layer, seed=1)
    net = cnet.NeuralNetwork(seed=1).add_layer(5, input_layer=True).add_layer(4, activation)
    wanted = draw(expected, 5, 4, activation, seed=1, dtype="float32")
    for weights in (layer.weights, net.layers[0].weights):
        np.testing.assert_array_equal(weights, wanted)


# Names and settings.


@pytest.mark.parametrize("name", CLASSES)
def test_names_and_objects(name):
    """The same weights, for a layer and for `add_layer`."""
    expected = draw(name, 6, 4, seed=2)
    np.testing.assert_array_equal(draw(CLASSES[name](), 6, 4, seed=2), expected)
    net = cnet.NeuralNetwork(seed=2, dtype="float64")
    net.add_layer(6, input_layer=True).add_layer(4, "linear", init=name)
    np.testing.assert_array_equal(net.layers[0].weights, expected)


@pytest.mark.parametrize(
    "init", ["uniform(-0.25, 2)", cnet.Uniform(-0.25, 2), cnet.Uniform(b=2, a=-0.25)]
)
def test_uniform_between(init):
    weights = draw(init)
    assert -0.25 <= weights.min() < -0.2499
    assert 1.9999 < weights.max() <= 2
    assert weights.mean() == pytest.approx((2 - 0.25) / 2, abs=5 * 2.25 / sqrt(12 * weights.size))


def test_uniform_of_one_value():
    assert (draw("uniform(0.5, 0.5)", 3, 3) == 0.5).all()


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        (1, -1, ValueError),
        (np.nan, 1, ValueError),
        (-np.inf, 1, ValueError),
        (0, np.inf, ValueError),
        ("0", 1, TypeError),
        (0, None, TypeError),
        (False, True, TypeError),
    ],
)
def test_bad_bounds(a, b, error):
    with pytest.raises(error, match=r"^[ab] must be"):
        cnet.Uniform(a, b)


@pytest.mark.parametrize(
    "init",
    [
        "he",
        "HeNormal",
        "uniform(",
        "uniform(,)",
        "uniform(a, b)",
        "uniform 1",
        "",
        None,
        0,
        cnet.HeNormal,
    ],
)
def test_unknown_initializers(init):
    with pytest.raises(ValueError, match=r"init must be one of 'auto', 'glorot_uniform', .* got"):
        cnet.Layer(1, 1, init=init)


class Diagonal(cnet.Initializer):
    """A custom initialiser."""

    def __call__(self, rng, n_inputs, n_neurons):
        return np.eye(n_inputs, n_neurons)


def test_custom_initializer():
    np.testing.assert_array_equal(draw(Diagonal(), 3, 2), np.eye(3, 2))


# Seeds.


def network(seed, dtype="float64"):
    """Return a network that uses every initialiser."""
    layers = [cnet.Layer(4, 4, "tanh", init=name) for name in CLASSES]
    return cnet.NeuralNetwork(*layers, seed=seed, dtype=dtype)


def test_seeds():
    """The same seed gives the same network, bit for bit; another seed, or none, a different one."""
    start = network(5).parameters
    np.testing.assert_array_equal(network(5).parameters, start)
    np.testing.assert_array_equal(network(np.random.default_rng(5)).parameters, start)
    for other in (6, None):
        assert not np.array_equal(network(other).parameters, start)
    assert not np.array_equal(network(None).parameters, network(None).parameters)


def test_layers_differ():
    """Layers of the same shape and initialiser get successive random numbers, not the same ones."""
    net = cnet.NeuralNetwork(cnet.Layer(4, 4), cnet.Layer(4, 4), seed=0)
    assert not np.array_equal(net.layers[0].weights, net.layers[1].weights)


def test_initial_weights_do_not_depend_on_how_layers_are_added():
    net = cnet.NeuralNetwork(seed=5, dtype="float64").add_layer(4, input_layer=True)
    for name in CLASSES:
        net.add_layer(4, "tanh", init=name)
    np.testing.assert_array_equal(net.parameters, network(5).parameters)


def test_both_dtypes_have_the_same_initial_weights():
    """Random numbers are float64, and a float32 network rounds them."""
    single, double = network(5, "float32").parameters, network(5, "float64").parameters
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(single, double.astype(np.float32))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_biases_start_at_zero(name, dtype):
    """Also for layers added later, when the parameters move to a longer array."""
    net = cnet.NeuralNetwork(cnet.Layer(3, 4, "relu", init=name), dtype=dtype)
    net.add_layer(5, "tanh", init=name)
    for layer in net.layers:
        assert layer.biases.shape == (layer.n_neurons,)
        assert not layer.biases.any()
    assert cnet.NeuralNetwork(cnet.Layer(3, 4, bias=False)).layers[0].biases is None
