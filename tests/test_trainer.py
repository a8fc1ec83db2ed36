"""Trainer and its transactions, as estimators use them."""

import copy

import numpy as np
import pytest
from helpers import everything, network, refused, unchanged

import cnet
from cnet._plan import Plan
from cnet.data import Data, DenseRows
from cnet.losses import SquaredError
from cnet.recording import Evaluator, Recorder
from cnet.training import TrainingSettings

X = np.random.default_rng(0).normal(size=(10, 3))
Y = np.random.default_rng(1).uniform(size=(10, 2))
DATA = Data(X, Y, np.empty(0, np.intp), np.empty(0))
SETTINGS = TrainingSettings(SquaredError(), cnet.Adam(), 0.01, epochs=4, batch_size=4)


def train(net, source=None, **options):
    with net.trainer.exclusive() as transaction:
        source = DenseRows(DATA) if source is None else source
        return transaction.train(net, source, SETTINGS, **options)


def test_a_transaction_trains_like_the_network():
    one, other = network(3, 4, 2), network(3, 4, 2)
    history = train(one)
    expected = other.train(X, Y, 0.01, 4, batch_size=4, optimizer="adam", verbose=False)
    assert history == expected
    assert everything(one) == everything(other)


def test_a_transaction_is_exclusive():
    net = network(3, 4, 2)
    calls = (
        lambda: net.train(X, Y, verbose=False),
        lambda: net.train_one(X[0], Y[0]),
        lambda: net.add_layer(1),
        lambda: net.trainer.exclusive().__enter__(),
        lambda: net.trainer.use_plan(Plan(net.model)),
    )
    with net.trainer.exclusive():
        assert net.trainer.is_training
        for call in calls:
            with refused("being trained already", error=RuntimeError, of=[net]):
                call()
        net.predict(X)
        assert not net.copy().trainer.is_training
    assert not net.trainer.is_training


def test_a_transaction_for_another_plan_raises():
    net = network(3, 4, 2)
    plan = net.trainer.plan
    net.add_layer(2)
    with refused("layers were added", error=RuntimeError, of=[net]), net.trainer.exclusive(plan):
        pass


def test_random_numbers_are_restored_unless_something_is_committed():
    net = network(3, 4, 2)

    def interrupted(*, begin):
        with net.trainer.exclusive() as transaction:
            transaction.rng.random(5)
            if begin:
                transaction.begin(SquaredError())
            raise KeyboardInterrupt

    with unchanged(net), pytest.raises(KeyboardInterrupt):
        interrupted(begin=False)
    before = everything(net.trainer.rng)
    with pytest.raises(KeyboardInterrupt):
        interrupted(begin=True)
    assert everything(net.trainer.rng) != before


def test_a_plan_of_another_model_raises():
    net, other = network(3, 4, 2), network(3, 4, 2)
    with refused("plan must be one of the network's model", of=[net]):
        net.trainer.use_plan(Plan(other.model))


def test_a_plan_with_other_layers_uses_the_same_parameters():
    net = network(3, 4, 2, l2=0.5)
    free = [cnet.Layer(3, 4, "tanh"), cnet.Layer(4, 2, "sigmoid")]
    plan = Plan(net.model, free)
    np.testing.assert_array_equal(plan.forward(X), net.predict(X))
    assert plan.penalty() == 0
    assert net.trainer.plan.penalty() > 0
    found = plan.loss(DATA, SquaredError(), reduction="mean") + net.trainer.plan.penalty()
    assert found == pytest.approx(net.evaluate(X, Y)["loss"], rel=1e-14)


class Parts:
    """A source that returns its rows in parts."""

    is_whole = False

    def __init__(self, data, batches):
        self.data, self.batches = data, batches
        self.n = len(data.x)

    def parts(self, order, batch_size):
        rows = np.arange(self.n) if order is None else order[0]
        step = self.batches * batch_size
        for start in range(0, self.n, step):
            yield self.data.of_rows(rows[start : start + step]), None


@pytest.mark.parametrize("batches", [1, 2, 5])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_rows_in_parts_train_like_all_at_once(batches, dropout):
    nets = [cnet.NeuralNetwork(seed=0, dtype="float64") for _ in range(2)]
    for net in nets:
        net.add_layer(3, input_layer=True).add_layer(8, "tanh", dropout=dropout).add_layer(2)
    whole, parts = nets
    evaluator = Evaluator(cnet.metrics.resolve_metrics("mse"))
    first, second = train(whole, evaluator=evaluator), train(parts, Parts(DATA, batches))
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-14)
    np.testing.assert_array_equal(whole.parameters, parts.parameters)
    assert everything(whole.trainer.rng) == everything(parts.trainer.rng)
    third = train(parts, Parts(DATA, batches), evaluator=evaluator)
    assert third["mse"] == pytest.approx(train(whole, evaluator=evaluator)["mse"], rel=1e-12)


def test_an_error_in_a_part_ends_the_epoch():
    net, expected = network(3, 4, 2), network(3, 4, 2)

    class Failing(Parts):
        epoch = 0

        def parts(self, order, batch_size):
            self.epoch += 1
            for i, part in enumerate(super().parts(order, batch_size)):
                if self.epoch == 3 and i == 1:
                    raise OSError("the disk is gone")
                yield part

    with pytest.raises(OSError, match="the disk"):
        train(net, Failing(DATA, 1))
    with expected.trainer.exclusive() as transaction:
        stop = cnet.callbacks.as_callbacks(lambda net, epoch, logs: epoch == 1)
        transaction.train(expected, DenseRows(DATA), SETTINGS, callbacks=stop)
    np.testing.assert_array_equal(net.parameters, expected.parameters)
    assert net.history == expected.history
    assert net.trainer.state.steps[0] == 0


def test_a_single_row_is_not_shuffled():
    net = network(3, 4, 2)
    before = everything(net.trainer.rng)
    net.train(X[:1], Y[:1], epochs=3, verbose=False)
    assert everything(net.trainer.rng) == before


def test_a_recorder_calls_the_callbacks():
    net, calls = network(3, 4, 2), []
    callback = cnet.Callback()
    for name in ("on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"):
        setattr(callback, name, lambda *args, name=name: calls.append((name, *args[1:])))
    history = cnet.History()
    recorder = Recorder(net, ["loss"], [callback])
    with recorder.training(history):
        recorder.begin_epoch(0)
        assert not recorder.end_epochs(0, {"loss": [0.5]})
    assert history == {"loss": [0.5]}
    assert calls == [
        ("on_train_begin",),
        ("on_epoch_begin", 0),
        ("on_epoch_end", 0, {"loss": 0.5}),
        ("on_train_end", history),
    ]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_the_copy_of_a_trainer_has_layers_of_its_own(copied):
    """The settings of the original stay live after the copy is gone."""
    net = network(2, 3, 1)
    twin = copied(net.trainer)
    assert twin.model is not net.model
    np.testing.assert_array_equal(twin.model.parameters, net.parameters)
    del twin
    net.train_one(np.ones(2), 0.5, 0.1)
    net.layers[0].trainable = False
    before = net.layers[0].weights.copy()
    net.train_one(np.ones(2), 0.5, 0.1)
    np.testing.assert_array_equal(net.layers[0].weights, before)
