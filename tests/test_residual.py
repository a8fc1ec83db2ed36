"""Residual: values and gradients of skip connections, and how networks with them behave."""

import copy
import json
import pickle

import numpy as np
import pytest
import reference
from helpers import everything, in_blocks_of, refused, unchanged
from numpy.testing import assert_allclose, assert_array_equal
from reference_layers import (
    Network,
    central_differences,
    mean_squared_error,
    problem,
    spread,
)
from reference_torch import Twin
from test_normalization import CLASSES, Watching, check_gradients, check_step, optimizers

import cnet
from cnet._core import engine
from cnet.model import Model

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def network(*layers, dtype="float64", seed=0):
    return spread(cnet.NeuralNetwork(*layers, dtype=dtype, seed=seed), size=0.1)


def blocks(dtype="float64"):
    """Return a network with skip connections of every kind: first, nested, one after another, last."""
    return network(
        cnet.Residual(cnet.Layer(5, 5, "tanh")),
        cnet.Layer(5, 6, "relu"),
        cnet.Residual(
            cnet.LayerNorm(6, "silu"),
            cnet.Layer(6, 4, "tanh", bias=False),
            cnet.Residual(cnet.Residual(cnet.Layer(4, 4, "gelu")), cnet.Layer(4, 4, "softsign")),
            cnet.Layer(4, 6, "linear"),
        ),
        cnet.Residual(cnet.BatchNorm(6), cnet.Layer(6, 6, "tanh"), cnet.BatchNorm(6, "tanh")),
        cnet.Layer(6, 3, "linear"),
        cnet.Residual(cnet.Layer(3, 8, "relu"), cnet.Layer(8, 3, "sigmoid")),
        dtype=dtype,
    )


def narrow(dtype="float64"):
    """Return a network that is trained neuron by neuron, with rows in the lanes of vectors."""
    return network(
        cnet.Residual(cnet.Layer(3, 7, "tanh"), cnet.Layer(7, 3, "relu")),
        cnet.Layer(3, 5, "silu"),
        cnet.Residual(
            cnet.Layer(5, 5, "gelu"), cnet.Residual(cnet.Layer(5, 5, "linear", bias=False))
        ),
        cnet.Layer(5, 2, "linear"),
        cnet.Residual(cnet.Layer(2, 2, "tanh")),
        dtype=dtype,
    )


# Values and gradients


def test_outputs_are_inputs_plus_those_of_the_layers():
    net = network(cnet.Residual(cnet.Layer(4, 6, "tanh"), cnet.Layer(6, 4, "relu")))
    inner = cnet.NeuralNetwork(cnet.Layer(4, 6, "tanh"), cnet.Layer(6, 4, "relu"), dtype="float64")
    inner.parameters[...] = net.parameters
    x, _ = problem(net, 7)
    assert_array_equal(net.predict(x), x + inner.predict(x))


@pytest.mark.parametrize("activation", sorted(reference.ELEMENTWISE))
def test_gradients_before_inside_and_after_every_activation(activation):
    net = network(
        cnet.Layer(3, 4, activation),
        cnet.Residual(cnet.Layer(4, 4, "tanh"), cnet.Layer(4, 4, activation)),
        cnet.Layer(4, 2, activation),
    )
    x, y = problem(net, 5)
    check_gradients(net, x, y)
    check_step(net, x, y)


def test_gradients_before_softmax():
    net = network(cnet.Residual(cnet.Layer(3, 3, "tanh")), cnet.Layer(3, 4, "softmax"))
    x, _ = problem(net, 5)
    check_gradients(net, x, np.arange(5) % 4)


@pytest.mark.parametrize("make", [blocks, narrow])
@pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
@pytest.mark.parametrize("block", [None, 4, 7])
def test_gradients_with_weights_reductions_and_blocks(make, reduction, block):
    net = make()
    if block:
        in_blocks_of(block, net)
    x, y = problem(net, 19)
    weights = np.random.default_rng(3).uniform(0, 2, 19)
    check_gradients(net, x, y, reduction=reduction, sample_weight=weights)


@pytest.mark.parametrize("block", [None, 4])
def test_gradients_of_a_loss_in_python(block):
    net = blocks()
    if block:
        in_blocks_of(block, net)
    check_gradients(net, *problem(net, 19), loss=mean_squared_error)


@pytest.mark.parametrize("make", [blocks, narrow])
@pytest.mark.parametrize("block", [None, 4, 7])
@pytest.mark.parametrize(
    ("reduction", "divisor"),
    [("mean", lambda w: len(w)), ("sum", lambda w: 1), ("weighted_mean", lambda w: w.sum())],
)
def test_training_step_with_weights_reductions_and_blocks(make, reduction, divisor, block):
    net = make()
    if block:
        in_blocks_of(block, net)
    x, y = problem(net, 23)
    weights = np.random.default_rng(3).uniform(0, 2, 23)
    check_step(net, x, y, weights, divisor(weights), reduction=reduction)


@pytest.mark.parametrize("make", [blocks, narrow])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 16, 600, 1500])
def test_training_step_of_any_number_of_rows(make, n):
    net = make()
    check_step(net, *problem(net, n))


@pytest.mark.parametrize("make", [blocks, narrow])
@optimizers
def test_training_agrees_with_the_reference(make, name, settings):
    net = make()
    x, y = problem(net, 45)
    slow = Network(net)
    losses = slow.train(name, 0.02, x, y, batch_size=8, epochs=3, **settings)
    history = net.train(
        x, y, 0.02, 3, batch_size=8, optimizer=CLASSES[name](**settings), shuffle=False,
        verbose=False,
    )  # fmt: skip
    assert_allclose(history["loss"], losses, rtol=1e-6)
    assert_allclose(net.parameters, slow.parameters, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make", [blocks, narrow])
@optimizers
def test_training_agrees_with_pytorch(make, name, settings):
    torch = pytest.importorskip("torch")
    net = make()
    if make is blocks:
        net = network(
            cnet.Layer(5, 6, "relu"),
            cnet.Residual(
                cnet.LayerNorm(6),
                cnet.Layer(6, 12, "gelu"),
                cnet.Residual(cnet.Layer(12, 12, "tanh")),
                cnet.Layer(12, 6, "linear"),
            ),
            cnet.Residual(cnet.BatchNorm(6), cnet.Layer(6, 6, "silu")),
            cnet.Layer(6, 2, "sigmoid"),
        )
    x, y = problem(net, 44)
    twin = Twin(torch, net)
    twin.train(name, 0.02, x, y, batch_size=8, epochs=3, **settings)
    net.train(
        x, y, 0.02, 3, batch_size=8, optimizer=CLASSES[name](**settings), shuffle=False,
        verbose=False,
    )  # fmt: skip
    twin.compare(rtol=1e-6, atol=1e-7)
    assert_allclose(net.predict(x), twin.predict(x), rtol=1e-6, atol=1e-7)


def test_the_gradient_uses_the_masks_of_dropout_inside():
    """With one mask for a whole epoch, two equal steps differ by the gradient of the masked loss."""
    net = network(
        cnet.Layer(3, 40, "tanh", dropout=0.5),
        cnet.Residual(
            cnet.Layer(40, 40, "tanh", dropout=0.5), cnet.Layer(40, 40, "tanh", dropout=0.3)
        ),
        cnet.Layer(40, 1, "linear"),
    )
    x, y = problem(net, 4)

    def loss(change=0.0):
        twin = net.copy()
        twin.parameters[...] += change
        return twin.train(x, y, 0.0, 1, batch_size=None, verbose=False)["loss"][0]

    stepped = net.copy()
    stepped.train(x, y, 1.0, 1, batch_size=None, verbose=False)
    gradient = net.parameters - stepped.parameters
    direction = np.random.default_rng(0).normal(size=gradient.size)
    slope = (loss(1e-6 * direction) - loss(-1e-6 * direction)) / 2e-6
    assert slope == pytest.approx(gradient @ direction, rel=1e-6)


def test_dropout_is_the_same_with_a_loss_in_python():
    found = []
    for loss in ("squared_error", mean_squared_error):
        net = network(
            cnet.Residual(cnet.Layer(3, 30, "tanh", dropout=0.5), cnet.Layer(30, 3, dropout=0.2)),
            cnet.Layer(3, 1, "linear"),
        )
        x, y = problem(net, 40)
        net.train(x, y, 0.1, 3, batch_size=9, loss=loss, verbose=False)
        found.append(net.parameters)
    assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-12)


def test_penalties_and_max_norm_apply_inside():
    layer = cnet.Layer(3, 3, "linear", l1=0.1, l2=0.2, max_norm=0.5)
    net = network(cnet.Residual(layer))
    x, y = problem(net, 8)
    w = layer.weights
    bare = np.mean(np.sum((net.predict(x) - y) ** 2, axis=1)) / 2
    penalty = 0.1 * abs(w).sum() + 0.1 * (w**2).sum()
    assert net.evaluate(x, y)["loss"] == pytest.approx(bare + penalty, rel=1e-12)
    expected = central_differences(lambda: net.evaluate(x, y)["loss"], net.parameters)
    assert_allclose(net.loss_and_gradient(x, y)[1], expected, rtol=1e-6, atol=1e-9)
    net.train(x, y, 0.1, 1, batch_size=None, verbose=False)
    assert (np.linalg.norm(w, axis=0) <= 0.5 + 1e-12).all()


# The same bits


@dtypes
@pytest.mark.parametrize("make", [blocks, narrow])
def test_prediction_of_a_row_has_the_same_bits_alone_and_in_a_batch(make, dtype):
    net = make(dtype)
    x = problem(net, 77)[0].astype(dtype)
    outputs = net.predict(x)
    predictor = net.predictor()
    for row, expected in zip(x, outputs, strict=True):
        assert_array_equal(net.predict(row), expected)
        assert_array_equal(predictor(row), expected)
    in_blocks_of(8, net)
    assert_array_equal(net.predict(x), outputs)
    assert_array_equal(net.activations(x)[-1], outputs)


@dtypes
def test_results_do_not_depend_on_the_number_of_threads(dtype):
    found = []
    for threads in (1, 2, 3):
        net = cnet.NeuralNetwork(
            cnet.Layer(40, 300, "relu"),
            cnet.Residual(
                cnet.LayerNorm(300), cnet.Layer(300, 300), cnet.Layer(300, 300, "linear")
            ),
            cnet.Layer(300, 2),
            seed=0,
            dtype=dtype,
        )
        x, y = problem(net, 150)
        with cnet.num_threads(threads):
            net.train(x, y, 0.05, 2, batch_size=64, optimizer="adam", verbose=False)
        found.append(net.parameters)
    assert_array_equal(found[1], found[0])
    assert_array_equal(found[2], found[0])


@dtypes
@pytest.mark.parametrize("make", [blocks, narrow])
def test_batch_callbacks_do_not_change_the_results(make, dtype):
    nets = [make(dtype), make(dtype)]
    x, y = problem(nets[0], 50)
    for net, callbacks in zip(nets, ([], [Watching()]), strict=True):
        net.train(x, y, 0.1, 4, batch_size=12, callbacks=callbacks, verbose=False)
    assert_array_equal(nets[0].parameters, nets[1].parameters)
    assert nets[0].history == nets[1].history


@pytest.mark.parametrize("make", [blocks, narrow])
@pytest.mark.parametrize("batch_size", [2, 12, 30, None])
def test_training_with_a_loss_in_python(make, batch_size):
    nets = [make(), make()]
    for net, loss in zip(nets, (mean_squared_error, "squared_error"), strict=True):
        x, y = problem(net, 50)
        net.train(x, y, 0.1, 3, batch_size=batch_size, loss=loss, verbose=False)
    assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-9, atol=1e-12)


@dtypes
@pytest.mark.parametrize("make", [blocks, narrow])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_train_one_is_train_on_that_row(make, optimizer, dtype):
    one, all_rows = make(dtype), make(dtype)
    x, y = problem(one, 5)
    x, y = x.astype(dtype), y.astype(dtype)
    for row, target in zip(x, y, strict=True):
        value = one.train_one(row, target, 0.1, optimizer=optimizer)
        history = all_rows.train(
            row[np.newaxis], target[np.newaxis], 0.1, 1, optimizer=optimizer, verbose=False
        )
        assert history["loss"] == [value]
    assert_array_equal(one.parameters, all_rows.parameters)


def test_float32_agrees_with_float64():
    for make in (blocks, narrow):
        nets = [make(dtype) for dtype in ("float32", "float64")]
        nets[1].parameters[...], nets[1].buffers[...] = nets[0].parameters, nets[0].buffers
        x, y = problem(nets[0], 64)
        for net in nets:
            net.train(x, y, 0.05, 3, batch_size=16, shuffle=False, verbose=False)
        assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-3, atol=1e-4)


# Narrow networks


def transposed(monkeypatch, net, batch_size):
    """Return whether the engine trains the network neuron by neuron."""
    runs = []
    made = engine.Run

    def recorded(*arguments):
        runs.append(made(*arguments))
        return runs[-1]

    monkeypatch.setattr(engine, "Run", recorded)
    net.train(*problem(net, 64), 0.1, 1, batch_size=batch_size, verbose=False)
    return runs[-1].transposed


def test_narrow_networks_with_skip_connections_are_trained_neuron_by_neuron(monkeypatch):
    assert transposed(monkeypatch, narrow(), 32)
    assert transposed(monkeypatch, narrow("float32"), 32)
    assert not transposed(monkeypatch, narrow(), 1)
    wide = network(cnet.Residual(cnet.Layer(3, 17, "tanh"), cnet.Layer(17, 3, "relu")))
    assert not transposed(monkeypatch, wide, 32)
    normalized = network(cnet.Residual(cnet.LayerNorm(3), cnet.Layer(3, 3, "relu")))
    assert not transposed(monkeypatch, normalized, 32)


@dtypes
@pytest.mark.parametrize("batch_size", [2, 5, 8, 15, 16, 17, 33, 64])
def test_narrow_batches_that_do_not_fill_a_vector(batch_size, dtype):
    net = narrow(dtype)
    x, y = problem(net, 67)
    slow = Network(net)
    slow.train("sgd", 0.1, x, y, batch_size=batch_size, epochs=2)
    net.train(x, y, 0.1, 2, batch_size=batch_size, shuffle=False, verbose=False)
    tolerance = {"float32": 1e-3, "float64": 1e-9}[dtype]
    assert_allclose(net.parameters, slow.parameters, rtol=tolerance, atol=tolerance / 10)


# Networks with skip connections as objects


def test_layers_inside_have_arrays():
    net = blocks()
    block = net.layers[2]
    assert block.n_parameters == sum(layer.n_parameters for layer in block.layers)
    assert sum(layer.n_parameters for layer in net.layers) == net.parameters.size
    inner = block.layers[2].layers[0].layers[0]
    inner.weights = np.full((4, 4), 7.0)
    assert np.count_nonzero(net.parameters == 7) == 16
    inner.biases[...] = 8
    assert np.count_nonzero(net.parameters == 8) == 4
    assert block.attached
    assert block.values() == {}
    # The arrays outlive their network.
    del net
    assert_array_equal(inner.weights, np.full((4, 4), 7.0))


def test_names_are_paths():
    net = cnet.NeuralNetwork(
        cnet.Layer(3, 4),
        cnet.Residual(
            cnet.Layer(4, 5, name="up"), cnet.LayerNorm(5), cnet.Layer(5, 4), name="block"
        ),
        cnet.Residual(cnet.Layer(4, 4, name="up")),
    )
    assert [name for name in net.model.tensors if name.endswith("weights")] == [
        "layer_1.weights",
        "block.up.weights",
        "block.layer_2.weights",
        "block.layer_3.weights",
        "layer_3.up.weights",
    ]
    assert [layer.name for layer in net.layers[1].layers] == ["up", "layer_2", "layer_3"]


def test_names_are_unique_within_a_block():
    with refused("name must be unique among the layers", "'block.a'"):
        cnet.NeuralNetwork(
            cnet.Residual(cnet.Layer(3, 3, name="a"), cnet.Layer(3, 3, name="a"), name="block")
        )
    net = cnet.NeuralNetwork(
        cnet.Layer(3, 3, name="a"),
        cnet.Residual(cnet.Layer(3, 3, name="b"), cnet.Layer(3, 3, name="c"), name="block"),
    )
    first, second = net.layers[1].layers
    with refused("name must be unique among the layers", "'block.b'"):
        second.name = "b"
    assert second.name == "c"
    # Another block, or the network itself, may have the same name.
    second.name = "a"
    assert list(net.model.tensors)[-1] == "block.a.biases"
    # A name with a dot must not equal the path of a layer inside.
    with refused("name must be unique among the layers", "'block.a'"):
        net.layers[0].name = "block.a"
    with refused("name must be unique among the layers", "'block.b'"):
        cnet.NeuralNetwork(
            cnet.Layer(3, 3, name="block.b"),
            cnet.Residual(cnet.Layer(3, 3, name="b"), name="block"),
        )
    first.name = "first"
    assert "block.first.weights" in net.model.tensors


@pytest.mark.parametrize("twin_of", [cnet.NeuralNetwork.copy, copy.deepcopy, copy.copy, None])
def test_copies_and_pickles(twin_of):
    net = blocks()
    x, y = problem(net, 20)
    net.train(x, y, 0.1, 2, batch_size=5, optimizer="adam", verbose=False)
    twin = twin_of(net) if twin_of else pickle.loads(pickle.dumps(net))
    assert everything(twin) == everything(net)
    assert [repr(layer) for layer in twin.layers] == [repr(layer) for layer in net.layers]
    # Layers inside are also copied.
    twin.layers[2].layers[1].trainable = False
    assert net.layers[2].layers[1].trainable
    twin.layers[2].layers[1].trainable = True
    with unchanged(net):
        twin.train(x, y, 0.1, 2, batch_size=5, verbose=False)
    net.train(x, y, 0.1, 2, batch_size=5, verbose=False)
    assert everything(twin) == everything(net)


def test_copies_of_a_layer_can_become_part_of_another_network():
    net = blocks()
    layers = [layer.copy() for layer in net.layers]
    twin = cnet.NeuralNetwork(*layers, dtype="float64")
    twin.parameters[...], twin.buffers[...] = net.parameters, net.buffers
    x, _ = problem(net, 9)
    assert_array_equal(twin.predict(x), net.predict(x))
    for twin_of in (copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))):
        block = twin_of(net.layers[2])
        assert repr(block) == repr(net.layers[2])
        assert not block.attached


def test_models_are_dicts_whose_layers_are_json():
    model = blocks().model
    description = model.to_dict()
    layers = json.loads(json.dumps(description["layers"]))
    twin = Model.from_dict({**description, "layers": layers})
    assert [layer.config() for layer in twin.layers] == [layer.config() for layer in model.layers]
    assert [repr(layer) for layer in twin.layers] == [repr(layer) for layer in model.layers]
    assert_array_equal(twin.parameters, model.parameters)
    assert_array_equal(twin.buffers, model.buffers)
    assert "layer_4.layer_3.running_mean" in description["buffers"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": []}, "one or more layers"),
        ({"layers": {}}, "list of layers"),
        ({"layers": [3]}, "dict"),
        ({"layers": [{"kind": "dense", "init": "zeros"}]}, "key .* missing"),
        ({"unknown": 1}, "unknown"),
        ({"trainable": 1}, "trainable"),
    ],
)
def test_damaged_configs_raise(change, words):
    description = cnet.NeuralNetwork(cnet.Residual(cnet.Layer(3, 3))).model.to_dict()
    config = {**description["layers"][0], **change}
    with pytest.raises((ValueError, TypeError), match=words):
        Model.from_dict({**description, "layers": [config]})


def test_activations_have_the_outputs_of_whole_blocks():
    net = blocks()
    x, _ = problem(net, 9)
    found = net.activations(x)
    assert [outputs.shape[1] for outputs in found] == [5, 6, 6, 6, 3, 3]
    inner = cnet.NeuralNetwork(cnet.Layer(5, 5, "tanh"), dtype="float64")
    inner.parameters[...] = net.parameters[:30]
    assert_array_equal(found[0], x + inner.predict(x))
    assert_array_equal(found[-1], net.predict(x))
    single = net.activations(x[0])
    for alone, outputs in zip(single, found, strict=True):
        assert_array_equal(alone, outputs[0])


def test_predictors_keep_their_weights():
    net = blocks()
    x, y = problem(net, 20)
    predictor, outputs = net.predictor(), net.predict(x)
    net.train(x, y, 0.1, 1, batch_size=5, verbose=False)
    assert_array_equal(predictor(x), outputs)
    assert not np.array_equal(net.predict(x), outputs)


def test_a_prediction_does_not_change_its_inputs():
    """The first block reads the inputs twice, in place."""
    net = narrow()
    x, y = problem(net, 40)
    before = x.copy()
    net.predict(x)
    net.input_gradient(x, y)
    net.train(x, y, 0.1, 2, batch_size=16, shuffle=False, verbose=False)
    assert_array_equal(x, before)


def test_evaluate_takes_the_loss_of_linear_outputs():
    net = network(cnet.Residual(cnet.Layer(3, 3, "sigmoid")))
    x, y = problem(net, 9)
    scores = net.evaluate(x, y)
    assert list(scores) == ["loss"]
    with refused("binary_cross_entropy", "sigmoid"):
        net.evaluate(x, y, loss="binary_cross_entropy")


def test_divergence_undoes_the_epoch():
    net = blocks()
    x, y = problem(net, 20)
    before = net.parameters.copy(), net.buffers.copy()
    with pytest.raises(cnet.DivergenceError) as caught:
        net.train(x, y, 1e300, 5, batch_size=5, verbose=False)
    assert caught.value.epoch == 0
    assert_array_equal(net.parameters, before[0])
    assert_array_equal(net.buffers, before[1])
    with pytest.raises(cnet.DivergenceError):
        net.train_one(x[0], y[0], 1e308)
    assert_array_equal(net.parameters, before[0])


def test_summary_indents_the_layers_inside(capsys):
    net = cnet.NeuralNetwork(
        cnet.Layer(3, 4, "relu"),
        cnet.Residual(
            cnet.LayerNorm(4),
            cnet.Residual(cnet.Layer(4, 4, "tanh", dropout=0.1), name="inner"),
            name="block",
        ),
        cnet.Layer(4, 1),
    )
    net.summary()
    assert capsys.readouterr().out.splitlines() == [
        "layer        kind       inputs  neurons  activation  parameters",
        "layer_1      Layer           3        4  relu                16",
        "block        Residual        4        4  linear              28",
        "  layer_1    LayerNorm       4        4  linear               8",
        "  inner      Residual        4        4  linear              20",
        "    layer_1  Layer           4        4  tanh                20  dropout=0.1",
        "layer_3      Layer           4        1  sigmoid              5",
        "49 parameters, float32, 196 bytes",
    ]


def test_print_weights_numbers_the_layers_inside(capsys):
    net = cnet.NeuralNetwork(
        cnet.Residual(cnet.Layer(1, 1, init="zeros"), cnet.Residual(cnet.LayerNorm(1)))
    )
    net.print_weights()
    assert capsys.readouterr().out.splitlines() == [
        "Layer 1 (Residual, 1 neuron):",
        "Layer 1.1 (1 neuron, with 1 input):",
        "[[0.]]",
        "Biases:", "[0.]",
        "Layer 1.2 (Residual, 1 neuron):",
        "Layer 1.2.1 (LayerNorm, 1 neuron):",
        "Weights:", "[1.]",
        "Biases:", "[0.]",
    ]  # fmt: skip


def test_repr():
    block = cnet.Residual(
        cnet.LayerNorm(3), cnet.Layer(3, 3, "relu"), name="block", learning_rate_factor=0.5
    )
    text = "Residual(LayerNorm(3), Layer(3, 3, 'relu'), name='block', learning_rate_factor=0.5)"
    assert repr(block) == text
    assert repr(eval(text, vars(cnet))) == text
    assert repr(cnet.NeuralNetwork(block, cnet.Layer(3, 1))) == (
        "NeuralNetwork(3, Residual(LayerNorm, 3 relu), 1 sigmoid; 22 parameters, float32)"
    )


def test_the_example_in_the_docstring():
    net = cnet.NeuralNetwork(
        cnet.Layer(4, 8, "relu"),
        cnet.Residual(cnet.LayerNorm(8), cnet.Layer(8, 8, "relu"), cnet.Layer(8, 8, "linear")),
        cnet.Layer(8, 1, "linear"),
    )
    assert net.predict(np.ones(4)).shape == (1,)


# Errors


def test_widths_that_do_not_agree_raise():
    with refused("as many outputs as inputs", "4", "got 5"):
        cnet.Residual(cnet.Layer(4, 5))
    with refused("layer 2 must take 6 inputs", "got 5"):
        cnet.Residual(cnet.Layer(4, 6), cnet.Layer(5, 4))
    with refused("layer 2 must take 3 inputs", "got 4"):
        cnet.NeuralNetwork(cnet.Layer(2, 3), cnet.Residual(cnet.Layer(4, 4)))
    with refused("layer 1 must take 2 inputs", "got 4"):
        cnet.NeuralNetwork().add_layer(2, input_layer=True).add(cnet.Residual(cnet.Layer(4, 4)))


def test_arguments_that_are_not_layers_raise():
    with refused("one or more layers", "none"):
        cnet.Residual()
    with refused("cnet layers", "3", error=TypeError):
        cnet.Residual(3)
    with refused("cnet layers", error=TypeError):
        cnet.Residual([cnet.Layer(4, 4)])
    for setting, value, error in [
        ("trainable", 1, TypeError),
        ("learning_rate_factor", -1, ValueError),
        ("name", 3, TypeError),
    ]:
        with refused(setting, error=error):
            cnet.Residual(cnet.Layer(4, 4), **{setting: value})


def test_softmax_inside_raises():
    with refused("softmax", "cannot be inside a Residual"):
        cnet.Residual(cnet.Layer(4, 4, "softmax"))
    with refused("softmax", "cannot be inside a Residual"):
        cnet.Residual(cnet.LayerNorm(4, "softmax"))
    with refused("softmax", "last"):
        cnet.Residual(cnet.Layer(4, 4, "softmax"), cnet.Layer(4, 4))
    with refused("softmax", "last"):
        cnet.NeuralNetwork(cnet.Layer(4, 4, "softmax"), cnet.Residual(cnet.Layer(4, 4)))


def test_layers_that_are_part_of_a_network_raise():
    net = cnet.NeuralNetwork(cnet.Layer(4, 4), cnet.Residual(cnet.Layer(4, 4)))
    layer, block = net.layers
    words = ("layers must not be part of a network already", "Layer(4, 4")
    for taken in (layer, block.layers[0]):
        other = cnet.NeuralNetwork(cnet.Layer(4, 4))
        with refused(*words, of=[net, other]):
            other.add(cnet.Residual(taken))
        with refused(*words, of=[net]):
            net.add(taken)
    twice = cnet.Layer(4, 4)
    with refused(*words):
        cnet.NeuralNetwork(cnet.Residual(twice, twice))
    with refused(*words):
        cnet.NeuralNetwork(twice, cnet.Residual(twice))
    assert not twice.attached
    cnet.NeuralNetwork(twice)


def test_attributes_that_cannot_be_set_raise():
    block = cnet.Residual(cnet.Layer(4, 4))
    for name in ("layers", "n_inputs", "n_neurons", "activation", "dropout"):
        with pytest.raises(AttributeError):
            setattr(block, name, getattr(block, name))
    with refused("no attribute 'weights'", error=AttributeError):
        block.weights = np.ones(3)
    with refused("no attribute 'trainble'", "trainable", error=AttributeError):
        block.trainble = False
