"""Records of activations, losses, optimizers and other names agree with the engine."""

from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
from helpers import network

import cnet
from cnet import activations, initializers, losses, metrics, optimizers, schedules
from cnet._core import engine
from cnet.layers import Operation


@pytest.mark.parametrize(
    ("records", "codes"),
    [
        (activations.ACTIVATIONS, engine.ACTIVATIONS),
        ({**losses.LOSSES, "in_python": losses.FunctionLoss}, engine.LOSSES),
        (optimizers.OPTIMIZERS, engine.OPTIMIZERS),
    ],
    ids=["activations", "losses", "optimizers"],
)
def test_names_are_those_of_the_engine(records, codes):
    assert list(records) == list(codes)
    assert all(record.name == name for name, record in records.items())


def test_fields_of_operations_are_those_of_the_engine():
    assert engine.OPERATION.names[: len(Operation._fields)] == Operation._fields


@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS.values())
def test_settings_of_optimizers_are_those_of_the_engine(optimizer):
    # These are not settings of a step: the default rate, and the initial sum of squares.
    others = {"_", "learning_rate", "initial_accumulator_value"}
    settings = {field.name for field in fields(optimizer)} - others
    assert settings <= set(engine.OPTIMIZER.names)


def test_kinds_of_operations_are_those_of_the_engine():
    net = network(3, 4, dropout=0.5).add_batch_norm().add_layer_norm()
    net.add(cnet.Residual(cnet.Layer(4, 4)))
    kinds = {
        operation.kind for layer in net.layers for operation in layer.operations(net.model.place)
    }
    assert kinds == set(engine.OPERATIONS)


@pytest.mark.parametrize(
    ("literal", "names"),
    [
        (activations.ActivationName, activations.ACTIVATIONS),
        (losses.LossName, ["auto", *losses.LOSSES]),
        (optimizers.OptimizerName, optimizers.OPTIMIZERS),
        (initializers.InitializerName, ["auto", *initializers.INITIALIZERS]),
        (metrics.MetricName, metrics.METRICS),
        (schedules.ScheduleName, schedules.SCHEDULES),
    ],
    ids=["activations", "losses", "optimizers", "initialisers", "metrics", "schedules"],
)
def test_types_list_all_names(literal, names):
    assert list(get_args(literal)) == list(names)


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_outputs_are_within_the_bounds_of_the_activation(name):
    net = network(1, 1, output=name)
    net.layers[0].weights = [[1.0]]
    z = np.linspace(-30, 30, 20_001).reshape(-1, 1)
    outputs = net.predict(z)
    record = activations.ACTIVATIONS[name]
    assert outputs.min() >= record.low
    assert outputs.max() <= record.high
    # The bounds are tight.
    if np.isfinite(record.low) and name != "softmax":
        assert outputs.min() == pytest.approx(record.low, abs=0.04)
    if np.isfinite(record.high):
        assert outputs.max() == pytest.approx(record.high, abs=0.04)


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_probabilities_have_their_accuracy_evaluated(name):
    net = network(2, 2, output=name)
    found = net.evaluate([[0, 1]], [[1, 0]], loss="squared_error")
    assert ("accuracy" in found) == activations.ACTIVATIONS[name].is_probability


@pytest.mark.parametrize(
    "init",
    [
        cnet.GlorotUniform(),
        cnet.Orthogonal(),
        cnet.Uniform(),
        cnet.Uniform(-0.1, np.float64(1) / 3),
        cnet.Uniform(0, 1),
    ],
    ids=repr,
)
def test_initialisers_can_be_written_as_text(init):
    text = initializers.initializer_to_text(init)
    assert initializers.initializer_from_text(text) == init
    assert cnet.Layer(2, 3, init=text).init == init


def test_a_function_is_a_loss_like_any_other():
    def loss(y_true, y_pred):
        return 0.0, np.zeros_like(y_pred)

    net = network(2, 3)
    net.train([[0, 1]], [[0, 0, 1]], epochs=1, loss=loss, verbose=False)
    assert net.trainer.loss == losses.FunctionLoss(loss)
    assert net.trainer.loss.in_python
    again = losses.resolve_loss(net.trainer.loss, "sigmoid")
    assert again is net.trainer.loss
