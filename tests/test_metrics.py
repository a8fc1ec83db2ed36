"""Metrics: each against scikit-learn's of the labels and outputs, functions of the user's, and names."""

import sys
from itertools import product

import numpy as np
import pytest
from helpers import network, refused, unchanged

import cnet

NAMES = ["accuracy", "auc", "balanced_accuracy", "f1", "log_loss", "mae", "mse", "precision", "r2",
         "recall", "rmse"]  # fmt: skip
N = 60
rng = np.random.default_rng(7)
X = rng.normal(size=(N, 3))
BINARY = (X[:, 0] + rng.normal(size=N) > 0).astype(int)
THREE = np.digitize(X[:, 1] + rng.normal(size=N), [-0.6, 0.6])
MANY = (X @ rng.normal(size=(3, 4)) + rng.normal(size=(N, 4)) > 0).astype(float)
REAL = X @ rng.normal(size=(3, 2)) + rng.normal(size=(N, 2))


@pytest.fixture(scope="module")
def skl():
    return pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")


def made(n_outputs, output, dtype="float64"):
    """Return a network that is neither right nor wrong everywhere."""
    net = network(3, 8, n_outputs, output=output, dtype=dtype)
    net.parameters[...] = np.random.default_rng(3).normal(size=net.parameters.shape)
    return net


def one_hot(labels, n):
    return np.eye(n)[labels]


# Number of outputs, activation, targets.
CASES = {
    "binary": (1, "sigmoid", BINARY),
    "binary, column": (1, "sigmoid", BINARY[:, np.newaxis].astype(float)),
    "two, labels": (2, "softmax", BINARY),
    "two, one-hot": (2, "softmax", one_hot(BINARY, 2)),
    "two sigmoid, labels": (2, "sigmoid", BINARY),
    "three, labels": (3, "softmax", THREE),
    "three, one-hot": (3, "softmax", one_hot(THREE, 3)),
    "multilabel": (4, "sigmoid", MANY),
    "regression": (1, "linear", REAL[:, 0]),
    "regression of two": (2, "linear", REAL),
}


def expected(skl, name, case, p):
    """Return scikit-learn's score of the outputs p."""
    n_outputs, _, y = CASES[case]
    rows = y if np.ndim(y) == 2 else (one_hot(y, n_outputs) if n_outputs > 1 else y[:, np.newaxis])
    if name in ("mae", "mse", "rmse", "r2"):
        function = {
            "mae": skl.mean_absolute_error,
            "mse": skl.mean_squared_error,
            "rmse": lambda y, p: np.sqrt(skl.mean_squared_error(y, p)),
            "r2": skl.r2_score,
        }[name]
        return function(rows, p)
    if case == "multilabel":
        labels, found, scores, average = rows.astype(int), (p > 0.5).astype(int), p, "macro"
    elif n_outputs == 1:
        labels, found, scores, average = rows[:, 0], p[:, 0] > 0.5, p[:, 0], "binary"
    else:
        labels, found = rows.argmax(axis=1), p.argmax(axis=1)
        scores = p[:, 1] if n_outputs == 2 else p
        average = "binary" if n_outputs == 2 else "macro"
    if name == "accuracy":
        return skl.accuracy_score(labels, found)
    if name == "balanced_accuracy":
        return skl.balanced_accuracy_score(labels, found)
    if name == "auc":
        return skl.roc_auc_score(labels, scores, multi_class="ovr")
    if name == "log_loss":
        if case == "multilabel":
            return np.mean([skl.log_loss(labels[:, j], p[:, j]) for j in range(n_outputs)])
        # Of probabilities that do not sum to 1 scikit-learn warns.
        return skl.log_loss(labels, p / p.sum(axis=1, keepdims=True) if n_outputs > 1 else p)
    function = {"f1": skl.f1_score, "precision": skl.precision_score, "recall": skl.recall_score}
    return function[name](labels, found, average=average)


NUMBERS = ["mae", "mse", "rmse", "r2"]


@pytest.mark.parametrize(
    ("name", "case"),
    [
        (name, case)
        for name, case in product(NAMES, CASES)
        if (name in NUMBERS or not case.startswith("regression"))
        and (name, case) != ("balanced_accuracy", "multilabel")
    ],
)
def test_against_scikit_learn(skl, name, case):
    n_outputs, output, y = CASES[case]
    net = made(n_outputs, output)
    value = expected(skl, name, case, net.predict(X))
    found = net.evaluate(X, y, metrics=name)
    assert list(found)[:1] == ["loss"]
    assert found[name] == pytest.approx(value, rel=1e-12)
    assert type(found[name]) is float
    # None of the values is one that anything would give.
    assert value not in (0, 1)


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("regression")])
def test_float32(skl, case):
    n_outputs, output, y = CASES[case]
    net = made(n_outputs, output, "float32")
    names = [name for name in NAMES if name != "balanced_accuracy"]
    found = net.evaluate(X, y, metrics=names)
    p = net.predict(X).astype(float)
    for name in names:
        assert found[name] == pytest.approx(expected(skl, name, case, p), rel=1e-5)


def test_probabilities_that_float32_rounds(skl):
    # Of many classes the sum of a row is 1 only to float32's digits; and some are 0 or 1.
    net = made(30, "softmax", "float32")
    net.layers[-1].weights *= 20
    labels = np.arange(N) % 30
    with np.errstate(all="raise"):
        found = net.evaluate(X, labels, metrics=["log_loss", "auc"])
    assert np.isfinite(list(found.values())).all()


@pytest.mark.parametrize("y", [BINARY, one_hot(BINARY, 2), BINARY.tolist()], ids=["a", "b", "c"])
def test_in_training_they_are_those_of_after_the_epoch(skl, y):
    net = made(2, "softmax")
    seen = []

    def evaluate(net, epoch, logs):
        found = net.evaluate(X, y, metrics=["auc", "f1", "mae"])
        seen.append({name: found[name] for name in ("auc", "f1", "mae")})
        assert logs == {name: values[-1] for name, values in net.history.items()}

    history = net.train(
        X, y, 0.5, 3, metrics=["auc", "f1", "mae"], verbose=False, callbacks=evaluate
    )
    assert list(history) == ["loss", "auc", "f1", "mae"]
    assert [{name: history[name][i] for name in seen[i]} for i in range(3)] == seen
    assert len({*history["mae"]}) == 3


# Functions


def bias(y_true, y_pred):
    return np.mean(y_pred - y_true)


class Bias:
    def __call__(self, y_true, y_pred):
        return bias(y_true, y_pred)


@pytest.mark.parametrize(
    ("case", "shapes", "kind"),
    [
        ("binary", ((N,), (N,)), "f"),
        ("binary, column", ((N,), (N,)), "f"),
        ("three, labels", ((N,), (N, 3)), "i"),
        ("three, one-hot", ((N, 3), (N, 3)), "f"),
        ("regression of two", ((N, 2), (N, 2)), "f"),
    ],
)
def test_what_functions_are_given(case, shapes, kind):
    n_outputs, output, y = CASES[case]
    net = made(n_outputs, output)
    seen = []

    def see(y_true, y_pred):
        seen.append((y_true, y_pred))
        return np.float32(0.25)

    found = net.evaluate(X, y, metrics=see)
    ((y_true, y_pred),) = seen
    assert (y_true.shape, y_pred.shape) == shapes
    assert y_true.dtype.kind == kind
    np.testing.assert_array_equal(y_true.ravel(), np.ravel(y))
    np.testing.assert_array_equal(y_pred.ravel(), net.predict(X).ravel())
    assert found["see"] == 0.25
    assert type(found["see"]) is float


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        (None, []),
        ((), []),
        ("mse", ["mse"]),
        (bias, ["bias"]),
        (Bias(), ["Bias"]),
        (["mse", bias], ["mse", "bias"]),
        (iter([bias, "mae"]), ["bias", "mae"]),
        ({"a": "mse", "b": bias, "c": lambda t, p: 1}, ["a", "b", "c"]),
    ],
    ids=str,
)
def test_names(metrics, names):
    net = made(2, "linear")
    found = net.evaluate(X, REAL, metrics=metrics)
    assert list(found) == ["loss", *names]
    d = net.predict(X) - REAL
    values = {"mse": np.mean(d**2), "bias": d.mean(), "mae": np.mean(abs(d)), "Bias": d.mean()}
    values |= {"a": values["mse"], "b": values["bias"], "c": 1}
    for name in names:
        assert found[name] == pytest.approx(values[name], rel=1e-12)


@pytest.mark.parametrize("case", ["binary", "three, labels", "three, one-hot", "regression of two"])
@pytest.mark.parametrize("validation", [True, False])
def test_functions_cannot_change_what_they_are_given(case, validation):
    def meddle(y_true, y_pred):
        y_true *= 0
        y_pred *= 0
        return 0

    n_outputs, output, y = CASES[case]
    y = np.array(y, np.intp if case == "three, labels" else np.float64)
    given = y.copy()
    net, plain = made(n_outputs, output), made(n_outputs, output)
    how = {"verbose": False, "validation_data": (X, y) if validation else None}
    history = net.train(X, y, 0.1, 3, metrics=[meddle, "mse"], **how)
    np.testing.assert_array_equal(y, given)
    expected = plain.train(X, y, 0.1, 3, metrics="mse", **how)
    assert history["mse"] == expected["mse"]
    np.testing.assert_array_equal(net.parameters, plain.parameters)


@pytest.mark.parametrize("value", [None, "much", [1.0, 2.0], 1j], ids=str)
def test_functions_that_return_no_number(value):
    net = made(1, "sigmoid")
    for call in (
        lambda: net.evaluate(X, BINARY, metrics=lambda y_true, y_pred: value),
        lambda: net.train(X, BINARY, metrics=lambda y_true, y_pred: value),
    ):
        with refused("metric '<lambda>' must return a number", f"got {value!r}", of=[net]):
            call()


# Names and what is refused


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ("acc", ["metrics must be one or more of 'accuracy', 'auc'", "got 'acc'"]),
        (3, ["metrics must be one or more of", "got 3"]),
        ([None], ["metrics must be one or more of", "got None"]),
        ([["mse"]], ["metrics must be one or more of", "got ['mse']"]),
        (cnet.Layer, ["metrics must be one or more of", "Layer"]),
        (["mse", "mse"], ["metrics must have unique names", "'mse', 'mse'"]),
        ([lambda t, p: 1, lambda t, p: 2], ["unique names", "pass a dict"]),
        ({"loss": "mse"}, ["unique names", "'loss'"]),
        ({"learning_rate": bias}, ["unique names", "'learning_rate'"]),
        ({"val_loss": bias}, ["unique names", "'val_loss'"]),
        ({"mse": bias, "val_mse": "mse"}, ["unique names", "'val_mse'"]),
        ({1: bias}, ["metrics must be a dict of names", "got 1 as a name"]),
        ({"": bias}, ["metrics must be a dict of names", "got '' as a name"]),
    ],
)
def test_metrics_that_are_refused(metrics, words):
    net = made(2, "linear")
    with refused(*words, of=[net]):
        net.train(X, REAL, metrics=metrics, optimizer="adam", validation_split=0.2)
    with refused(*words, of=[net]):
        net.evaluate(X, REAL, metrics=metrics)


@pytest.mark.parametrize("name", ["f1", "auc", "log_loss", "r2", "balanced_accuracy"])
def test_without_scikit_learn(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    net = made(1, "sigmoid")
    with refused("scikit-learn", "pip install cnet[sklearn]", error=ImportError, of=[net]):
        net.train(X, BINARY, metrics=name, optimizer="adam", loss="huber")
    # What needs none does without it.
    found = net.evaluate(X, BINARY, metrics=["mae", "mse", "rmse"])
    assert found["accuracy"] == np.mean((net.predict(X)[:, 0] > 0.5) == BINARY)


@pytest.mark.parametrize("name", ["auc", "log_loss"])
def test_a_metric_that_fails_on_such_targets_fails_before_training(skl, name):
    net = made(1, "linear")
    with unchanged(net), pytest.raises(ValueError, match=r"continuous|greater than 1"):
        net.train(X, REAL[:, 0], metrics=name, optimizer="adam", validation_split=0.2)
