"""What the test modules share."""

import signal
from itertools import pairwise

import numpy as np
import pytest

import cnet

# A shell that starts the tests in the background has them ignore Ctrl-C, which some of them press.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def make_network():
    """Return a function that makes a network of these sizes, biases drawn too, not zero."""

    def make(sizes, activations, *, bias=True, dtype="float64", seed=0, spread=0.7):
        layers = [
            cnet.Layer(n_inputs, n_neurons, activation, bias=bias)
            for (n_inputs, n_neurons), activation in zip(pairwise(sizes), activations, strict=True)
        ]
        net = cnet.NeuralNetwork(*layers, seed=seed, dtype=dtype)
        rng = np.random.default_rng(seed)
        net.parameters[...] = rng.uniform(-spread, spread, net.parameters.shape)
        return net

    return make
