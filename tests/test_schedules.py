"""Learning-rate schedules: compared with PyTorch and NumPy, and their effect on every optimizer."""

import copy
import math
import warnings

import numpy as np
import pytest
import reference
from helpers import AtOnce, everything, network, refused
from reference import Network

import cnet
from cnet import _epochs
from cnet.schedules import Scheduler

rng = np.random.default_rng(3)
X = rng.uniform(-1, 1, (10, 3))
Y = rng.uniform(0, 1, (10, 2))


def train(net, epochs=6, learning_rate=0.1, **settings):
    return net.train(X, Y, learning_rate, epochs, **{"verbose": False, **settings})


def rates_of(schedule, n_steps, epochs, base=0.5):
    """Return the rate of every step."""
    return schedule.rates(base, np.arange(n_steps * epochs), n_steps, epochs)


def recorded(schedule, epochs, base=0.5, **settings):
    """Return the rate of each epoch, with one step per epoch."""
    net = network(3, 2)
    return train(net, epochs, base, schedule=schedule, batch_size=None, **settings)["learning_rate"]


def half_squared_error(y_true, y_pred):
    """Compute squared_error in NumPy, with the mean over rows."""
    d = y_pred - y_true
    return np.sum(d * d) / 2 / len(d), d / len(d)


class Batches(cnet.Callback):
    """Makes every batch a separate engine call."""

    def on_batch_end(self, network, batch, logs):
        pass


# Rates against PyTorch


@pytest.fixture(scope="module")
def torch():
    # Ignore warnings of the import, which are not ours to fix.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch", reason="PyTorch is not installed")


def torch_rates(torch, name, count, *arguments, base=0.5, **settings):
    """Return the rates of `count` steps with a PyTorch scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, *arguments, **settings)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(found) < count:
            scheduler.step()
    return found


@pytest.mark.parametrize(("every", "factor"), [(1, 0.5), (3, 0.1), (20, 0.3), (2, 1.5)])
def test_step_decay_matches_pytorch(torch, every, factor):
    expected = torch_rates(torch, "StepLR", 12, every, factor)
    np.testing.assert_allclose(recorded(cnet.StepDecay(every, factor), 12), expected, rtol=1e-12)


@pytest.mark.parametrize("factor", [0.5, 0.95, 1.1])
def test_exponential_decay_matches_pytorch(torch, factor):
    expected = torch_rates(torch, "ExponentialLR", 12, factor)
    np.testing.assert_allclose(recorded(cnet.ExponentialDecay(factor), 12), expected, rtol=1e-12)


@pytest.mark.parametrize("final", [0, 0.25])
@pytest.mark.parametrize(("n_steps", "epochs"), [(1, 12), (3, 4), (1, 1)])
def test_cosine_matches_pytorch(torch, final, n_steps, epochs):
    count = n_steps * epochs
    expected = torch_rates(torch, "CosineAnnealingLR", count, count, eta_min=0.5 * final)
    found = rates_of(cnet.Cosine(final=final), n_steps, epochs)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("warmup", [0.3, 0.15, 0.55, 0.95])
@pytest.mark.parametrize(("n_steps", "epochs"), [(1, 12), (3, 4), (1, 5), (7, 9), (1, 1), (2, 1)])
@pytest.mark.parametrize(("start", "final"), [(0.04, 4e-6), (0.5, 0.1)])
def test_one_cycle_matches_pytorch(torch, warmup, n_steps, epochs, start, final):
    expected = torch_rates(
        torch, "OneCycleLR", n_steps * epochs, 0.5,
        total_steps=n_steps * epochs, pct_start=warmup, cycle_momentum=False,
        div_factor=1 / start, final_div_factor=start / final,
    )  # fmt: skip
    found = rates_of(cnet.OneCycle(warmup, start, final), n_steps, epochs)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


VALUES = [5.0, 4.0, 4.0, 4.5, 3.99, 3.98, 3.97, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 2.9, 2.95, 2.94]


class Told:
    """A metric that returns the given values, after one call before training."""

    def __init__(self, values):
        self.values = iter([math.nan, *values])

    def __call__(self, y_true, y_pred):
        return next(self.values)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize("min_delta", [0, 0.015])
@pytest.mark.parametrize("min_rate", [0, 0.03])
def test_reduce_on_plateau_matches_pytorch(torch, mode, patience, min_delta, min_rate):
    values = VALUES if mode == "min" else [-value for value in VALUES]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    # PyTorch's patience is the number of epochs before the one in which the rate falls.
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, 0.2, patience - 1, min_delta, "abs", min_lr=min_rate, eps=0
    )
    expected = []
    for value in values:
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(value)
    schedule = cnet.ReduceOnPlateau("told", 0.2, patience, min_delta, min_rate, mode)
    found = recorded(schedule, len(values), metrics={"told": Told(values)})
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert len(set(found)) > 1


def test_default_monitor_of_reduce_on_plateau():
    # The training loss improves, the validation loss gets worse.
    schedule = cnet.ReduceOnPlateau(patience=1, min_delta=0)
    assert len(set(recorded(schedule, 5, 0.01))) == 1
    net, twin = network(3, 2), network(3, 2)
    other = (X, 1 - Y)
    history = train(net, 8, 0.01, schedule=schedule, validation_data=other)
    assert history["val_loss"][-1] > history["val_loss"][0]
    expected = cnet.ReduceOnPlateau("val_loss", patience=1, min_delta=0)
    assert train(twin, 8, 0.01, schedule=expected, validation_data=other) == history
    assert len(set(history["learning_rate"])) > 3


@pytest.mark.parametrize(("name", "falls"), [("accuracy", True), ("mse", False)])
def test_reduce_on_plateau_knows_whether_higher_is_better(name, falls):
    # The values fall, which improves the mean squared error but not the accuracy.
    values = [0.5, 0.4, 0.3, 0.2]
    schedule = cnet.ReduceOnPlateau(name, patience=1)
    found = recorded(schedule, 4, metrics={name: Told(values)})
    assert (found[-1] < found[0]) == falls


# Rates against NumPy


@pytest.mark.parametrize("warmup", [0, 1, 2.5, 1 / 3, 0.25, 4, 10])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 7])
@pytest.mark.parametrize("final", [0, 0.1])
def test_cosine_with_warm_up(warmup, n_steps, final):
    epochs, warm = 4, warmup * n_steps
    expected = []
    for step in range(epochs * n_steps):
        if step < warm:
            # The full rate once the warm-up is over, and never more.
            share = min(1, (step + 1) / warm)
        else:
            progress = (step - warm) / (epochs * n_steps - warm)
            share = final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2
        expected.append(0.5 * share)
    found = rates_of(cnet.Cosine(warmup, final), n_steps, epochs)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.max() <= 0.5


def test_rates_of_epochs_of_several_steps():
    np.testing.assert_allclose(
        rates_of(cnet.StepDecay(2, 0.5), 3, 4), 0.5 * np.repeat([1, 1, 0.5, 0.5], 3)
    )
    np.testing.assert_allclose(
        rates_of(cnet.ExponentialDecay(0.5), 3, 3), 0.5 * np.repeat([1, 0.5, 0.25], 3)
    )
    np.testing.assert_array_equal(rates_of(cnet.Constant(), 3, 2), np.full(6, 0.5))


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("constant", cnet.Constant()),
        ("step", cnet.StepDecay(10, 0.1)),
        ("step(2, 0.5)", cnet.StepDecay(every=2, factor=0.5)),
        ("exponential", cnet.ExponentialDecay(0.95)),
        ("exponential(0.5)", cnet.ExponentialDecay(0.5)),
        ("cosine", cnet.Cosine(0, 0)),
        ("cosine(1.5, 0.1)", cnet.Cosine(warmup=1.5, final=0.1)),
        ("one_cycle", cnet.OneCycle(0.3, 0.04, 4e-6)),
        ("reduce_on_plateau", cnet.ReduceOnPlateau(None, 0.1, 10, 1e-4, 0, "auto")),
        ("reduce_on_plateau('loss', 0.5, 1, 10)", cnet.ReduceOnPlateau("loss", 0.5, 1, 10.0)),
    ],
)
def test_names(name, schedule):
    by_name, by_object = network(3, 2), network(3, 2)
    first = train(by_name, 12, schedule=name)
    assert first == train(by_object, 12, schedule=schedule)
    assert everything(by_name) == everything(by_object)
    changes = name not in ("constant", "reduce_on_plateau")
    assert (len(set(first["learning_rate"])) > 1) == changes


# Functions


def test_a_function_of_the_epoch():
    calls = []

    def rate(epoch):
        calls.append(epoch)
        return np.float32(0.5) / (epoch + 1)

    assert recorded(rate, 4) == [np.float32(0.5) / (epoch + 1) for epoch in range(4)]
    assert calls == [0, 1, 2, 3]


def test_a_function_of_the_epoch_and_the_previous_rate():
    calls = []

    def halved(epoch, rate):
        calls.append((epoch, rate))
        return rate / 2

    assert recorded(halved, 3) == [0.25, 0.125, 0.0625]
    assert calls == [(0, 0.5), (1, 0.25), (2, 0.125)]


class Slower:
    def __call__(self, epoch, *, factor=0.5):
        return factor**epoch

    def method(self, epoch, rate):
        return rate * 0.5 ** (epoch > 0)


@pytest.mark.parametrize(
    "function",
    [
        Slower(),
        Slower().method,
        lambda epoch, start=1.0: start * 0.5**epoch,
        lambda *arguments: 0.5 ** arguments[0],
        np.vectorize(lambda epoch: 0.5**epoch),
        cnet.ExponentialDecay(0.5),
    ],
)
def test_other_callables(function):
    assert recorded(function, 4, 1.0) == [1, 0.5, 0.25, 0.125]


@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_functions_that_return_no_rate(value):
    net, expected = network(3, 4, 2), network(3, 4, 2)
    with refused("schedule must be a finite number of at least 0", f"got {value}"):
        train(net, 5, schedule=lambda epoch: 0.1 if epoch < 2 else value)
    history = train(expected, 2, schedule=lambda epoch: 0.1)
    assert net.history == history
    assert everything(net) == everything(expected)


@pytest.mark.parametrize("value", [None, "0.1", True, [0.1]])
def test_functions_that_return_no_number(value):
    net = network(3, 4, 2)
    parameters = net.parameters.copy()
    with refused("schedule must be a finite number", f"got {value!r}", error=TypeError):
        train(net, 5, schedule=lambda epoch: value)
    np.testing.assert_array_equal(net.parameters, parameters)
    assert net.history == {"loss": [], "learning_rate": []}


# Custom schedules


class Own(cnet.Schedule):
    """Returns the result of a function of base, steps, n_steps and epochs."""

    name = "own"

    def __init__(self, function):
        object.__setattr__(self, "function", function)

    def rates(self, *arguments):
        return self.function(*arguments)


@pytest.mark.parametrize(
    "convert", [np.asarray, list, lambda rates: rates.astype(np.float32), lambda rates: rates[::1]]
)
def test_a_custom_schedule(convert):
    def rates(base, steps, n_steps, epochs):
        assert (n_steps, epochs) == (4, 3)
        return convert(base / (1 + steps))

    history = train(network(3, 2), 3, 0.5, schedule=Own(rates), batch_size=3)
    np.testing.assert_allclose(history["learning_rate"], [0.5, 0.1, 0.5 / 9], rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda base, steps, *rest: np.full(len(steps) - 1, base),
        lambda base, steps, *rest: base,
        lambda base, steps, *rest: np.full((len(steps), 1), base),
        lambda base, steps, *rest: np.full(len(steps), -base),
        lambda base, steps, *rest: np.where(steps == 3, np.nan, base),
    ],
)
def test_a_schedule_that_returns_no_rates(function):
    net = network(3, 2)
    parameters = net.parameters.copy()
    with refused("schedule must return", "finite rates of at least 0, one for each step", "got"):
        train(net, 3, schedule=Own(function))
    np.testing.assert_array_equal(net.parameters, parameters)


# scikit-learn's schedules


@pytest.mark.parametrize("power", [0.5, 0.3, 0, 1])
def test_inverse_scaling(power):
    rates = recorded(cnet.InverseScaling(power), 5)
    assert rates == [0.5 / (10 * epoch + 1) ** power for epoch in range(5)]
    assert recorded(f"inverse_scaling({power})", 5) == rates


def test_inverse_scaling_ends_above_zero():
    net = network(3, 2)
    history = train(net, schedule="inverse_scaling(400)", optimizer=cnet.SGD(momentum=0.9))
    assert history["learning_rate"] == pytest.approx([0.1] + [1e-19] * 5, rel=1e-12, abs=0)
    assert np.isfinite(net.parameters).all()


def adaptive_by_hand(losses, rate, patience, tol):
    """Return the rates that scikit-learn 1.9's BaseMultilayerPerceptron takes for these losses."""
    rates, best, count = [], np.inf, 0
    for loss in losses:
        rates.append(rate)
        if loss > best - tol:
            count += 1
        else:
            count = 0
        if loss < best:
            best = loss
        if count > patience and rate > 1e-6:
            rate /= 5.0
            count = 0
    return rates


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("tol", [0, 0.05])
def test_adaptive(seed, patience, tol):
    rng = np.random.default_rng(seed)
    losses = np.round(np.exp(-np.arange(60) / 20) + rng.normal(0, 0.05, 60), 2)
    scheduler = Scheduler(cnet.Adaptive(patience=patience, tol=tol), 0.3)
    rates = []
    for epoch, loss in enumerate(losses):
        assert scheduler.epochs_known == 1
        rates += scheduler.rates(epoch, 1).tolist()
        scheduler.observe({"loss": loss})
    assert rates == adaptive_by_hand(losses, 0.3, patience, tol)
    assert len(set(rates)) > 1


def test_adaptive_in_training():
    rates = recorded(cnet.Adaptive(patience=1, tol=100), 7)
    assert rates == [0.5, 0.5, 0.5, 0.5 / 5, 0.5 / 5, 0.5 / 5 / 5, 0.5 / 5 / 5]
    assert recorded(cnet.Adaptive(2, 0, 100, 0.2), 6) == [0.5, 0.5, 0.25, 0.125, 0.125, 0.125]


def test_a_caller_can_watch_for_plateaus_itself():
    scheduler = Scheduler(cnet.Adaptive(patience=1), 4e-6, watch=False)
    assert scheduler.epochs_known > 1000
    for _ in range(5):
        scheduler.observe({"loss": 1.0})
    assert scheduler.learning_rate == 4e-6
    assert scheduler.slow_down()
    assert scheduler.learning_rate == 4e-6 / 5
    assert not scheduler.slow_down()
    assert not Scheduler(cnet.Constant(), 0.1).slow_down()


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(
    "schedule", [cnet.InverseScaling(0.7), cnet.Adaptive(patience=0, tol=100)], ids=str
)
def test_momentum_keeps_its_speed(schedule, nesterov):
    net = network(3, 4, 2)
    expected = Network.like(net)
    velocity = np.zeros_like(expected.parameters)
    history = train(
        net, schedule=schedule, optimizer=cnet.SGD(momentum=0.8, nesterov=nesterov),
        batch_size=None, shuffle=False,
    )  # fmt: skip
    assert len(set(history["learning_rate"])) > 3
    for rate in history["learning_rate"]:
        _, gradient, _ = expected.loss_and_gradients(X, Y, reference.squared_error)
        # As in scikit-learn, the velocity includes the rate.
        velocity = 0.8 * velocity - rate * gradient
        step = 0.8 * velocity - rate * gradient if nesterov else velocity
        expected.parameters = expected.parameters + step
    np.testing.assert_allclose(net.parameters, expected.parameters, rtol=1e-12)


@pytest.mark.parametrize("optimizer", [cnet.SGD(), cnet.Adam(), cnet.Rprop()], ids=str)
def test_other_optimizers_have_no_velocity_to_rescale(optimizer):
    net, other = network(3, 4, 2), network(3, 4, 2)
    history = train(net, schedule="inverse_scaling", optimizer=optimizer)
    rates = history["learning_rate"]
    train(other, schedule=lambda epoch: rates[epoch], optimizer=optimizer)
    np.testing.assert_array_equal(net.parameters, other.parameters)


# What optimizers make of them

OPTIMIZERS = {
    "sgd": (cnet.SGD(), reference.SGD(0.1)),
    "momentum": (cnet.SGD(momentum=0.9), reference.SGD(0.1, momentum=0.9)),
    "nesterov": (
        cnet.SGD(momentum=0.8, nesterov=True, weight_decay=0.1),
        reference.SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.1),
    ),
    "adam": (cnet.Adam(), reference.Adam(0.1)),
    "adamw": (cnet.AdamW(weight_decay=0.3), reference.AdamW(0.1, weight_decay=0.3)),
    "rmsprop": (
        cnet.RMSprop(momentum=0.5, centered=True),
        reference.RMSprop(0.1, momentum=0.5, centered=True),
    ),
    "adagrad": (
        cnet.Adagrad(learning_rate_decay=0.1),
        reference.Adagrad(0.1, learning_rate_decay=0.1),
    ),
    # Its step sizes are its own, except for the first.
    "rprop": (cnet.Rprop(), reference.Rprop(0.1)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"callbacks": [Batches()]}, {"loss": half_squared_error}, {"callbacks": cnet.Callback()}],
    ids=["grouped", "with batch callbacks", "function", "one by one"],
)
@pytest.mark.parametrize("batch_size", [1, 4, 10])
def test_every_step_has_its_rate(optimizer, settings, batch_size):
    ours, theirs = copy.deepcopy(OPTIMIZERS[optimizer])
    net = network(3, 4, 2)
    expected = Network.like(net)
    n_steps = -(-10 // batch_size)
    rates = rates_of(cnet.Cosine(1.5, 0.1), n_steps, 6, 0.1)
    for step, rate in enumerate(rates):
        start = step % n_steps * batch_size
        batch = slice(start, start + batch_size)
        _, gradient, _ = expected.loss_and_gradients(X[batch], Y[batch], reference.squared_error)
        theirs.learning_rate = rate
        expected.parameters = theirs.step(expected.parameters, gradient)
    history = train(
        net, schedule="cosine(1.5, 0.1)", optimizer=ours, batch_size=batch_size, shuffle=False,
        **settings,
    )  # fmt: skip
    np.testing.assert_allclose(net.parameters, expected.parameters, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(history["learning_rate"], rates[::n_steps], rtol=1e-14)


@pytest.mark.parametrize("schedule", ["step(2)", "exponential", "cosine(1)", "one_cycle"])
@pytest.mark.parametrize("at_once", [1, 3, 6])
def test_results_do_not_depend_on_grouping_epochs_into_calls(schedule, at_once, monkeypatch):
    grouped, other = network(3, 4, 2), network(3, 4, 2)
    calls = []

    run = _epochs.Epochs.run

    def counted(epochs, count, *callbacks):
        calls.append(count)
        return run(epochs, count, *callbacks)

    monkeypatch.setattr(_epochs.Epochs, "run", counted)
    settings = {"schedule": schedule, "batch_size": 3, "optimizer": "adam"}
    train(grouped, 20, **settings)
    # Rates that are known in advance do not require a call for each epoch.
    assert calls == [20]
    train(other, 20, callbacks=AtOnce(at_once), **settings)
    assert len(calls) > 3
    assert everything(grouped) == everything(other)


def test_the_constant_schedule_equals_no_schedule():
    net, plain = network(3, 4, 2), network(3, 4, 2)
    history = train(net, schedule="constant")
    assert history.pop("learning_rate") == [0.1] * 6
    assert history == train(plain)
    np.testing.assert_array_equal(net.parameters, plain.parameters)


def test_schedules_restart_with_each_training():
    net, other = network(3, 4, 2), network(3, 4, 2)
    schedule = cnet.ReduceOnPlateau(patience=1, min_delta=100)
    first = train(net, 4, schedule=schedule)["learning_rate"]
    assert first == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert train(net, 4, schedule=schedule)["learning_rate"] == first
    # They are not remembered.
    assert "learning_rate" not in train(other, 2)


def test_zero_epochs():
    assert train(network(3, 2), 0, schedule="one_cycle") == {"loss": [], "learning_rate": []}


# Settings


@pytest.mark.parametrize(
    ("schedule", "error", "words"),
    [
        ("cosin", ValueError, ["schedule must be one of 'constant', 'step'", "got 'cosin'"]),
        (3, ValueError, ["schedule must be one of", "cnet.Schedule", "got 3"]),
        (cnet.Cosine, ValueError, ["schedule must be one of", "Cosine"]),
        (cnet.Schedule(), ValueError, ["schedule must be one of"]),
        ("cosine(1, 2, 3)", ValueError, ["schedule must have the settings that 'cosine' takes"]),
        ("cosine(", ValueError, ["schedule must be one of", "got 'cosine('"]),
        ("cosine(-1)", ValueError, ["warmup must be", "at least 0", "got -1"]),
        ("cosine(1, 1.5)", ValueError, ["final must be", "at most 1", "got 1.5"]),
        ("step(0)", ValueError, ["every must be an integer of at least 1", "got 0"]),
        ("step(1.5)", ValueError, ["schedule must have the settings that 'step' takes"]),
        ("step(1, 0)", ValueError, ["factor must be", "above 0", "got 0"]),
        ("exponential(-0.5)", ValueError, ["factor must be", "above 0", "got -0.5"]),
        ("one_cycle(1)", ValueError, ["warmup must be", "below 1", "got 1"]),
        ("one_cycle(0.3, 2)", ValueError, ["start must be", "at most 1", "got 2"]),
        ("reduce_on_plateau(None, 1)", ValueError, ["factor must be", "below 1", "got 1"]),
        ("reduce_on_plateau(None, 0.5, -1)", ValueError, ["patience must be", "got -1"]),
        ("inverse_scaling(-1)", ValueError, ["power must be", "at least 0", "got -1"]),
        ("adaptive(1)", ValueError, ["divisor must be", "above 1", "got 1"]),
        ("adaptive(5, -1)", ValueError, ["patience must be", "got -1"]),
        ("adaptive(5, 1, -1)", ValueError, ["tol must be", "got -1"]),
        ("adaptive(5, 1, 0, -1)", ValueError, ["least must be", "got -1"]),
        (
            "reduce_on_plateau('accuracy')",
            ValueError,
            ["monitor must be", "loss", "got 'accuracy'"],
        ),
        (
            "reduce_on_plateau('val_loss')",
            ValueError,
            ["got 'val_loss'", "requires validation_data"],
        ),
    ],
)
def test_invalid_schedules_raise(schedule, error, words):
    net = network(3, 4, 2)
    train(net, 2, optimizer="adam")
    with refused(*words, error=error, of=[net]):
        train(net, schedule=schedule, optimizer="rprop", loss="huber")


@pytest.mark.parametrize(
    ("make", "name", "value", "error"),
    [
        (cnet.ReduceOnPlateau, "min_delta", -1, ValueError),
        (cnet.ReduceOnPlateau, "min_rate", -1, ValueError),
        (cnet.ReduceOnPlateau, "mode", "best", ValueError),
        (cnet.ReduceOnPlateau, "monitor", 3, TypeError),
        (cnet.StepDecay, "every", 1.5, TypeError),
        (cnet.ExponentialDecay, "factor", "0.5", TypeError),
        (cnet.Cosine, "warmup", None, TypeError),
    ],
)
def test_settings_of_objects(make, name, value, error):
    with refused(f"{name} must be", f"got {value!r}", error=error):
        make(**{name: value})
