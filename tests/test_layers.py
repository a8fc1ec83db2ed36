"""Layer objects: weights and biases as views of one flat array, and how layers form a network."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
from helpers import everything, network, refused

import cnet
from cnet import model
from cnet._core.engine import ACTIVATIONS

DTYPES = ["float32", "float64"]


class Failing(cnet.Initializer):
    """An initialiser that fails, for example because it runs out of memory."""

    def __call__(self, rng, n_inputs, n_neurons):
        rng.random()
        raise MemoryError("none left")


class Misshapen(cnet.Initializer):
    def __call__(self, rng, n_inputs, n_neurons):
        return np.zeros((n_neurons + 1, n_inputs))


class Infinite(cnet.Initializer):
    def __call__(self, rng, n_inputs, n_neurons):
        return np.full((n_inputs, n_neurons), np.inf)


class Counting(cnet.Initializer):
    """1, 2, 3 ... row by row."""

    def __call__(self, rng, n_inputs, n_neurons):
        return np.arange(1.0, n_inputs * n_neurons + 1).reshape(n_inputs, n_neurons)


# Two ways of building


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_objects_and_add_layer_build_the_same(dtype):
    by_objects = cnet.NeuralNetwork(
        cnet.Layer(3, 5, "relu"),
        cnet.Layer(5, 4, "tanh", bias=False, init="orthogonal", name="middle"),
        cnet.Layer(4, 2, "softmax", init=cnet.Uniform(-0.1, 0.1)),
        seed=7,
        dtype=dtype,
    )
    by_calls = (
        cnet.NeuralNetwork(seed=7, dtype=dtype)
        .add_layer(3, input_layer=True)
        .add_layer(5, "relu")
        .add_layer(4, "tanh", bias=False, init="orthogonal", name="middle")
        .add_layer(2, "softmax", init=cnet.Uniform(-0.1, 0.1))
    )
    assert everything(by_objects) == everything(by_calls)
    assert repr(by_objects) == repr(by_calls)


def test_layer_objects_and_add_layer_may_be_mixed():
    mixed = cnet.NeuralNetwork(cnet.Layer(3, 5, "tanh"), seed=1).add_layer(2)
    assert everything(mixed) == everything(network(3, 5, 2, seed=1, dtype="float32"))


def test_add_layer_returns_the_network():
    net = cnet.NeuralNetwork()
    assert net.add_layer(2, input_layer=True) is net
    assert net.add_layer(3) is net


def test_input_layer_may_be_the_third_argument_by_position():
    net = cnet.NeuralNetwork().add_layer(2, "sigmoid", True).add_layer(3)
    assert net.layers[0].weights.shape == (2, 3)


def test_layers_are_a_tuple_without_the_input_layer():
    net = network(2, 3, 1)
    assert [(layer.n_inputs, layer.n_neurons) for layer in net.layers] == [(2, 3), (3, 1)]
    assert isinstance(net.layers, tuple)
    assert network(2, 1).layers[0].activation == "sigmoid"
    assert cnet.NeuralNetwork().layers == ()
    assert cnet.NeuralNetwork().add_layer(3, input_layer=True).layers == ()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_known_by_its_name(activation):
    layer = network(2, 3, output=activation).layers[0]
    assert layer.activation == activation
    assert repr(activation) in repr(layer)


# Weights and biases


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_are_weights_row_by_row_then_biases_layer_by_layer(dtype):
    net = network(2, 3, 4, 1, dtype=dtype, init=Counting())
    for i, layer in enumerate(net.layers):
        layer.biases = np.full(layer.n_neurons, -1 - i)
    expected = [1, 2, 3, 4, 5, 6, *[-1] * 3, *range(1, 13), *[-2] * 4, 1, 2, 3, 4, -3]
    assert net.parameters.tolist() == expected
    assert net.parameters.dtype == dtype
    assert [layer.n_parameters for layer in net.layers] == [9, 16, 5]


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_and_biases_are_writable_views(dtype):
    net = network(2, 3, 1, dtype=dtype)
    first = net.layers[0]
    assert first.weights.base is not None
    assert np.shares_memory(first.weights, net.parameters)
    first.weights[1, 2] = 7
    first.biases[0] = 8
    assert net.parameters[[5, 6]].tolist() == [7, 8]
    net.parameters[:] = 0
    assert not first.weights.any()
    assert not first.biases.any()
    # The engine computes with them.
    assert net.predict([1, 1]).tolist() == [0.5]


@pytest.mark.parametrize("sizes", [(1, 1), (2, 3, 1), (7, 5, 3, 2), (300, 100)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_are_aligned_and_contiguous(sizes, dtype):
    for net in (network(*sizes, dtype=dtype), copy.deepcopy(network(*sizes, dtype=dtype))):
        assert net.parameters.ctypes.data % 64 == 0
        assert net.parameters.flags.c_contiguous
        assert all(layer.weights.flags.c_contiguous for layer in net.layers)


def test_setting_copies_into_the_view():
    net = network(2, 3, 1)
    layer = net.layers[0]
    view, values = layer.weights, np.arange(6.0).reshape(2, 3)
    layer.weights = values
    assert layer.weights is view
    assert net.parameters[:6].tolist() == [0, 1, 2, 3, 4, 5]
    values[:] = 9
    assert view.max() == 5
    biases = layer.biases
    layer.biases = [1, 2, 3]
    assert layer.biases is biases
    assert net.parameters[6:9].tolist() == [1, 2, 3]


def test_training_does_not_replace_the_array_of_parameters():
    net = network(2, 3, 1)
    parameters, weights = net.parameters, net.layers[0].weights
    before = weights.copy()
    net.train([[0, 1]], [1], 0.5, 1, verbose=False)
    assert net.parameters is parameters
    assert net.layers[0].weights is weights
    assert (weights != before).any()


def test_layers_without_bias():
    net = network(2, 3, 1, bias=False)
    layer = net.layers[0]
    assert layer.biases is None
    assert net.parameters.size == 2 * 3 + 3
    net.train([[0, 0]], [1], 0.5, 3, verbose=False)
    # Without biases, zero inputs give the middle of the sigmoid, whatever was learned.
    assert net.predict([0, 0]).tolist() == [0.5]
    with refused("bias=False", error=AttributeError, of=[net]):
        layer.biases = [0, 0, 0]


def test_weights_and_biases_do_not_depend_on_uninitialised_memory(monkeypatch):
    expected = network(3, 4, 2)
    monkeypatch.setattr(model, "aligned_empty", lambda size, dtype: np.full(size, np.nan, dtype))
    net = network(3, 4, 2)
    assert not any(layer.biases.any() for layer in net.layers)
    np.testing.assert_array_equal(net.parameters, expected.parameters)


def test_a_layer_has_no_weights_before_it_is_in_a_network():
    layer = cnet.Layer(2, 3)
    assert not layer.attached
    for name in ("weights", "biases"):
        with refused("once it is part of a NeuralNetwork", error=AttributeError):
            getattr(layer, name)
        with refused("once it is part of a NeuralNetwork", error=AttributeError):
            setattr(layer, name, np.zeros((2, 3)))
    cnet.NeuralNetwork(layer)
    assert layer.attached
    assert layer.weights.shape == (2, 3)


def test_a_pickled_layer_does_not_contain_its_weights():
    layer = network(2, 3, 1).layers[0]
    twin = pickle.loads(pickle.dumps(layer))
    assert not twin.attached
    assert repr(twin) == repr(layer)
    assert layer.attached


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (cnet.Layer(2, 3), "Layer(2, 3, 'sigmoid')"),
        (cnet.Layer(2, 3, "relu", bias=False), "Layer(2, 3, 'relu', bias=False)"),
        (cnet.Layer(2, 3, name="out"), "Layer(2, 3, 'sigmoid', name='out')"),
    ],
)
def test_repr(layer, text):
    assert repr(layer) == text


@pytest.mark.parametrize(
    ("activation", "init"),
    [
        ("sigmoid", cnet.GlorotUniform()),
        ("tanh", cnet.GlorotUniform()),
        ("softmax", cnet.GlorotUniform()),
        ("relu", cnet.HeUniform()),
        ("gelu", cnet.HeUniform()),
    ],
)
def test_the_initialiser_depends_on_the_activation(activation, init):
    assert cnet.Layer(2, 3, activation).init == init
    assert cnet.Layer(2, 3, activation, init="zeros").init == cnet.Zeros()


# Names


def test_names():
    net = network(2, 3, 4, 1).add_layer(2, name="out")
    assert [layer.name for layer in net.layers] == ["layer_1", "layer_2", "layer_3", "out"]


def test_a_copied_layer_has_the_name_of_its_new_position():
    net = network(2, 2, 2, name=None).add_layer(2, name="out")
    copies = [layer.copy() for layer in net.layers]
    assert [layer.name for layer in copies] == [None, None, "out"]
    turned = cnet.NeuralNetwork(*reversed(copies))
    assert [layer.name for layer in turned.layers] == ["out", "layer_2", "layer_3"]
    assert [layer.name for layer in net.layers] == ["layer_1", "layer_2", "out"]
    assert [layer.name for layer in net.copy().layers] == ["layer_1", "layer_2", "out"]


def test_names_are_unique():
    net = network(2, 3, 1, name=None).add_layer(2, name="out")
    for name in ("out", "layer_1"):
        with refused("name must be unique among the layers", repr(name), of=[net]):
            net.add_layer(1, name=name)
    # A default name must not repeat one that a user has given, either.
    net = cnet.NeuralNetwork(cnet.Layer(2, 3, name="layer_2"))
    with refused("name must be unique among the layers", "'layer_2'", of=[net]):
        net.add_layer(1)


def test_a_failed_add_layer_uses_up_no_name():
    layer = cnet.Layer(2, 3)
    with refused("layer 2 must take 3 inputs", "got 4"):
        cnet.NeuralNetwork(layer, cnet.Layer(4, 1))
    assert layer.name is None
    assert not layer.attached


# Layers that do not fit


def test_softmax_must_be_last():
    net = network(2, 3, output="softmax")
    with refused("softmax must be the last layer's activation", of=[net]):
        net.add_layer(1)
    with refused("softmax must be the last layer's activation"):
        cnet.NeuralNetwork(cnet.Layer(2, 3, "softmax"), cnet.Layer(3, 1))


def test_the_first_layer_must_be_the_input_layer():
    net = cnet.NeuralNetwork()
    with refused("input_layer must be True for the first layer", "add_layer(n_inputs", of=[net]):
        net.add_layer(3)
    assert repr(net) == repr(cnet.NeuralNetwork())


@pytest.mark.parametrize("layers", [(), (3,), (3, 1)], ids=str)
def test_a_second_input_layer_raises(layers):
    net = cnet.NeuralNetwork().add_layer(2, input_layer=True)
    for size in layers:
        net.add_layer(size)
    with refused("input_layer must be True for the first layer only", "2 inputs", of=[net]):
        net.add_layer(2, input_layer=True)


def test_a_network_of_layer_objects_has_its_input_layer():
    net = cnet.NeuralNetwork(cnet.Layer(2, 3))
    with refused("input_layer", "2 inputs already", of=[net]):
        net.add_layer(4, input_layer=True)


def test_layers_that_do_not_fit_together():
    with refused("layer 3 must take 4 inputs, as many as layer 2 has neurons, got 5"):
        cnet.NeuralNetwork(cnet.Layer(2, 3), cnet.Layer(3, 4), cnet.Layer(5, 1))


def test_a_layer_is_in_one_network_only():
    net = network(2, 3, 1)
    with refused("layers must not be part of a network already", "Layer(2, 3", of=[net]):
        cnet.NeuralNetwork(net.layers[0])
    layer = cnet.Layer(3, 3)
    with refused("each can be used only once; use copies, layer.copy(), got Layer(3, 3"):
        cnet.NeuralNetwork(layer, layer)
    assert not layer.attached


def test_layers_cannot_be_added_during_training():
    net = network(2, 3, 1)
    found = []

    def add(network, epoch, logs):
        with refused("cannot be trained or extended until", error=RuntimeError) as caught:
            network.add_layer(2)
        found.append(caught)

    net.train([[0, 1]], [1], epochs=1, callbacks=add, verbose=False)
    assert len(found) == 1
    assert len(net.layers) == 2
    assert len(net.add_layer(2).layers) == 3


@pytest.mark.parametrize(
    ("sizes", "error"),
    [
        ((2**20, 2**24), MemoryError),
        ((2**31 - 1, 2**31 - 1), ValueError),
        ((2**24, 2**24, 2**24), ValueError),
    ],
)
def test_networks_beyond_memory(sizes, error):
    layers = [cnet.Layer(n, m) for n, m in pairwise(sizes)]
    total = sum(layer.n_parameters for layer in layers)
    with refused(f"{total:,}", "weights and biases", error=error):
        cnet.NeuralNetwork(*layers)
    assert not any(layer.attached for layer in layers)


def trained():
    """Return a network so wide that the widest possible layer could not follow it."""
    net = network(2, 3, 2**13)
    net.train([[0, 1], [1, 0]], [0, 3], 0.1, 2, optimizer="adam", verbose=False)
    return net


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"num_neurons": 0}, ValueError),
        ({"num_neurons": 2**31 - 1, "name": "too large"}, MemoryError),
        ({"activation": "none"}, ValueError),
        ({"init": "none"}, ValueError),
        ({"name": "layer_1"}, ValueError),
        ({"input_layer": True}, ValueError),
        ({"init": Failing()}, MemoryError),
        ({"init": Misshapen()}, ValueError),
        ({"init": Infinite()}, ValueError),
    ],
    ids=repr,
)
def test_a_failed_add_layer_leaves_the_network_as_it_was(settings, error):
    net = trained()
    parameters, layers = net.parameters, net.layers
    with refused(error=error, of=[net]):
        net.add_layer(**{"num_neurons": 5, **settings})
    assert net.parameters is parameters
    assert net.layers == layers
    assert np.shares_memory(net.layers[0].weights, parameters)
    # Training continues with the optimizer's state, whose length is that of the parameters.
    assert net.trainer.state is None or net.trainer.state.moments.shape[1] == parameters.size


@pytest.mark.parametrize("init", [Failing(), Misshapen()], ids=repr)
def test_a_failed_constructor_leaves_the_layers_as_they_were(init):
    layers = [cnet.Layer(2, 3), cnet.Layer(3, 1, init=init)]
    with pytest.raises((ValueError, MemoryError)):
        cnet.NeuralNetwork(*layers)
    assert not any(layer.attached for layer in layers)
    assert [layer.name for layer in layers] == [None, None]


@pytest.mark.parametrize(
    "settings", [{"activation": "none"}, {"init": "none"}, {"bias": 2}, {"name": 3}], ids=repr
)
def test_the_settings_of_an_input_layer_are_checked_too(settings):
    net = cnet.NeuralNetwork()
    with pytest.raises((ValueError, TypeError), match=f"^{next(iter(settings))} must be"):
        net.add_layer(3, input_layer=True, **settings)
    assert repr(net) == repr(cnet.NeuralNetwork())


@pytest.mark.parametrize("name", ["n_inputs", "n_neurons", "activation", "bias", "init"])
def test_attributes_that_define_the_network_cannot_be_set(name):
    layer = network(2, 3, 1).layers[0]
    with pytest.raises(AttributeError):
        setattr(layer, name, getattr(layer, name))


# A layer added later


def test_a_layer_added_later_keeps_the_weights_before_it():
    net = trained()
    kept, before = net.parameters.copy(), net.layers
    views = [layer.weights for layer in before]
    x = [[0.0, 1.0]]
    outputs = net.activations(x)
    net.add_layer(2, "softmax")
    assert net.layers[:2] == before
    np.testing.assert_array_equal(net.parameters[: kept.size], kept)
    assert net.parameters.size == kept.size + 2**13 * 2 + 2
    for found, expected in zip(net.activations(x), outputs, strict=False):
        np.testing.assert_array_equal(found, expected)
    # Old views belong to the old array, the layers' new views to the new one.
    net.parameters[0] = 99
    assert views[0][0, 0] != 99
    assert net.layers[0].weights[0, 0] == 99
    # The optimizer's state belonged to the shorter array, so training resets it.
    net.train(x, [1], 0.1, 2, optimizer="adam", verbose=False)
    assert np.isfinite(net.parameters).all()


def test_a_network_that_grew_trains_like_one_that_was_built_whole():
    grown, whole = network(2, 3, 4), network(2, 3, 4)
    grown.add_layer(1)
    whole = cnet.NeuralNetwork(
        cnet.Layer(2, 3, "tanh"), cnet.Layer(3, 4), cnet.Layer(4, 1), seed=0, dtype="float64"
    )
    for net in (grown, whole):
        net.train([[0, 1], [1, 0]], [0, 1], 0.1, 5, optimizer="adam", verbose=False)
    assert everything(grown) == everything(whole)
