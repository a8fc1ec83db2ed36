"""Held-out rows, class weights, and invalid arguments that raise before training starts."""

import tracemalloc

import numpy as np
import pytest
from helpers import everything, network, refused, unchanged

import cnet

rng = np.random.default_rng(13)
X = rng.uniform(-1, 1, (20, 3))
Y = rng.uniform(0, 1, (20, 2))
OTHER = rng.uniform(-1, 1, (7, 3)), rng.uniform(0, 1, (7, 2))
LABELS = np.array([0, 1, 1, 1, 0] * 4)


def train(net, epochs=4, x=X, y=Y, learning_rate=0.1, **settings):
    return net.train(x, y, learning_rate, epochs, **{"verbose": False, **settings})


def half_squared_error(y_true, y_pred):
    """Compute squared_error in NumPy, with the mean over rows."""
    d = y_pred - y_true
    return np.sum(d * d) / 2 / len(d), d / len(d)


class Batches(cnet.Callback):
    """Makes every batch a separate engine call."""

    def on_batch_end(self, network, batch, logs):
        pass


# Validation data


@pytest.mark.parametrize("loss", ["squared_error", "huber", half_squared_error], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
def test_validation_equals_evaluate_after_each_epoch(loss, reduction):
    net, plain = (network(3, 4, l2=0.1).add_layer(2, l1=0.01) for _ in range(2))
    weights = [] if callable(loss) else [np.linspace(0, 2, 7)]
    expected = []

    def evaluate(net, epoch, logs):
        found = net.evaluate(
            *OTHER, loss=loss, reduction=reduction, metrics="mse",
            sample_weight=weights[0] if weights else None,
        )  # fmt: skip
        expected.append((found["loss"], found["mse"]))

    settings = {"loss": loss, "reduction": reduction}
    history = train(
        net, validation_data=(*OTHER, *weights), metrics="mse", callbacks=evaluate, **settings
    )
    assert list(history) == ["loss", "mse", "val_loss", "val_mse"]
    found = list(zip(history["val_loss"], history["val_mse"], strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    assert len(set(found)) == 4
    assert all(type(value) is float for values in history.values() for value in values)
    # The validation does not change the training.
    assert train(plain, **settings)["loss"] == history["loss"]
    np.testing.assert_array_equal(net.parameters, plain.parameters)


@pytest.mark.parametrize("kind", [tuple, list])
def test_validation_data_in_other_forms(kind):
    net, plain = network(3, 4, 2, output="softmax"), network(3, 4, 2, output="softmax")
    labels = LABELS[:7]
    first = train(net, y=LABELS, validation_data=kind([OTHER[0].tolist(), labels.tolist()]))
    second = train(plain, y=LABELS, validation_data=(OTHER[0], np.eye(2)[labels]))
    np.testing.assert_allclose(first["val_loss"], second["val_loss"], rtol=1e-12)
    # A single row.
    train(net, y=LABELS, validation_data=(OTHER[0][0], 1))


def test_printed_lines_include_the_validation(capsys):
    history = train(
        network(3, 2), 2, verbose=True, validation_data=OTHER, metrics="mae", schedule="step(1)"
    )
    names = ["learning_rate", "mae", "val_loss", "val_mae"]
    for epoch, line in enumerate(capsys.readouterr().out.splitlines()):
        start, *rest = line.split(", ")[1:]
        assert start.startswith("Total Error: ")
        assert rest == [f"{name}: {history[name][epoch]:.4g}" for name in names]


# Holding out a fraction of the rows


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("cut", ["compiled", "function", "batches"])
@pytest.mark.parametrize(
    ("split", "held_out"), [(0.2, 4), (0.01, 1), (0.95, 19), (0.5, 10), (0.33, 7)]
)
def test_held_out_rows(shuffle, cut, split, held_out):
    """They are the right fraction and never trained on, and all other rows are trained on."""
    # Row r has r as its target and changes only the r-th weight.
    net = network(20, 1, output="linear")
    net.parameters[...] = -1
    seen = []

    def see(y_true, y_pred):
        seen.append(np.sort(y_true).tolist())
        return 0.0

    how = {"loss": half_squared_error} if cut == "function" else {}
    how |= {"callbacks": Batches()} if cut == "batches" else {}
    rows = np.arange(20.0)
    train(net, 3, np.eye(20), rows, shuffle=shuffle, validation_split=split, metrics=see, **how)
    trained_on = np.flatnonzero(net.layers[0].weights[:, 0] != -1)
    assert len(trained_on) == 20 - held_out
    if not shuffle:
        assert trained_on.tolist() == list(range(20 - held_out))
    others = np.setdiff1d(rows, trained_on).tolist()
    # Called before training with the held-out rows only, then with both; always the same rows.
    assert seen == [others] + [trained_on.tolist(), others] * 3


def test_different_rows_are_held_out_each_time():
    def drawn(net):
        net.parameters[...] = -1
        train(net, 1, np.eye(20), np.arange(20.0), validation_split=0.5)
        return tuple(np.flatnonzero(net.layers[0].weights[:, 0] != -1))

    net = network(20, 1, output="linear")
    assert len({drawn(net) for _ in range(5)}) == 5
    assert drawn(network(20, 1, output="linear")) == drawn(network(20, 1, output="linear"))


@pytest.mark.parametrize("cut", ["compiled", "function", "batches"])
@pytest.mark.parametrize("y", [Y, LABELS], ids=["targets", "labels"])
@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_the_last_rows_as_validation_data(cut, y, batch_size):
    output = "sigmoid" if y is Y else "softmax"
    split, given = network(3, 4, 2, output=output), network(3, 4, 2, output=output)
    how = {"shuffle": False, "metrics": ["mse", "accuracy"], "batch_size": batch_size}
    how |= {"loss": half_squared_error} if cut == "function" else {}
    how |= {"callbacks": Batches()} if cut == "batches" else {}
    weights = {} if cut == "function" else {"sample_weight": np.linspace(0.1, 2, 20)}
    first = train(split, y=y, validation_split=0.25, **how, **weights)
    rest = {name: values[:15] for name, values in weights.items()}
    data = (X[15:], y[15:], *(values[15:] for values in weights.values()))
    second = train(given, x=X[:15], y=y[:15], validation_data=data, **how, **rest)
    assert first == second
    assert everything(split) == everything(given)


@pytest.mark.parametrize("split", ["compiled", "metrics"])
def test_x_is_not_copied(split):
    """Except for the held-out rows."""
    x = np.random.default_rng(0).random((20_000, 100), np.float32)
    y = x[:, :1].copy()
    net = network(100, 2, 1, dtype="float32")
    metrics = "mse" if split == "metrics" else ()
    tracemalloc.start()
    try:
        history = train(
            net, 1, x, y, batch_size=100, validation_split=0.1, metrics=metrics, shuffle=False
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Held-out rows of x and, for metrics, some rows at a time; orders of rows; the threads' scratch.
    assert peak < x.nbytes * (0.1 + 0.41 * bool(metrics)) + 20_000 * 8 * 6 + 2_000_000
    if metrics:
        expected = np.mean((net.predict(x[:18_000]) - y[:18_000]) ** 2, dtype=np.float64)
        assert history["mse"] == [pytest.approx(expected, rel=1e-6)]


# Class weights


def trained(y, n_outputs=2, output="softmax", **settings):
    net = network(3, 4, n_outputs, output=output)
    history = train(net, y=y, batch_size=3, **settings)
    return net.parameters.copy(), history["loss"]


FORMS = {
    "labels": (LABELS, 2, "softmax"),
    "one-hot": (np.eye(2)[LABELS], 2, "softmax"),
    "one-hot, sigmoid": (np.eye(2)[LABELS], 2, "sigmoid"),
    "labels, squared error": (LABELS, 2, "sigmoid"),
    "0 and 1": (LABELS, 1, "sigmoid"),
    "0 and 1, column": (LABELS[:, np.newaxis], 1, "sigmoid"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
@pytest.mark.parametrize("sample_weight", [None, np.linspace(0, 2, 20)], ids=["alone", "and rows'"])
def test_class_weights_equal_sample_weights(form, reduction, sample_weight):
    y, n_outputs, output = FORMS[form]
    weights = np.where(LABELS == 1, 0.25, 3)
    weights = weights if sample_weight is None else weights * sample_weight
    how = {"reduction": reduction}
    expected, losses = trained(y, n_outputs, output, sample_weight=weights, **how)
    found, history = trained(
        y, n_outputs, output,
        class_weight={0: 3, np.int64(1): np.float32(0.25)}, sample_weight=sample_weight, **how,
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(history, losses, rtol=1e-12)
    plain, _ = trained(y, n_outputs, output, sample_weight=sample_weight, **how)
    assert not np.allclose(found, plain, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_balanced_class_weights_match_scikit_learn(form):
    weights = pytest.importorskip(
        "sklearn.utils.class_weight", reason="scikit-learn is not installed"
    ).compute_sample_weight("balanced", LABELS)
    expected, _ = trained(*FORMS[form], sample_weight=weights)
    found, _ = trained(*FORMS[form], class_weight="balanced")
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("y", [LABELS, np.eye(4)[LABELS]], ids=["labels", "one-hot"])
def test_class_weights_if_some_classes_do_not_occur(y):
    """Two of four classes occur: they share the total weight; the others may have weights too."""
    counts = np.bincount(LABELS)
    weights = (20 / (2 * counts))[LABELS]
    expected, _ = trained(y, 4, sample_weight=weights)
    found, _ = trained(y, 4, class_weight="balanced")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    found, _ = trained(y, 4, class_weight=dict(enumerate([*(20 / (2 * counts)), 7, 9])))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_balanced_weights_ignore_held_out_rows():
    # Only one training row has class 0; the others are held out.
    y = np.array([0] + [1] * 9 + [0] * 10)
    split, given = network(3, 4, 2, output="softmax"), network(3, 4, 2, output="softmax")
    how = {"class_weight": "balanced", "shuffle": False}
    first = train(split, y=y, validation_split=0.5, **how)
    second = train(given, x=X[:10], y=y[:10], validation_data=(X[10:], y[10:]), **how)
    assert first == second
    np.testing.assert_array_equal(split.parameters, given.parameters)


def test_empty_class_weights_have_no_effect():
    np.testing.assert_array_equal(trained(LABELS, class_weight={})[0], trained(LABELS)[0])


def test_classes_without_weight_are_ignored_in_the_loss():
    ones = LABELS == 1
    how = {"reduction": "sum", "batch_size": None, "shuffle": False}
    net, fewer = network(3, 4, 2, output="softmax"), network(3, 4, 2, output="softmax")
    first = train(net, y=LABELS, class_weight={0: 0}, **how)
    second = train(fewer, x=X[ones], y=LABELS[ones], **how)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-12)
    np.testing.assert_allclose(net.parameters, fewer.parameters, rtol=1e-12)


# The mean over weights


def test_the_weighted_mean_is_computed_per_batch():
    net = network(3, 4, 2)
    weights = np.linspace(0, 3, 20)
    errors = np.sum((net.predict(X) - Y) ** 2, axis=1) / 2
    found = net.evaluate(X, Y, sample_weight=weights, reduction="weighted_mean")["loss"]
    assert found == pytest.approx(np.average(errors, weights=weights), rel=1e-12)
    history = train(
        net, 1, learning_rate=0, batch_size=8, sample_weight=weights, reduction="weighted_mean",
        shuffle=False,
    )  # fmt: skip
    of_batches = [
        np.average(errors[i : i + 8], weights=weights[i : i + 8]) * len(errors[i : i + 8])
        for i in (0, 8, 16)
    ]
    assert history["loss"] == [pytest.approx(np.sum(of_batches) / 20, rel=1e-12)]


def test_the_weighted_mean_does_not_depend_on_the_scale_of_weights():
    nets = [network(3, 4, 2) for _ in range(3)]
    weights = np.linspace(0.1, 3, 20)
    how = {"reduction": "weighted_mean", "batch_size": 3, "optimizer": "sgd"}
    for net, scale in zip(nets, (1, 1000), strict=False):
        train(net, sample_weight=scale * weights, **how)
    train(nets[2], sample_weight=weights, **{**how, "reduction": "mean"})
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-10)
    assert not np.allclose(nets[0].parameters, nets[2].parameters, rtol=1e-4)


def test_the_weighted_mean_without_weights_is_the_mean():
    net, plain = network(3, 4, 2), network(3, 4, 2)
    assert train(net, batch_size=3, reduction="weighted_mean") == train(plain, batch_size=3)
    np.testing.assert_array_equal(net.parameters, plain.parameters)
    assert net.evaluate(X, Y, reduction="weighted_mean") == net.evaluate(X, Y)


@pytest.mark.parametrize("batch_size", [1, 5, None])
def test_batches_whose_weights_are_all_zero(batch_size):
    net = network(3, 4, 2)
    before = net.parameters.copy()
    how = {"reduction": "weighted_mean", "sample_weight": np.zeros(20)}
    history = train(net, batch_size=batch_size, **how)
    assert history["loss"] == [0, 0, 0, 0]
    np.testing.assert_array_equal(net.parameters, before)
    assert net.evaluate(X, Y, **how)["loss"] == 0


# Invalid arguments


@pytest.fixture
def net():
    """Return a network with optimizer state, a loss and a history to lose."""
    net = network(3, 4, 2)
    train(net, 2, optimizer="adam", loss="huber")
    return net


@pytest.mark.parametrize(
    ("settings", "words", "error"),
    [
        ({"validation_data": X}, ["validation_data must be a tuple (x, y)", "ndarray"], ValueError),
        ({"validation_data": (X,)}, ["validation_data must be a tuple (x, y)"], ValueError),
        ({"validation_data": (X, Y, None, 1)}, ["validation_data must be a tuple"], ValueError),
        ({"validation_data": "xy"}, ["validation_data must be a tuple", "str"], ValueError),
        (
            {"validation_data": (X[:, :2], Y)},
            ["validation_data[0] must have 3 columns"],
            ValueError,
        ),
        (
            {"validation_data": (X, Y[:5])},
            ["validation_data[1] must have 20 rows, as many as validation_data[0]"],
            ValueError,
        ),
        ({"validation_data": (X[:0], Y[:0])}, ["validation_data[0]"], ValueError),
        (
            {"validation_data": (X, np.nan * Y)},
            ["validation_data[1] must not have NaN"],
            ValueError,
        ),
        (
            {"validation_data": (X, Y, [1, 2])},
            ["validation_data[2] must have shape (20,)", "row of validation_data[0]", "(2,)"],
            ValueError,
        ),
        (
            {"validation_data": (X, Y, np.full(20, -1))},
            ["validation_data[2] must not be negative", "got -1"],
            ValueError,
        ),
        (
            {"validation_data": (X, Y, np.ones(20)), "loss": half_squared_error},
            ["validation_data[2] must be None with a function as loss"],
            ValueError,
        ),
        (
            {"validation_data": (X, 2 * Y), "loss": "binary_cross_entropy"},
            ["validation_data[1] must be at least 0 and at most 1"],
            ValueError,
        ),
        ({"validation_split": 1}, ["validation_split must be", "below 1", "got 1"], ValueError),
        ({"validation_split": -0.1}, ["validation_split must be", "got -0.1"], ValueError),
        ({"validation_split": np.nan}, ["validation_split must be", "got nan"], ValueError),
        ({"validation_split": "0.1"}, ["validation_split must be", "got '0.1'"], TypeError),
        ({"validation_split": None}, ["validation_split must be", "got None"], TypeError),
        ({"validation_split": True}, ["validation_split must be", "got True"], TypeError),
        (
            {"validation_split": 0.98},
            ["validation_split must leave rows", "0.98 of 20"],
            ValueError,
        ),
        (
            {"validation_split": 0.5, "validation_data": OTHER},
            ["validation_data and validation_split cannot be used together"],
            ValueError,
        ),
        (
            {"y": LABELS, "class_weight": "even"},
            ["class_weight must be a dict", "got 'even'"],
            ValueError,
        ),
        (
            {"y": LABELS, "class_weight": [1, 2]},
            ["class_weight must be a dict", "got [1, 2]"],
            ValueError,
        ),
        (
            {"class_weight": {0: 1}},
            ["class_weight must be None unless targets are classes"],
            ValueError,
        ),
        ({"y": LABELS, "class_weight": {2: 1}}, ["classes from 0 to 1", "got 2"], ValueError),
        ({"y": LABELS, "class_weight": {-1: 1}}, ["classes from 0 to 1", "got -1"], ValueError),
        ({"y": LABELS, "class_weight": {"0": 1}}, ["integer classes", "got '0'"], ValueError),
        ({"y": LABELS, "class_weight": {True: 1}}, ["integer classes", "got True"], ValueError),
        ({"y": LABELS, "class_weight": {0: -1}}, ["class_weight[0] must be", "got -1"], ValueError),
        (
            {"y": LABELS, "class_weight": {0: "1"}},
            ["class_weight[0] must be", "got '1'"],
            TypeError,
        ),
        (
            {"y": LABELS, "class_weight": {0: 2}, "loss": half_squared_error},
            ["class_weight must be None with a function as loss"],
            ValueError,
        ),
        ({"y": LABELS, "class_weight": 3, "validation_split": 0.5}, ["class_weight"], ValueError),
        (
            {"callbacks": cnet.EarlyStopping()},
            ["monitor must be", "loss", "got 'val_loss'; val_loss requires validation_data"],
            ValueError,
        ),
        (
            {"callbacks": cnet.EarlyStopping("auc"), "metrics": "mse", "validation_split": 0.5},
            ["monitor must be", "loss, mse, val_loss, val_mse", "got 'auc'"],
            ValueError,
        ),
    ],
)
def test_invalid_settings_raise(net, settings, words, error):
    with refused(*words, error=error, of=[net]):
        train(net, **{"optimizer": "rprop", **settings})


def test_class_weights_beyond_float32():
    net = network(3, 4, 2, output="softmax", dtype="float32")
    with refused("class_weight must fit float32", "got 1e+300", of=[net]):
        train(net, y=LABELS, class_weight={0: 1e300})


class BrokenError(Exception):
    """Raised by a user's function."""


@pytest.mark.parametrize(
    ("what", "validation"),
    [
        ("metrics", {"validation_data": OTHER}),
        ("metrics", {"validation_split": 0.5}),
        ("metrics", {}),
        ("loss", {"validation_data": OTHER}),
        ("loss", {"validation_split": 0.5}),
    ],
)
def test_functions_that_fail_on_validation_data_fail_before_training(net, what, validation):
    def fail(y_true, y_pred):
        raise BrokenError(what)

    calls = []

    class Begin(cnet.Callback):
        def on_train_begin(self, network):
            calls.append("begin")

    with unchanged(net), pytest.raises(BrokenError, match=what):
        train(net, optimizer="rprop", callbacks=Begin(), **{what: fail}, **validation)
    assert calls == []


@pytest.mark.parametrize("where", ["training", "validation"])
@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt])
def test_a_metric_that_fails_after_some_epochs(where, error):
    """The epoch is undone: neither the history nor the weights include it."""
    net, expected = network(3, 4, 2), network(3, 4, 2)
    calls = {"training": 0, "validation": 0}

    def fail(y_true, y_pred):
        which = "validation" if len(y_true) == 7 else "training"
        calls[which] += 1
        # After the third epoch; on validation data the function is also called before the first.
        if which == where and calls[which] == 3 + (where == "validation"):
            raise error("by the user")
        return 0.5

    settings = {"optimizer": "adam", "validation_data": OTHER, "schedule": "exponential"}
    with pytest.raises(error, match="by the user"):
        train(net, 6, metrics={"own": fail, "mse": "mse"}, **settings)
    history = train(expected, 2, metrics={"own": lambda t, p: 0.5, "mse": "mse"}, **settings)
    assert net.history == history
    assert {len(values) for values in net.history.values()} == {2}
    np.testing.assert_array_equal(net.parameters, expected.parameters)
    # The optimizer's state is reset, because its averages belong to steps that were undone.
    assert net.trainer.state.steps[0] == 0
    assert not net.trainer.state.moments.any()
    assert len(train(net, 2)["loss"]) == 2
