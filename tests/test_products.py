"""Matrix products of every shape that has its own path, through a layer without activation."""

import numpy as np
import pytest

import cnet

# Around the widths of the tiles, up to four columns, and more rows of weights than one piece has.
SIZES = [1, 2, 4, 5, 16, 20, 33, 100, 450]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 7, 31, 600])
@pytest.mark.parametrize("n_outputs", SIZES)
@pytest.mark.parametrize("n_inputs", SIZES)
def test_products_of_a_linear_layer(n_inputs, n_outputs, n, dtype):
    rng = np.random.default_rng(0)
    net = cnet.NeuralNetwork(seed=0, dtype=dtype).add_layer(n_inputs, input_layer=True)
    net.add_layer(n_outputs, "linear")
    x = rng.normal(size=(n, n_inputs)).astype(dtype)
    y = rng.normal(size=(n, n_outputs)).astype(dtype)
    weights = net.parameters[: n_inputs * n_outputs].reshape(n_inputs, n_outputs).astype(float)
    biases = net.parameters[n_inputs * n_outputs :].astype(float)
    outputs = x @ weights + biases
    delta = (outputs - y) / n
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-11}
    )
    np.testing.assert_allclose(net.predict(x), outputs, **tolerance)
    gradient = net.loss_and_gradient(x, y)[1]
    np.testing.assert_allclose(gradient[: weights.size], (x.T @ delta).ravel(), **tolerance)
    np.testing.assert_allclose(gradient[weights.size :], delta.sum(axis=0), **tolerance)
    np.testing.assert_allclose(net.input_gradient(x, y), delta @ weights.T, **tolerance)
