"""Optimizers: every step compared with the float64 oracle and PyTorch; state, clipping, settings."""

import re
import warnings

import numpy as np
import pytest
import reference

import cnet

# Class, learning rate, settings. Rates are large, so that thirty steps go far and errors show.
CASES = {
    "sgd": ("SGD", 0.1, {}),
    "sgd, weight decay": ("SGD", 0.1, {"weight_decay": 0.1}),
    "sgd, momentum": ("SGD", 0.05, {"momentum": 0.9}),
    "sgd, nesterov": ("SGD", 0.05, {"momentum": 0.8, "nesterov": True}),
    "sgd, nesterov, weight decay": (
        "SGD", 0.05, {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    ),
    "adam": ("Adam", 0.02, {}),
    "adam, settings": ("Adam", 0.02, {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 0.01}),
    "adam, no memory": ("Adam", 0.02, {"beta_1": 0.0, "beta_2": 0.0}),
    "adam, weight decay": ("Adam", 0.02, {"weight_decay": 0.1}),
    "adamw": ("AdamW", 0.02, {}),
    "adamw, settings": (
        "AdamW", 0.02, {"weight_decay": 0.5, "beta_1": 0.7, "beta_2": 0.9, "epsilon": 0.01},
    ),
    "rmsprop": ("RMSprop", 0.01, {}),
    "rmsprop, settings": ("RMSprop", 0.01, {"alpha": 0.8, "epsilon": 0.01}),
    "rmsprop, momentum": ("RMSprop", 0.01, {"momentum": 0.7}),
    "rmsprop, centered": ("RMSprop", 0.01, {"centered": True, "alpha": 0.9}),
    "rmsprop, everything": (
        "RMSprop", 0.01,
        {"alpha": 0.8, "epsilon": 0.01, "momentum": 0.7, "centered": True, "weight_decay": 0.1},
    ),
    "adagrad": ("Adagrad", 0.1, {}),
    "adagrad, settings": (
        "Adagrad", 0.1,
        {
            "learning_rate_decay": 0.05,
            "initial_accumulator_value": 0.1,
            "epsilon": 0.01,
            "weight_decay": 0.1,
        },
    ),
    "rprop": ("Rprop", 0.02, {}),
    "rprop, settings": (
        "Rprop", 0.03, {"shrink": 0.7, "grow": 1.5, "smallest_step": 0.008, "largest_step": 0.05},
    ),
}  # fmt: skip

# PyTorch's Rprop has no weight decay; clipping is a separate step there.
ONLY_HERE = {"rprop, weight decay": ("Rprop", 0.01, {"weight_decay": 0.1})}

CLIPPED = {
    f"{name}, clip {kind}": (*CASES[name][:2], CASES[name][2] | {f"clip_{kind}": bound})
    for name in ("sgd", "sgd, nesterov, weight decay", "adam, weight decay", "adamw")
    for kind, bound in (("norm", 0.4), ("value", 0.06))
}
ALL = CASES | ONLY_HERE | CLIPPED

N_ROWS, BATCH_SIZE, EPOCHS = 23, 5, 6  # thirty steps; every fifth batch has three rows


def data():
    rng = np.random.default_rng(7)
    return rng.standard_normal((N_ROWS, 3)), rng.standard_normal((N_ROWS, 2))


@pytest.fixture
def new_network(make_network):
    """Return a function that makes the same network every time."""

    def new(dtype="float64"):
        return make_network((3, 4, 2), ["tanh", "linear"], dtype=dtype, seed=3)

    return new


def train(net, optimizer, learning_rate, epochs=EPOCHS, **how):
    """Train without shuffling; return the parameters after every epoch."""
    found = []

    def keep(net, epoch, logs):
        found.append(net.parameters.copy())

    how = {"batch_size": BATCH_SIZE, "shuffle": False} | how
    net.train(
        *data(), learning_rate, epochs, optimizer=optimizer, callbacks=keep, verbose=False, **how
    )
    return found


def assert_follows_oracle(found, oracle, optimizer, tolerance, batch_size=BATCH_SIZE, **how):
    """Compare the parameters after every epoch, and continue the oracle from there."""
    steps = oracle.train(
        optimizer, *data(), reference.squared_error,
        batch_size=batch_size, epochs=len(found), **how,
    )  # fmt: skip
    for parameters, _ in zip(found, steps, strict=True):
        np.testing.assert_allclose(parameters, oracle.parameters, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("batch_size", "epochs"), [(BATCH_SIZE, EPOCHS), (N_ROWS, 25)], ids=["batches", "every step"]
)
@pytest.mark.parametrize("case", ALL)
def test_steps(new_network, case, batch_size, epochs):
    """Epochs of several batches, and single steps if all rows are one batch."""
    name, rate, settings = ALL[case]
    net = new_network()
    oracle = reference.Network.like(net)
    found = train(net, getattr(cnet, name)(**settings), rate, epochs, batch_size=batch_size)
    optimizer = getattr(reference, name)(rate, **settings)
    assert_follows_oracle(found, oracle, optimizer, 1e-10, batch_size)
    assert optimizer.t >= 25


@pytest.mark.parametrize("case", ALL)
def test_float32(new_network, case):
    """To float32 precision.

    A step rounds a weight by 1e-7 of itself, and thirty steps add up to about 1e-6. If a gradient is
    divided by its own size, its relative error, 1e-6 of the largest term in its sum, moves the weight by
    that fraction of the learning rate, and by far more if the terms nearly cancel.
    """
    name, rate, settings = ALL[case]
    net = new_network("float32")
    oracle = reference.Network.like(net)
    found = train(net, getattr(cnet, name)(**settings), rate)
    assert found[-1].dtype == np.float32
    assert_follows_oracle(found, oracle, getattr(reference, name)(rate, **settings), 5e-6)


@pytest.mark.parametrize("case", ["sgd", "adam"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("batch_size", [1, 4, None])
def test_reductions(new_network, case, reduction, batch_size):
    """Steps follow the gradient of the mean or the sum, also for a short last batch."""
    name, rate, _ = CASES[case]
    net = new_network()
    oracle = reference.Network.like(net)
    found = train(net, name.lower(), rate / 10, batch_size=batch_size, reduction=reduction)
    optimizer = getattr(reference, name)(rate / 10)
    assert_follows_oracle(
        found, oracle, optimizer, 1e-10, batch_size or N_ROWS, reduction=reduction
    )


def test_sample_weights_in_training(new_network):
    """Each batch uses its own rows' weights, and is divided by the number of its rows."""
    net = new_network()
    oracle = reference.Network.like(net)
    x, y = data()
    weights = np.random.default_rng(8).uniform(0, 2, N_ROWS)
    # The oracle's loss gets the weights as an additional column of targets, which batches include.
    history = net.train(
        x,
        y,
        0.1,
        EPOCHS,
        batch_size=BATCH_SIZE,
        shuffle=False,
        sample_weight=weights,
        verbose=False,
    )

    def weighted(a, t):
        values, gradient = reference.squared_error(a, t[:, :2])
        return values * t[:, 2:], gradient * t[:, 2:]

    losses = list(
        oracle.train(
            reference.SGD(0.1), x, np.column_stack([y, weights]), weighted,
            batch_size=BATCH_SIZE, epochs=EPOCHS,
        )
    )  # fmt: skip
    np.testing.assert_allclose(net.parameters, oracle.parameters, rtol=1e-12)
    assert history["loss"] == pytest.approx(losses, rel=1e-12)


def test_batches_larger_than_a_block(make_network):
    """Internally, a batch of more than 512 rows is summed in parts, but it makes one step."""
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((1500, 3)), rng.standard_normal((1500, 2))
    net = make_network((3, 4, 2), ["gelu", "linear"])
    oracle = reference.Network.like(net)
    net.train(
        x, y, 0.1, 5, batch_size=1100, optimizer="adam", shuffle=False, verbose=False
    )  # fmt: skip
    adam = reference.Adam(0.1)
    list(oracle.train(adam, x, y, reference.squared_error, batch_size=1100, epochs=5))
    assert adam.t == 10
    np.testing.assert_allclose(net.parameters, oracle.parameters, rtol=1e-10)


# PyTorch itself.


def torch_optimizer(torch, parameters, name, rate, settings):
    """Return PyTorch's optimizer with our settings, and a function that clips its gradients."""
    ours = dict(settings)
    theirs = {}
    clip = {kind: ours.pop(f"clip_{kind}", None) for kind in ("norm", "value")}
    if name in ("Adam", "AdamW"):
        theirs["betas"] = (ours.pop("beta_1", 0.9), ours.pop("beta_2", 0.999))
    if name == "Rprop":
        theirs["etas"] = (ours.pop("shrink", 0.5), ours.pop("grow", 1.2))
        theirs["step_sizes"] = (ours.pop("smallest_step", 1e-6), ours.pop("largest_step", 50))
    for here, there in (("epsilon", "eps"), ("learning_rate_decay", "lr_decay")):
        if here in ours:
            theirs[there] = ours.pop(here)

    def clip_gradients():
        if clip["norm"] is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip["norm"])
        if clip["value"] is not None:
            torch.nn.utils.clip_grad_value_(parameters, clip["value"])

    return getattr(torch.optim, name)(parameters, lr=rate, **ours, **theirs), clip_gradients


@pytest.fixture(scope="module")
def torch():
    # Ignore warnings of the import, which are not ours to fix.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize("case", CASES | CLIPPED)
def test_steps_of_pytorch(torch, new_network, case):
    """The same initial weights and the same batches give the same weights."""
    name, rate, settings = ALL[case]
    net = new_network()
    start = [
        torch.tensor(array.tolist(), dtype=torch.float64, requires_grad=True)
        for layer in net.layers
        for array in (layer.weights, layer.biases)
    ]
    optimizer, clip_gradients = torch_optimizer(torch, start, name, rate, settings)
    x, y = (torch.tensor(array.tolist(), dtype=torch.float64) for array in data())
    for parameters in train(net, getattr(cnet, name)(**settings), rate):
        for first in range(0, N_ROWS, BATCH_SIZE):
            batch = slice(first, first + BATCH_SIZE)
            optimizer.zero_grad()
            outputs = torch.tanh(x[batch] @ start[0] + start[1]) @ start[2] + start[3]
            loss = ((outputs - y[batch]) ** 2).sum(dim=1).mean() / 2
            loss.backward()
            clip_gradients()
            optimizer.step()
        expected = np.concatenate([np.ravel(array.tolist()) for array in start])
        np.testing.assert_allclose(parameters, expected, rtol=1e-10, atol=1e-10)


LEARNING_RATES = {
    "SGD": 1e-3, "Adam": 1e-3, "AdamW": 1e-3, "RMSprop": 1e-2, "Adagrad": 1e-2, "Rprop": 1e-2,
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_default_learning_rates_of_pytorch(torch, name):
    optimizer = getattr(torch.optim, name)([torch.zeros(1, requires_grad=True)])
    assert optimizer.defaults["lr"] == LEARNING_RATES[name]


def test_all_optimizers_are_tested(new_network):
    """Every known name has cases here and a place in the oracle."""
    with pytest.raises(ValueError, match="optimizer must be one of") as refusal:
        train(new_network(), "none", 0.1)
    names = set(re.findall(r"'(\w+)'", str(refusal.value))) - {"none"}
    assert names == set(reference.OPTIMIZERS) == {name.lower() for name, *_ in CASES.values()}


# Learning rates.


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_default_learning_rates(new_network, name):
    """For names and objects alike."""
    expected = train(new_network(), name.lower(), LEARNING_RATES[name])
    for optimizer in (name.lower(), getattr(cnet, name)()):
        np.testing.assert_array_equal(train(new_network(), optimizer, None), expected)


def test_learning_rate_of_an_object(new_network):
    """It applies if `train` is called without a learning rate."""
    expected = train(new_network(), "adam", 0.05)
    for optimizer, rate in (
        (cnet.Adam(0.05), None),
        (cnet.Adam(learning_rate=0.05), None),
        ("adam(0.05)", None),
        (cnet.Adam(0.3), 0.05),
    ):
        np.testing.assert_array_equal(train(new_network(), optimizer, rate), expected)


def test_sgd_is_the_default(new_network):
    np.testing.assert_array_equal(train(new_network(), None, 0.1), train(new_network(), "sgd", 0.1))


# State from one call of `train` to the next.


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("again", ["same object", "equal object", "none"])
@pytest.mark.parametrize("case", ALL)
def test_two_calls_equal_one_longer_call(new_network, case, again, shuffle):
    """Bit for bit, whether or not the second call names the optimizer again."""
    name, rate, settings = ALL[case]
    optimizer = getattr(cnet, name)(**settings)
    second = {
        "same object": optimizer,
        "equal object": getattr(cnet, name)(**settings),
        "none": None,
    }[again]
    how = {"batch_size": BATCH_SIZE, "shuffle": shuffle, "verbose": False}
    whole, halves, singles = (new_network() for _ in range(3))
    whole.train(*data(), rate, 10, optimizer=optimizer, **how)
    for given in (optimizer, second):
        halves.train(*data(), rate, 5, optimizer=given, **how)
    # With a callback every epoch is one engine call; without, all ten are one call.
    train(singles, optimizer, rate, 10, shuffle=shuffle)
    for net in (halves, singles):
        np.testing.assert_array_equal(net.parameters, whole.parameters)


@pytest.mark.parametrize("case", ALL)
def test_changing_the_learning_rate_keeps_the_state(new_network, case):
    """The state is kept: the next steps are those of the same optimizer at another rate."""
    name, rate, settings = ALL[case]
    net = new_network()
    oracle = reference.Network.like(net)
    optimizer = getattr(reference, name)(rate, **settings)
    for later_rate, given in (
        (rate, getattr(cnet, name)(**settings)),
        (rate / 3, None),
        (rate / 2, getattr(cnet, name)(learning_rate=1.0, **settings)),
    ):
        optimizer.learning_rate = later_rate
        found = train(net, given, later_rate, 3)
        assert_follows_oracle(found, oracle, optimizer, 1e-10)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (cnet.SGD(momentum=0.9), cnet.SGD(momentum=0.8)),
        (cnet.Adam(), cnet.AdamW(weight_decay=0)),
        (cnet.Adam(), cnet.Adam(epsilon=1e-7)),
        (cnet.Adam(), cnet.RMSprop(momentum=0.9)),
        (cnet.Rprop(), cnet.Rprop(grow=1.3)),
        (cnet.Adagrad(), cnet.Adagrad(clip_norm=1.0)),
        (cnet.RMSprop(momentum=0.9), cnet.SGD(momentum=0.9)),
    ],
    ids=repr,
)
def test_another_optimizer_resets_the_state(new_network, first, second):
    """And so is the first one's, if the network switches back to it."""
    net = new_network()
    for optimizer in (first, second, first):
        fresh = new_network()
        fresh.parameters[...] = net.parameters
        expected = train(fresh, optimizer, 0.02, 3)
        np.testing.assert_array_equal(train(net, optimizer, 0.02, 3), expected)


def test_an_equal_optimizer_keeps_the_state_and_uses_its_own_learning_rate(new_network):
    """They differ only in the rate: the second continues with the first's state, and is remembered."""
    net = new_network()
    oracle = reference.Network.like(net)
    optimizer = reference.SGD(0.05, momentum=0.9)
    for given, rate in (
        (cnet.SGD(0.05, momentum=0.9), 0.05),
        (cnet.SGD(0.01, momentum=0.9), 0.01),
        (None, 0.01),
    ):
        optimizer.learning_rate = rate
        assert_follows_oracle(train(net, given, None, 3), oracle, optimizer, 1e-10)


def test_one_object_serves_many_networks(new_network):
    """Optimizer objects contain only settings; each network has its own state."""
    optimizer = cnet.Adam(0.05)
    first, second = new_network(), new_network()
    for _ in range(2):
        np.testing.assert_array_equal(
            train(first, optimizer, None, 3), train(second, optimizer, None, 3)
        )


# Clipping.


def gradient_step(net, **settings):
    """Return the change of the parameters in one step of plain gradient descent with a rate of 1."""
    start = net.parameters.copy()
    train(net, cnet.SGD(**settings), 1.0, 1, batch_size=None)
    return start - net.parameters


def test_clip_norm(new_network):
    """A longer gradient is scaled to this norm; a shorter one is unchanged."""
    gradient = gradient_step(new_network())
    norm = np.linalg.norm(gradient)
    found = gradient_step(new_network(), clip_norm=norm / 3)
    # PyTorch's 1e-6 keeps the norm from dividing by 0.
    np.testing.assert_allclose(found, gradient / 3 * norm / (norm + 1e-6), rtol=1e-12, atol=1e-15)
    for bound in (2 * norm, 1e300):
        np.testing.assert_array_equal(gradient_step(new_network(), clip_norm=bound), gradient)


def test_clip_value(new_network):
    gradient = gradient_step(new_network())
    bound = float(np.median(np.abs(gradient)))
    found = gradient_step(new_network(), clip_value=bound)
    np.testing.assert_allclose(found, np.clip(gradient, -bound, bound), rtol=1e-12, atol=1e-15)
    assert found.min() == pytest.approx(-bound)
    assert found.max() == pytest.approx(bound)
    np.testing.assert_array_equal(gradient_step(new_network(), clip_value=1e300), gradient)


# Special cases.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LEARNING_RATES)
def test_a_zero_gradient_makes_no_step(name, dtype):
    """A gradient of 0 from the first step must not give 0 / 0."""
    net = cnet.NeuralNetwork(cnet.Layer(1, 1, "linear"), dtype=dtype, seed=0)
    start = net.parameters.copy()
    net.train(
        [[0.0]], [[0.0]], 0.1, 30, optimizer=name.lower(), verbose=False,
        loss=lambda t, a: (0.0, np.zeros_like(a)),
    )  # fmt: skip
    # AdamW's decay still applies.
    if name == "AdamW":
        start = start * (1 - 0.1 * 0.01) ** 30
    np.testing.assert_allclose(net.parameters, start, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [0.5, 0.9])
@pytest.mark.parametrize("slope", [0.1, 0.3, 0.37, 0.7, 0.9])
def test_centered_rmsprop_of_a_constant_gradient(slope, alpha, dtype):
    """Its variance is 0 and must not become negative by rounding, because its square root is taken."""
    net = cnet.NeuralNetwork(cnet.Layer(1, 1, "linear", bias=False), dtype=dtype, seed=0)
    net.train(
        [[1.0]], [[1e9]], 1e-8, 2000, loss=cnet.Quantile(slope),
        optimizer=cnet.RMSprop(centered=True, alpha=alpha), verbose=False,
    )  # fmt: skip
    assert np.isfinite(net.parameters).all()


# Settings.

BAD_SETTINGS = [
    *(
        (name, "learning_rate", value)
        for name in LEARNING_RATES
        for value in (-0.1, np.nan, np.inf)
    ),
    *((name, "weight_decay", value) for name in LEARNING_RATES for value in (-0.1, np.nan, np.inf)),
    *((name, "clip_norm", value) for name in LEARNING_RATES for value in (0, -1, np.nan)),
    *((name, "clip_value", value) for name in LEARNING_RATES for value in (0, -1, np.nan)),
    *(
        (name, f"beta_{i}", v)
        for name in ("Adam", "AdamW")
        for i in (1, 2)
        for v in (-0.1, 1, np.nan)
    ),
    *((name, "epsilon", -1e-8) for name in ("Adam", "AdamW", "RMSprop", "Adagrad")),
    *(("SGD", "momentum", value) for value in (-0.1, np.nan, np.inf)),
    *(("RMSprop", "momentum", value) for value in (-0.1, np.nan, np.inf)),
    *(("RMSprop", "alpha", value) for value in (-0.1, 1, np.nan)),
    ("Adagrad", "learning_rate_decay", -0.1),
    ("Adagrad", "initial_accumulator_value", -0.1),
    *(("Rprop", "shrink", value) for value in (0, 1, np.nan)),
    *(("Rprop", "grow", value) for value in (1, 0.5, np.inf)),
    ("Rprop", "smallest_step", -1e-6),
    ("Rprop", "largest_step", 1e-7),
]


@pytest.mark.parametrize(("name", "setting", "value"), BAD_SETTINGS)
def test_bad_settings(name, setting, value):
    with pytest.raises(ValueError, match=f"^{setting} must be a finite number"):
        getattr(cnet, name)(**{setting: value})


@pytest.mark.parametrize(
    ("name", "setting"), sorted({(name, setting) for name, setting, _ in BAD_SETTINGS})
)
def test_settings_that_are_not_numbers(name, setting):
    for value in ("0.1", True, [0.1, 0.2]):
        with pytest.raises(TypeError, match=f"^{setting} must be a finite number"):
            getattr(cnet, name)(**{setting: value})


def test_settings_that_contradict_each_other():
    with pytest.raises(ValueError, match="nesterov=True requires a momentum above 0"):
        cnet.SGD(nesterov=True)
    with pytest.raises(ValueError, match="clip_norm and clip_value cannot be used together"):
        cnet.Adam(clip_norm=1, clip_value=1)
    with pytest.raises(TypeError, match="nesterov must be True or False"):
        cnet.SGD(momentum=0.9, nesterov=1)
    with pytest.raises(TypeError, match="centered must be True or False"):
        cnet.RMSprop(centered="yes")


def test_settings_are_keyword_only():
    """All except the learning rate, which comes first, so that settings cannot be mixed up."""
    for name in LEARNING_RATES:
        with pytest.raises(TypeError, match="positional"):
            getattr(cnet, name)(0.1, 0.9)


@pytest.mark.parametrize(
    "optimizer",
    ["SGD", "adam(", "adam)", "adam(,)", "adam(fast)", "lbfgs", "", 1, cnet.Adam, cnet.Huber()],
)
def test_unknown_optimizers(new_network, optimizer):
    net = new_network()
    start = net.parameters.copy()
    with pytest.raises(ValueError, match=r"optimizer must be one of 'sgd', .* got"):
        train(net, optimizer, 0.1)
    np.testing.assert_array_equal(net.parameters, start)


@pytest.mark.parametrize(
    ("rate", "error"),
    [(-0.1, ValueError), (np.nan, ValueError), ("0.1", TypeError), (True, TypeError)],
)
def test_bad_learning_rates(new_network, rate, error):
    with pytest.raises(error, match=r"^learning_rate must be"):
        train(new_network(), "sgd", rate)


# Adam with an epsilon hat.


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("epsilon", [1e-8, 1e-3, 0.5])
def test_epsilon_hat_is_added_before_the_correction(make_network, name, dtype, epsilon):
    """As in scikit-learn and Keras: rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)."""
    net = make_network((3, 4, 2), ("tanh", "linear"), dtype=dtype)
    expected = reference.Network.like(net)
    x, y = data()
    decay = 0.1 if name == "AdamW" else 0
    m = v = 0
    for t in range(1, 31):
        _, g, _ = expected.loss_and_gradients(x, y, reference.squared_error)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        rate = 0.02 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        w = expected.parameters * (1 - 0.02 * decay)
        expected.parameters = w - rate * m / (np.sqrt(v) + epsilon)
    settings = {"weight_decay": decay, "epsilon": epsilon}
    optimizer = getattr(cnet, name)(**settings, epsilon_hat=True)
    plain = net.copy()
    how = {"batch_size": None, "shuffle": False, "verbose": False}
    net.train(x, y, 0.02, 30, optimizer=optimizer, **how)
    tolerance = (
        {"rtol": 2e-3, "atol": 2e-4} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-11}
    )
    np.testing.assert_allclose(net.parameters, expected.parameters, **tolerance)
    # With a large epsilon the two forms differ.
    plain.train(x, y, 0.02, 30, optimizer=getattr(cnet, name)(**settings), **how)
    if epsilon > 1e-8:
        assert not np.allclose(plain.parameters, net.parameters, rtol=1e-2)


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_epsilon_hat_is_a_flag(value):
    with pytest.raises(TypeError, match=f"epsilon_hat must be True or False, got {value!r}"):
        cnet.Adam(epsilon_hat=value)
