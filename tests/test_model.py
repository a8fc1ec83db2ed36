"""Model: its description as a dict, the checks when it is read, and layers as views of it."""

import copy
import gc
import json
import pickle
import weakref

import numpy as np
import pytest
from helpers import everything, network, refused

import cnet
from cnet.layers import LAYER_KINDS, layer_from_config
from cnet.model import Model

DTYPES = ["float32", "float64"]


class Ones(cnet.Initializer):
    """A user's own initialiser."""

    def __call__(self, rng, n_inputs, n_neurons):
        return np.ones((n_inputs, n_neurons))


def build(dtype="float64"):
    """Return a network whose layers use every setting."""
    layers = [
        cnet.Layer(3, 5, "relu", dropout=0.25, l1=0.1, init="uniform(-0.5, 0.25)", name="first"),
        cnet.Layer(5, 4, "tanh", bias=False, l2=0.2, init="orthogonal"),
        cnet.Layer(4, 2, "softmax", max_norm=1.5),
    ]
    net = cnet.NeuralNetwork(*layers, seed=1, dtype=dtype)
    net.layers[0].trainable = False
    net.layers[1].learning_rate_factor = 0.5
    net.layers[2].bias_learning_rate_factor = 2.0
    return net


# To a dict and back


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_description_gives_the_same_model(dtype):
    net = build(dtype)
    description = net.model.to_dict()
    model = Model.from_dict(description)
    assert everything(model.to_dict()) == everything(description)
    np.testing.assert_array_equal(model.parameters, net.parameters)
    assert [repr(layer) for layer in model.layers] == [repr(layer) for layer in net.layers]
    assert [layer.init for layer in model.layers] == [layer.init for layer in net.layers]
    assert [layer.trainable for layer in model.layers] == [False, True, True]
    assert [layer.learning_rate_factor for layer in model.layers] == [1.0, 0.5, 1.0]
    assert [layer.bias_learning_rate_factor for layer in model.layers] == [None, None, 2.0]


def test_a_description_has_plain_values_and_arrays_only():
    description = build().model.to_dict()
    assert list(description) == ["version", "dtype", "layers", "tensors", "buffers"]
    assert list(description["tensors"]) == [
        "first.weights",
        "first.biases",
        "layer_2.weights",
        "layer_3.weights",
        "layer_3.biases",
    ]
    assert description["buffers"] == {}
    layers = description["layers"]
    assert json.loads(json.dumps(layers)) == layers
    assert layers[0]["init"] == "uniform(-0.5, 0.25)"
    assert layers[1]["init"] == "orthogonal"


def test_a_description_is_a_copy():
    net = build()
    description = net.model.to_dict()
    before = everything(description)
    net.parameters[...] = 7
    assert everything(description) == before
    model = Model.from_dict(description)
    description["tensors"]["first.weights"][...] = 9
    assert 9 not in model.parameters


def test_tensors_are_views_by_name():
    net = build()
    tensors = net.model.tensors
    assert all(np.shares_memory(view, net.parameters) for view in tensors.values())
    assert sum(view.size for view in tensors.values()) == net.parameters.size
    assert tensors["layer_2.weights"] is net.layers[1].weights
    assert net.model.place(net.layers[1]).parameters == net.layers[0].n_parameters
    assert net.buffers.shape == (0,)


def test_a_custom_initialiser_is_kept_by_copies_and_not_by_descriptions():
    net = cnet.NeuralNetwork(cnet.Layer(2, 3, init=Ones()))
    assert net.copy().layers[0].init == Ones()
    assert copy.deepcopy(net).layers[0].init == Ones()
    assert net.model.to_dict()["layers"][0]["init"] == "custom"
    restored = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(restored.parameters, net.parameters)
    with refused("custom initialiser", "init="):
        cnet.NeuralNetwork(cnet.Layer(2, 3, init=restored.layers[0].init))


def damaged(change):
    """Return a description that `change` has modified."""
    description = build().model.to_dict()
    change(description)
    return description


def put(*path, value):
    """Return a function that sets a value deep in a description."""

    def change(description):
        for key in path[:-1]:
            description = description[key]
        description[path[-1]] = value

    return change


def remove(*path):
    def change(description):
        for key in path[:-1]:
            description = description[key]
        del description[path[-1]]

    return change


WEIGHTS = "layer_2.weights"
LAYER = ("layers", 1)
DAMAGES = {
    "another version": (put("version", value=2), ["version", "must be 1", "got 2"]),
    "no version": (remove("version"), ["'version'", "missing"]),
    "an unknown key": (put("extra", value=1), ["unknown key 'extra'"]),
    "a misspelt key": (put("layer", value=1), ["unknown key 'layer'", "'layers'"]),
    "another dtype": (put("dtype", value="float16"), ["dtype must be", "'float16'"]),
    "the other dtype": (put("dtype", value="float32"), ["must be an array of float32", "float64"]),
    "no dtype": (put("dtype", value=None), ["dtype must be text", "None"]),
    "no layers": (put("layers", value=[]), ["layers must be a list", "[]"]),
    "layers that are not a list": (
        put("layers", value="dense"),
        ["layers must be a list", "dense"],
    ),
    "a layer that is not a dict": (put(*LAYER, value=3), ["described by a dict", "3"]),
    "an unknown kind": (put(*LAYER, "kind", value="dens"), ["kind must be", "mean 'dense'"]),
    "no kind": (remove(*LAYER, "kind"), ["kind must be", "None"]),
    "a layer without a size": (remove(*LAYER, "n_inputs"), ["'n_inputs'", "missing"]),
    "a layer without bias": (remove(*LAYER, "bias"), ["'bias'", "missing"]),
    "an unknown setting": (put(*LAYER, "l3", value=0.0), ["unknown key 'l3'"]),
    "a size that is text": (put(*LAYER, "n_neurons", value="4"), ["n_neurons must be", "'4'"]),
    "a negative size": (put(*LAYER, "n_neurons", value=-4), ["n_neurons must be", "-4"]),
    "a size that does not fit": (put(*LAYER, "n_inputs", value=6), ["6"]),
    "a very large size": (put("layers", 2, "n_neurons", value=2**31 - 1), ["must have shape"]),
    "an unknown activation": (put(*LAYER, "activation", value="tan"), ["mean 'tanh'"]),
    "a softmax inside": (put(*LAYER, "activation", value="softmax"), ["softmax must be"]),
    "a negative penalty": (put(*LAYER, "l2", value=-1.0), ["l2 must be", "-1"]),
    "a penalty that is NaN": (put(*LAYER, "l2", value=np.nan), ["l2 must be", "nan"]),
    "a penalty that is text": (put(*LAYER, "l2", value="1"), ["l2 must be", "'1'"]),
    "full dropout": (put(*LAYER, "dropout", value=1.0), ["dropout must be", "1"]),
    "a bias that is not a bool": (put(*LAYER, "bias", value=0), ["bias must be", "0"]),
    "an unknown initialiser": (put(*LAYER, "init", value="ones"), ["init must be", "'ones'"]),
    "a name that is not text": (put(*LAYER, "name", value=2), ["name must be text", "2"]),
    "the same name twice": (put(*LAYER, "name", value="first"), ["name must be unique"]),
    "a flag that is not a bool": (put(*LAYER, "trainable", value=1), ["trainable must be", "1"]),
    "a negative factor": (
        put(*LAYER, "learning_rate_factor", value=-0.5),
        ["learning_rate_factor must be", "-0.5"],
    ),
    "no tensors": (put("tensors", value=None), ["tensors must be a dict", "None"]),
    "a missing tensor": (remove("tensors", WEIGHTS), [f"'{WEIGHTS}'", "missing"]),
    "an unknown tensor": (
        put("tensors", "layer_2.biases", value=np.zeros(4)),
        ["unknown key 'layer_2.biases'"],
    ),
    "a tensor that is a list": (
        put("tensors", WEIGHTS, value=[[0.0] * 4] * 5),
        ["must be an array of float64", "got [[0.0"],
    ),
    "a transposed tensor": (
        put("tensors", WEIGHTS, value=np.zeros((4, 5))),
        ["shape (5, 4)", "(4, 5)"],
    ),
    "a flat tensor": (put("tensors", WEIGHTS, value=np.zeros(20)), ["shape (5, 4)", "(20,)"]),
    "a tensor of integers": (
        put("tensors", WEIGHTS, value=np.zeros((5, 4), int)),
        ["must be an array of float64", "int64"],
    ),
    "a tensor of objects": (
        put("tensors", WEIGHTS, value=np.zeros((5, 4), object)),
        ["must be an array of float64", "object"],
    ),
    "a tensor of the other byte order": (
        put("tensors", WEIGHTS, value=np.zeros((5, 4), ">f8")),
        ["must be an array of float64", ">f8"],
    ),
    "a NaN": (put("tensors", WEIGHTS, value=np.full((5, 4), np.nan)), ["NaN or infinite", WEIGHTS]),
    "an infinity": (put("tensors", WEIGHTS, value=np.full((5, 4), -np.inf)), ["NaN or infinite"]),
    "an unknown buffer": (put("buffers", "first.mean", value=np.zeros(3)), ["'first.mean'"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_description_raises(damage):
    change, words = DAMAGES[damage]
    with pytest.raises((ValueError, TypeError)) as caught:
        Model.from_dict(damaged(change))
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize("description", [None, 3, "model", [], ()], ids=repr)
def test_an_object_that_is_not_a_description_raises(description):
    with pytest.raises((ValueError, TypeError), match="a model must"):
        Model.from_dict(description)


@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_every_kind_of_layer_can_be_described(kind):
    assert LAYER_KINDS[kind].kind == kind
    layer = cnet.Layer(2, 3, "gelu", name="one")
    assert layer_from_config(layer.config()).config() == layer.config()


# Pickles


def pickled(change):
    """Return a network from a state that `change` has modified."""
    net = build()
    net.train(np.ones((4, 3)), [0, 1, 0, 1], 0.1, 2, optimizer="adam", verbose=False)
    net.layers[0].trainable = True
    state = net.__getstate__()
    change(state["trainer"])
    restored = object.__new__(cnet.NeuralNetwork)
    restored.__setstate__(state)
    return restored


STATES = {
    "another version": (put("version", value=0), ["version", "got 0"]),
    "no model": (remove("model"), ["'model'", "missing"]),
    "a damaged model": (put("model", "tensors", value={}), ["tensors must have the key"]),
    "another dtype": (put("dtype", value="float32"), ["dtype must be that of the model"]),
    "no random numbers": (put("rng", value=None), ["rng must be"]),
    "a dict as history": (put("history", value={"loss": [1.0]}), ["history must be"]),
    "an unknown loss": (put("loss", value={"name": "hinge"}), ["loss must be"]),
    "a loss that does not fit": (
        put("loss", value={"name": "poisson"}),
        ["'poisson' does not go with", "'softmax'"],
    ),
    "a loss with other settings": (
        put("loss", value={"name": "cross_entropy", "q": 1}),
        ["loss has invalid settings"],
    ),
    "an unknown optimizer": (put("optimizer", "settings", "name", value="adamm"), ["optimizer"]),
    "an optimizer out of range": (
        put("optimizer", "settings", "beta_1", value=1.5),
        ["optimizer has invalid settings", "beta_1"],
    ),
    "moments of another length": (
        put("optimizer", "moments", value=np.zeros((2, 3))),
        ["moments must have shape"],
    ),
    "too few moments": (
        put("optimizer", "moments", value=np.zeros((1, 50))),
        ["moments must have shape"],
    ),
    "moments of another dtype": (
        put("optimizer", "moments", value=np.zeros((2, 50), "float32")),
        ["moments must be an array of float64"],
    ),
    "an infinite moment": (
        put("optimizer", "moments", value=np.full((2, 50), np.inf)),
        ["moments must not have NaN"],
    ),
    "negative steps": (put("optimizer", "steps", value=-1), ["steps must be", "-1"]),
    "steps beyond an intp": (put("optimizer", "steps", value=2**70), ["steps must be"]),
    "negative inputs": (put("n_inputs", value=-1), ["n_inputs must be", "-1"]),
}


@pytest.mark.parametrize("damage", STATES)
def test_a_damaged_pickle_raises(damage):
    change, words = STATES[damage]
    with pytest.raises((ValueError, TypeError)) as caught:
        pickled(change)
    message = str(caught.value)
    assert all(word in message for word in words), message


def test_an_undamaged_pickle_is_accepted():
    restored = pickled(lambda state: None)
    assert restored.trainer.state.steps[0] == 8
    assert restored.predict(np.ones(3)).shape == (2,)


def test_a_copy_keeps_the_attributes_of_a_subclass():
    class Named(cnet.NeuralNetwork):
        pass

    net = Named(cnet.Layer(2, 1))
    net.labels = ["no", "yes"]
    twin = net.copy()
    assert type(twin) is Named
    assert twin.labels == net.labels
    assert twin.labels is not net.labels


# Layers


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("trainble", "trainable"), ("learning_rate", "learning_rate_factor"), ("weight", "weights")],
)
def test_an_unknown_attribute_cannot_be_set(name, suggestion):
    layer = network(2, 3).layers[0]
    with refused("Layer has no attribute", repr(name), suggestion, error=AttributeError):
        setattr(layer, name, 1)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("trainable", 1, TypeError),
        ("trainable", None, TypeError),
        ("learning_rate_factor", -1, ValueError),
        ("learning_rate_factor", np.nan, ValueError),
        ("learning_rate_factor", True, TypeError),
        ("learning_rate_factor", None, TypeError),
        ("bias_learning_rate_factor", -0.5, ValueError),
        ("bias_learning_rate_factor", "1", TypeError),
        ("name", 3, TypeError),
        ("name", None, TypeError),
    ],
)
def test_invalid_values_cannot_be_set(name, value, error):
    layer = network(2, 3).layers[0]
    before = layer.config()
    with refused(f"{name} must be", error=error):
        setattr(layer, name, value)
    assert layer.config() == before


def test_live_settings_can_be_set():
    layer = cnet.Layer(2, 3)
    assert (layer.trainable, layer.learning_rate_factor) == (True, 1.0)
    assert layer.bias_learning_rate_factor is None
    layer.trainable = np.False_
    layer.learning_rate_factor = np.float32(0.5)
    layer.bias_learning_rate_factor = 0
    layer.name = "new"
    assert layer.config()["trainable"] is False
    assert layer.config()["learning_rate_factor"] == 0.5
    assert layer.config()["bias_learning_rate_factor"] == 0.0
    layer.bias_learning_rate_factor = None
    assert layer.bias_learning_rate_factor is None


def test_a_layer_cannot_have_the_name_of_another():
    net = network(2, 3, 1)
    net.layers[0].name = "hidden"
    assert next(iter(net.model.tensors)) == "hidden.weights"
    with refused("name must be unique", "'hidden'", of=[net]):
        net.layers[1].name = "hidden"
    net.layers[0].name = "hidden"
    assert Model.from_dict(net.model.to_dict()).layers[0].name == "hidden"


def test_layers_that_outlive_their_network_keep_their_arrays():
    net = network(2, 3, 1)
    layer, weights = net.layers[0], net.layers[0].weights.copy()
    parameters = net.parameters
    del net
    np.testing.assert_array_equal(layer.weights, weights)
    layer.biases = [1, 2, 3]
    assert parameters[6:9].tolist() == [1, 2, 3]
    with refused("part of a network already"):
        cnet.NeuralNetwork(layer)


def test_a_network_is_freed_without_the_garbage_collector():
    net = network(2, 3, 1)
    net.train([[0, 1]], [1], epochs=1, verbose=False)
    net.train_one([0, 1], 1)
    net.predict([0, 1])
    trainer, model = weakref.ref(net.trainer), weakref.ref(net.model)
    gc.disable()
    try:
        del net
        assert trainer() is None
        assert model() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "way", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copied_layer_is_not_attached(way):
    layer = build().layers[0]
    layer.learning_rate_factor = 0.25
    twin = way(layer)
    assert not twin.attached
    assert twin.config() == layer.config()


def test_a_description_with_a_negative_variance_raises():
    """The square root of it would make every prediction NaN."""
    net = cnet.NeuralNetwork(cnet.Residual(cnet.BatchNorm(2)), cnet.Layer(2, 1), seed=0)
    description = net.model.to_dict()
    description["buffers"]["layer_1.layer_1.running_variance"][0] = -1
    with refused("running_variance must be 0 or more"):
        Model.from_dict(description)


def test_a_state_without_a_trainer_raises():
    """A network keeps what it has if `__setstate__` gets a pickle of something else."""
    net = build()
    with refused("a network must be a dict", error=TypeError, of=[net]):
        net.__setstate__({"weights": []})
