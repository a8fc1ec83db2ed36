"""Fixtures shared by the test modules."""

import signal
from itertools import pairwise

import numpy as np
import pytest

import cnet

# Shells that start the tests in the background make them ignore Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def make_network():
    """Return a function that makes a network with these sizes and random, non-zero biases."""

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
