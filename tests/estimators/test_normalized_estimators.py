"""Batch and layer normalization in the estimators, and frozen layers."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import cnet
from cnet.estimators import MLPClassifier, MLPRegressor, _rows
from cnet.estimators._coding import GroupedCrossEntropy
from cnet.layers import BatchNorm, Layer, LayerNorm

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NORMS = ["batch_norm", "layer_norm"]
LAYERS = {"batch_norm": BatchNorm, "layer_norm": LayerNorm}

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)) * [1, 3, 0.2, 5] + [0, 2, -1, 0]
Y = np.tanh(X @ [1.0, -1.0, 2.0, 0.3]) + 0.1 * RNG.normal(size=60)
TWO = np.column_stack([Y, X[:, 0] ** 2])
CLASSES = np.digitize(Y, [-0.5, 0.5])
LABELS = np.column_stack([Y > 0, X[:, 0] > 0, X[:, 1] > 2]).astype(int)
COLUMNS = np.column_stack([CLASSES, (X[:, 1] > 2) * 5])
WEIGHTS = RNG.uniform(0.2, 3, 60)


def drawn(sizes, activation="relu", seed=0):
    """Return scikit-learn's starting weights and biases, and the random numbers after them."""
    random = np.random.RandomState(seed)
    arrays = []
    for n_inputs, n_neurons in pairwise(sizes):
        bound = np.sqrt((2 if activation == "logistic" else 6) / (n_inputs + n_neurons))
        arrays.append(
            (
                random.uniform(-bound, bound, (n_inputs, n_neurons)),
                random.uniform(-bound, bound, n_neurons),
            )
        )
    return arrays, random


def equivalent(norm, sizes, activation, output, dtype="float64", dropout=0.0, l2=0.0, **settings):
    """Return a network that is built by hand, with the starting weights of random_state 0.

    `settings` are for the dense layers; max_norm only for the hidden ones.
    """
    layers = []
    for n_inputs, n_neurons in pairwise(sizes[:-1]):
        layers += [
            Layer(n_inputs, n_neurons, "linear", l2=l2, **settings),
            LAYERS[norm](n_neurons, activation, dropout=dropout),
        ]
    last = {name: value for name, value in settings.items() if name != "max_norm"}
    layers.append(Layer(sizes[-2], sizes[-1], output, l2=l2, **last))
    net = cnet.NeuralNetwork(*layers, seed=0, dtype=dtype)
    arrays, random = drawn(sizes, activation)
    for layer, (weights, biases) in zip(net.layers[::2], arrays, strict=True):
        layer.weights, layer.biases = weights, biases
    return net, random


def values(model):
    """Return copies of everything that training changes in a network."""
    network = getattr(model, "network_", model)
    return network.parameters.copy(), network.buffers.copy()


def assert_same(model, other):
    for found, expected in zip(values(model), values(other), strict=True):
        np.testing.assert_array_equal(found, expected)


class Capture(cnet.Callback):
    """Keeps the values at the start and after each epoch."""

    def __init__(self):
        self.values = []

    def on_train_begin(self, network):
        self.values.append(values(network))

    def on_epoch_end(self, network, epoch, logs):
        self.values.append(values(network))


# The network


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_each_hidden_layer_is_normalized_before_its_activation(cls, norm):
    model = cls(
        hidden_layer_sizes=(6, 5),
        activation=["relu", "tanh"],
        dropout=[0.1, 0.2],
        alpha=0.3,
        l1=0.01,
        max_norm=2.0,
        max_iter=2,
        random_state=0,
        **{norm: True},
    ).fit(X, CLASSES)
    layers = model.network_.layers
    assert [type(layer) for layer in layers] == [
        Layer,
        LAYERS[norm],
        Layer,
        LAYERS[norm],
        Layer,
    ]
    assert [layer.activation for layer in layers[:4]] == ["linear", "relu", "linear", "tanh"]
    assert [layer.dropout for layer in layers] == [0, 0.1, 0, 0.2, 0]
    penalties = {"l1": 0.01, "l2": 0.3}
    assert layers[0].regularization == {**penalties, "max_norm": 2.0}
    assert layers[2].regularization == {**penalties, "max_norm": 2.0}
    assert layers[4].regularization == penalties
    n_outputs = 3 if cls is MLPClassifier else 1
    assert [w.shape for w in model.coefs_] == [(4, 6), (6, 5), (5, n_outputs)]
    assert [b.shape for b in model.intercepts_] == [(6,), (5,), (n_outputs,)]
    assert np.shares_memory(model.coefs_[1], layers[2].weights)
    assert model.n_layers_ == 4
    assert repr(model.network_).count(LAYERS[norm].__name__) == 2
    assert "batch_norm" not in repr(clone(model).set_params(batch_norm=False, layer_norm=False))


@pytest.mark.parametrize("norm", NORMS)
def test_no_hidden_layer_is_no_normalization(norm):
    model = MLPRegressor(hidden_layer_sizes=(), max_iter=2, random_state=0, **{norm: True})
    plain = MLPRegressor(hidden_layer_sizes=(), max_iter=2, random_state=0)
    assert_same(model.fit(X, Y), plain.fit(X, Y))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ["relu", "logistic"])
def test_starting_weights_are_those_without_normalization(norm, activation):
    found = {}
    for norms in ({}, {norm: True}):
        capture = Capture()
        model = MLPClassifier((6, 5), activation, max_iter=1, callbacks=[capture], random_state=3)
        model.set_params(early_stopping=True, **norms).fit(X, CLASSES)
        model.network_.parameters[...] = capture.values[0][0]
        found[bool(norms)] = [*model.coefs_, *model.intercepts_]
    for plain, normalized in zip(found[False], found[True], strict=True):
        np.testing.assert_array_equal(plain, normalized)
    weights, biases = zip(*drawn((4, 6, 5, 3), activation, 3)[0], strict=True)
    for drawn_array, array in zip([*weights, *biases], found[True], strict=True):
        np.testing.assert_array_equal(array, drawn_array)


# Training


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize(
    ("cls", "y", "output", "loss"),
    [
        (MLPRegressor, Y, "linear", "squared_error"),
        (MLPRegressor, TWO, "linear", "squared_error"),
        (MLPClassifier, CLASSES, "softmax", "cross_entropy"),
        (MLPClassifier, LABELS, "sigmoid", "binary_cross_entropy"),
    ],
    ids=["regression", "two outputs", "classes", "multilabel"],
)
def test_training_is_that_of_a_network_with_these_layers(norm, dtype, solver, cls, y, output, loss):
    x, batch_size, alpha, l1 = X.astype(dtype), 15, 0.3, 0.05
    model = cls(
        hidden_layer_sizes=(6, 5),
        solver=solver,
        alpha=alpha,
        l1=l1,
        max_norm=0.9,
        batch_size=batch_size,
        shuffle=False,
        max_iter=4,
        learning_rate_init=0.01,
        random_state=0,
        **{norm: True},
    ).fit(x, y)
    n_outputs = len(model.intercepts_[-1])
    # The estimator divides the penalties by the number of rows.
    penalties = {"l1": l1 / batch_size, "l2": alpha / batch_size, "max_norm": 0.9}
    net, _ = equivalent(norm, (4, 6, 5, n_outputs), "relu", output, dtype, **penalties)
    optimizer = (
        cnet.Adam(epsilon_hat=True) if solver == "adam" else cnet.SGD(momentum=0.9, nesterov=True)
    )
    settings = {"epochs": 4, "batch_size": batch_size, "shuffle": False, "verbose": False}
    net.train(x, y, 0.01, loss=loss, optimizer=optimizer, **settings)
    rtol = 1e-3 if dtype == "float32" else 1e-9
    for found, expected in zip(values(model), values(net), strict=True):
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol / 100)
    assert model.network_.dtype == dtype
    if norm == "batch_norm":
        assert (model.network_.layers[1].running_mean != 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_rows_are_shuffled_as_without_normalization(norm):
    net, random = equivalent(norm, (4, 6, 1), "relu", "linear")
    order = random.permutation(60)
    settings = {"epochs": 1, "batch_size": 20, "shuffle": False, "verbose": False}
    net.train(X[order], Y[order], optimizer=cnet.Adam(0.01, epsilon_hat=True), **settings)
    model = MLPRegressor(hidden_layer_sizes=(6,), alpha=0, batch_size=20, max_iter=1)
    model.set_params(learning_rate_init=0.01, random_state=0, **{norm: True}).fit(X, Y)
    np.testing.assert_allclose(values(model)[0], values(net)[0], rtol=1e-12)


def normalized(z, axis):
    return (z - z.mean(axis, keepdims=True)) / np.sqrt(z.var(axis, keepdims=True) + 1e-5)


def test_steps_are_those_of_a_plain_implementation():
    """Two steps of gradient descent, by differences of the loss in NumPy."""
    for norm, axis in (("batch_norm", 0), ("layer_norm", 1)):

        def loss(p, x, y, axis=axis):
            w, b, g, h, v, c = np.split(p, np.cumsum([12, 3, 3, 3, 3]))
            z = normalized(x @ w.reshape(4, 3) + b, axis)
            out = np.tanh(z * g + h) @ v + c
            return 0.5 * np.mean((out - y) ** 2) + 0.7 / len(x) / 2 * ((w**2).sum() + (v**2).sum())

        capture = Capture()
        model = MLPRegressor(hidden_layer_sizes=(3,), activation="tanh", solver="sgd", momentum=0)
        model.set_params(alpha=0.7, learning_rate_init=0.1, batch_size=30, shuffle=False)
        model.set_params(max_iter=1, random_state=0, callbacks=[capture], **{norm: True}).fit(X, Y)
        p = capture.values[0][0]
        for rows in (slice(30), slice(30, 60)):
            steps = 1e-6 * np.eye(len(p))
            gradient = [
                (loss(p + e, X[rows], Y[rows]) - loss(p - e, X[rows], Y[rows])) / 2e-6
                for e in steps
            ]
            p = p - 0.1 * np.array(gradient)
        np.testing.assert_allclose(values(model)[0], p, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("weighted_by", ["rows", "classes"])
@pytest.mark.parametrize("norm", NORMS)
def test_weights_of_rows_and_classes(norm, weighted_by):
    of_classes = {0: 2.0, 1: 0.5, 2: 1.0}
    by_class = np.array([of_classes[c] for c in CLASSES])
    model = MLPClassifier((6,), alpha=0, batch_size=20, shuffle=False, max_iter=3, random_state=0)
    model.set_params(**{norm: True})
    if weighted_by == "rows":
        model.fit(X, CLASSES, WEIGHTS * by_class)
    else:
        model.set_params(class_weight=of_classes).fit(X, CLASSES, WEIGHTS)
    net, _ = equivalent(norm, (4, 6, 3), "relu", "softmax")
    settings = {"epochs": 3, "batch_size": 20, "shuffle": False, "verbose": False}
    net.train(
        X,
        CLASSES,
        optimizer=cnet.Adam(epsilon_hat=True),
        sample_weight=WEIGHTS * by_class,
        reduction="weighted_mean",
        **settings,
    )
    np.testing.assert_allclose(values(model)[0], values(net)[0], rtol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_several_columns_of_classes(norm):
    model = MLPClassifier((6,), alpha=0, batch_size=20, shuffle=False, max_iter=3, random_state=0)
    model.set_params(**{norm: True}).fit(X, COLUMNS)
    net, _ = equivalent(norm, (4, 6, 5), "relu", "linear")
    targets = np.hstack([np.eye(3)[CLASSES], np.eye(2)[COLUMNS[:, 1] // 5]])
    settings = {"epochs": 3, "batch_size": 20, "shuffle": False, "verbose": False}
    loss = GroupedCrossEntropy([slice(3), slice(3, 5)])
    net.train(X, targets, loss=loss, optimizer=cnet.Adam(epsilon_hat=True), **settings)
    np.testing.assert_allclose(values(model)[0], values(net)[0], rtol=1e-9)
    assert [p.shape for p in model.predict_proba(X)] == [(60, 3), (60, 2)]


@pytest.mark.parametrize("norm", NORMS)
def test_dropout_comes_after_the_normalization(norm):
    model = MLPClassifier((6,), dropout=0.5, alpha=0, batch_size=20, shuffle=False, max_iter=3)
    model.set_params(random_state=0, **{norm: True}).fit(X, CLASSES)
    net, random = equivalent(norm, (4, 6, 3), "relu", "softmax", dropout=0.5)
    net.trainer.rng = np.random.default_rng(random.randint(2**31 - 1))
    settings = {"epochs": 3, "batch_size": 20, "shuffle": False, "verbose": False}
    net.train(X, CLASSES, optimizer=cnet.Adam(epsilon_hat=True), **settings)
    np.testing.assert_allclose(values(model)[0], values(net)[0], rtol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_state_makes_results_reproducible(norm, dtype):
    def fitted(seed):
        model = MLPClassifier((6,), dropout=0.2, max_iter=4, batch_size=17, random_state=seed)
        return model.set_params(**{norm: True}).fit(X.astype(dtype), CLASSES)

    assert_same(fitted(1), fitted(1))
    assert not np.array_equal(values(fitted(1))[0], values(fitted(2))[0])
    assert fitted(1).predict_proba(X.astype(dtype)).dtype == dtype


# The size of a batch


def test_a_last_batch_of_a_single_row_uses_the_running_statistics():
    # With this rate the weights do not change, so that only the statistics do.
    model = MLPRegressor(hidden_layer_sizes=(3,), batch_size=10, shuffle=False, max_iter=2)
    model.set_params(learning_rate_init=1e-200, random_state=0, batch_norm=True)
    model.fit(X[:21], Y[:21])
    z = X[:21] @ model.coefs_[0] + model.intercepts_[0]
    mean, variance = np.zeros(3), np.ones(3)
    for rows in 2 * [slice(10), slice(10, 20)]:
        mean = 0.9 * mean + 0.1 * z[rows].mean(0)
        variance = 0.9 * variance + 0.1 * z[rows].var(0, ddof=1)
    norm = model.network_.layers[1]
    np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(norm.running_variance, variance, rtol=1e-12)


@pytest.mark.parametrize("fit", ["fit", "partial_fit"])
def test_batch_norm_requires_batches_of_two(fit):
    model = MLPRegressor(hidden_layer_sizes=(3,), batch_size=1, batch_norm=True)
    with pytest.raises(ValueError, match=r"batch_size must be at least 2 with batch_norm.*got 1"):
        getattr(model, fit)(X, Y)
    assert not hasattr(model, "network_")
    model.set_params(batch_norm=False, layer_norm=True, max_iter=1)
    getattr(model, fit)(X, Y)
    # No statistics of batches.
    MLPRegressor(hidden_layer_sizes=(), batch_size=1, batch_norm=True, max_iter=1).fit(X, Y)


def test_partial_fit_of_a_single_row_uses_the_running_statistics():
    model = MLPRegressor(hidden_layer_sizes=(3,), batch_norm=True, random_state=0)
    model.partial_fit(X, Y)
    parameters, buffers = values(model)
    model.partial_fit(X[:1], Y[:1])
    np.testing.assert_array_equal(model.network_.buffers, buffers)
    assert (model.network_.layers[1].biases != parameters[15:18]).any()


# Prediction


@pytest.mark.parametrize("norm", NORMS)
def test_predictions_do_not_depend_on_the_other_rows(norm):
    model = MLPClassifier((6,), max_iter=20, random_state=0, **{norm: True}).fit(X, CLASSES)
    z = X @ model.coefs_[0] + model.intercepts_[0]
    layer = model.network_.layers[1]
    if norm == "batch_norm":
        z = (z - layer.running_mean) / np.sqrt(layer.running_variance + 1e-5)
    else:
        z = normalized(z, 1)
    hidden = np.maximum(z * layer.weights + layer.biases, 0)
    logits = hidden @ model.coefs_[1] + model.intercepts_[1]
    expected = np.exp(logits - logits.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-10)
    for i in (0, 7):
        np.testing.assert_array_equal(
            model.predict_proba(X[i : i + 1])[0], model.predict_proba(X)[i]
        )
        np.testing.assert_array_equal(model.network_.predict(X[i]), model.predict_proba(X)[i])


@pytest.mark.parametrize("as_matrix", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("norm", NORMS)
def test_log_probabilities_are_exact_where_probabilities_underflow(norm, as_matrix):
    model = MLPClassifier((6,), max_iter=20, random_state=0, **{norm: True}).fit(X, CLASSES)
    model.coefs_[1] *= 1e4
    found = model.predict_log_proba(as_matrix(X))
    assert (model.predict_proba(X) == 0).any()
    hidden = model.network_.activations(X)[1]
    logits = hidden @ model.coefs_[1] + model.intercepts_[1]
    expected = logits - logits.max(1, keepdims=True)
    expected -= np.log(np.exp(expected).sum(1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_sparse_rows_predict_as_dense_ones(norm):
    model = MLPClassifier((6, 5), max_iter=20, random_state=0, **{norm: True}).fit(X, CLASSES)
    found = model.predict_proba(scipy.sparse.csr_matrix(X))
    np.testing.assert_allclose(found, model.predict_proba(X), rtol=1e-9)


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_sparse_rows_in_parts_train_as_dense_ones(monkeypatch, norm, early):
    """The statistics are those of each batch, not of the part that is dense at a time."""
    model = MLPClassifier((6,), batch_size=7, max_iter=4, early_stopping=early, random_state=0)
    model.set_params(**{norm: True}).fit(X, CLASSES)
    monkeypatch.setattr(_rows, "DENSE_BYTES", 15 * 4 * 8)
    sparse = clone(model).fit(scipy.sparse.csr_matrix(X), CLASSES)
    for found, expected in zip(values(sparse), values(model), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


# Early stopping


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_the_best_weights_include_the_running_statistics(norm, given):
    capture = Capture()
    model = MLPClassifier(
        (6,), learning_rate_init=1.0, early_stopping=True, n_iter_no_change=5, random_state=0
    )
    model.set_params(callbacks=[capture], scoring="loss", **{norm: True})
    model.fit(X, CLASSES, **({"X_val": X[:9], "y_val": CLASSES[:9]} if given else {}))
    best = 1 + int(np.argmax(model.validation_scores_))
    assert best < model.n_iter_
    for found, expected in zip(values(model), capture.values[best], strict=True):
        np.testing.assert_array_equal(found, expected)
    if norm == "batch_norm":
        assert not np.array_equal(values(model)[1], capture.values[-1][1])
    if given:
        scores = np.log(model.predict_proba(X[:9])[range(9), CLASSES[:9]]).mean()
        assert model.best_validation_score_ == pytest.approx(scores)


# Continuing


@pytest.mark.parametrize("norm", NORMS)
def test_partial_fit_continues(norm):
    settings = {"batch_size": 20, "shuffle": False, "random_state": 0, "max_iter": 3, norm: True}
    model = MLPClassifier((6,), **settings)
    for _ in range(3):
        model.partial_fit(X, CLASSES, classes=[0, 1, 2])
    assert_same(model, MLPClassifier((6,), **settings).fit(X, CLASSES))


@pytest.mark.parametrize("norm", NORMS)
def test_a_warm_start_continues_with_all_values(norm):
    model = MLPRegressor(hidden_layer_sizes=(6,), max_iter=3, warm_start=True, random_state=0)
    model.set_params(**{norm: True}).fit(X, Y)
    network, before = model.network_, values(model)
    assert model.fit(X, Y).network_ is network
    for name, value in (("alpha", 1.0), ("activation", "tanh"), ("dropout", 0.1)):
        capture = Capture()
        before = values(model)
        model.set_params(callbacks=[capture], **{name: value}).fit(X, Y)
        assert model.network_ is not network
        for found, expected in zip(capture.values[0], before, strict=True):
            np.testing.assert_array_equal(found, expected)
        network = model.network_


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("before", [None, *NORMS])
@pytest.mark.parametrize("after", [None, *NORMS])
def test_normalization_cannot_change_at_a_warm_start(method, before, after):
    model = MLPRegressor(hidden_layer_sizes=(6,), max_iter=2, warm_start=True, random_state=0)
    model.set_params(**{norm: norm == before for norm in NORMS}).fit(X, Y)
    model.set_params(**{norm: norm == after for norm in NORMS})
    expected, network = values(model), model.network_
    if before == after:
        assert getattr(model, method)(X, Y).network_ is network
        return
    with pytest.raises(ValueError, match="batch_norm and layer_norm must be those of the present"):
        getattr(model, method)(X, Y)
    assert model.network_ is network
    np.testing.assert_array_equal(values(model)[0], expected[0])
    # Without a warm start there is a new network.
    model.set_params(warm_start=False).fit(X, Y)
    assert len(model.network_.layers) == (3 if after else 2)


@pytest.mark.parametrize("norm", NORMS)
def test_sizes_cannot_change_at_a_warm_start(norm):
    model = MLPRegressor(hidden_layer_sizes=(6,), max_iter=2, warm_start=True, **{norm: True})
    model.fit(X, Y).set_params(hidden_layer_sizes=(5,))
    with pytest.raises(ValueError, match=r"those of the present network, \(6, 1\), got \(5, 1\)"):
        model.fit(X, Y)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("fit", ["predict", "fit", "partial_fit"])
def test_weights_given_before_fit(norm, fit):
    arrays, _ = drawn((4, 6, 1), seed=5)
    capture = Capture()
    model = MLPRegressor(hidden_layer_sizes=(6,), warm_start=True, max_iter=1)
    model.set_params(callbacks=[capture], **{norm: True})
    model.coefs_, model.intercepts_ = map(list, zip(*arrays, strict=True))
    net, _ = equivalent(norm, (4, 6, 1), "relu", "linear")
    for layer, (weights, biases) in zip(net.layers[::2], arrays, strict=True):
        layer.weights, layer.biases = weights, biases
    if fit == "predict":
        model.n_features_in_ = 4
        np.testing.assert_array_equal(model.predict(X), net.predict(X)[:, 0])
        assert_same(model, net)
    else:
        getattr(model, fit)(X, Y)
        for found, expected in zip(capture.values[0], values(net), strict=True):
            np.testing.assert_array_equal(found, expected)


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("norm", [None, *NORMS])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_copy_trains_from_one_state_of_the_optimizer(solver, norm, how):
    """Training the network and `partial_fit` move the same averages, also after pickling."""
    model = MLPRegressor(hidden_layer_sizes=(6,), solver=solver, random_state=0, shuffle=False)
    if norm:
        model.set_params(**{norm: True})
    model.partial_fit(X, Y)
    state = dict(vars(model))
    twin = COPIES[how](model)
    assert vars(model) == state
    assert_same(model, twin)
    np.testing.assert_array_equal(model.predict(X), twin.predict(X))
    for each in (model, twin):
        # Also with a network that is built again, because of the other penalty.
        for alpha in (0.1, 0.2):
            each.network_.train(X, Y, epochs=2, batch_size=13, shuffle=False, verbose=False)
            each.set_params(alpha=alpha).partial_fit(X, Y)
        each.network_.train(X, Y, epochs=2, batch_size=13, shuffle=False, verbose=False)
    assert_same(model, twin)
    for each in (model, twin):
        each.set_params(warm_start=True, max_iter=2).fit(X, Y)
    assert_same(model, twin)


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_keeps_a_state_that_the_network_does_not_have(how):
    model = MLPRegressor(hidden_layer_sizes=(6,), random_state=0, shuffle=False).partial_fit(X, Y)
    model.network_.train(X, Y, optimizer="rmsprop", epochs=1, shuffle=False, verbose=False)
    twin = COPIES[how](model)
    assert_same(model.partial_fit(X, Y), twin.partial_fit(X, Y))


# L-BFGS


def test_lbfgs_refuses_batch_norm():
    model = MLPRegressor(hidden_layer_sizes=(6,), solver="lbfgs", batch_norm=True)
    with pytest.raises(
        ValueError, match=r"batch_norm must be False with solver 'lbfgs', .* got True"
    ):
        model.fit(X, Y)


class Objectives(list):
    """Keeps what SciPy minimises: the functions, and where they start."""

    def __init__(self, monkeypatch):
        super().__init__()
        minimize = scipy.optimize.minimize

        def noted(function, start, **options):
            self.append((function, start))
            return minimize(function, start, **options)

        monkeypatch.setattr(scipy.optimize, "minimize", noted)

    def check_gradient(self):
        """Compare the gradient at the start with differences of the loss; return the loss."""
        function, start = self[-1]
        loss, gradient = function(start)
        expected = [
            (function(start + step)[0] - function(start - step)[0]) / 2e-6
            for step in 1e-6 * np.eye(len(start))
        ]
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)
        return loss


@pytest.mark.parametrize("in_parts", [False, True])
def test_lbfgs_minimises_the_loss_with_layer_norm(monkeypatch, in_parts):
    objectives = Objectives(monkeypatch)
    x = X
    if in_parts:
        x = scipy.sparse.csr_matrix(X)
        monkeypatch.setattr(_rows, "DENSE_BYTES", 15 * 4 * 8)
    alpha = 0.5
    model = MLPRegressor(hidden_layer_sizes=(3,), activation="tanh", solver="lbfgs", alpha=alpha)
    model.set_params(layer_norm=True, random_state=0, max_iter=3000, tol=1e-6).fit(x, Y)

    def loss(p):
        w, b, g, h, v, c = np.split(p, np.cumsum([12, 3, 3, 3, 3]))
        out = np.tanh(normalized(X @ w.reshape(4, 3) + b, 1) * g + h) @ v + c
        return 0.5 * np.mean((out - Y) ** 2) + alpha / 60 / 2 * ((w**2).sum() + (v**2).sum())

    assert model.loss_ == pytest.approx(loss(values(model)[0]))
    assert model.loss_ < 0.5 * model.loss_curve_[0]
    start = objectives[0][1]
    np.testing.assert_array_equal(start[15:21], [1, 1, 1, 0, 0, 0])
    assert objectives.check_gradient() == pytest.approx(loss(start))


# Frozen layers, and rates of layers


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("frozen", [0, 1, 2])
@pytest.mark.parametrize("again", ["partial_fit", "fit"])
def test_frozen_layers_do_not_change(norm, frozen, again):
    model = MLPClassifier((6,), max_iter=3, warm_start=True, alpha=0.1, max_norm=1.0)
    model.set_params(random_state=0, **{norm: True}).fit(X, CLASSES)
    for setting in ({}, {"alpha": 0.2}):
        layers = model.network_.layers
        layers[frozen].trainable = False
        before = [{name: v.copy() for name, v in layer.values().items()} for layer in layers]
        # Other penalties make another network, whose layers are as frozen.
        getattr(model.set_params(**setting), again)(X, CLASSES)
        for i, (layer, was) in enumerate(zip(model.network_.layers, before, strict=True)):
            for name, array in layer.values().items():
                assert np.array_equal(array, was[name]) == (i == frozen), (i, name)
    model.network_.layers[frozen].trainable = True
    parameters = values(model)[0]
    getattr(model, again)(X, CLASSES)
    assert (model.network_.parameters != parameters).mean() > 0.9
    model.network_.layers[frozen].trainable = False
    model.set_params(warm_start=False).fit(X, CLASSES)
    assert all(layer.trainable for layer in model.network_.layers)


def test_rates_of_layers_apply_to_the_next_partial_fit():
    model = MLPRegressor(hidden_layer_sizes=(6,), solver="sgd", momentum=0, batch_size=60)
    model.set_params(batch_norm=True, random_state=0, alpha=0).partial_fit(X, Y)
    plain, before = copy.deepcopy(model), values(model)[0]
    plain.partial_fit(X, Y)
    first, norm, last = model.network_.layers
    first.learning_rate_factor = 0.5
    norm.learning_rate_factor, norm.bias_learning_rate_factor = 0, 4
    model.partial_fit(X, Y)
    factors = np.r_[np.full(30, 0.5), np.zeros(6), np.full(6, 4.0), np.ones(7)]
    steps, plain_steps = values(model)[0] - before, values(plain)[0] - before
    np.testing.assert_allclose(steps, factors * plain_steps, rtol=1e-9, atol=1e-15)
    assert last.learning_rate_factor == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_lbfgs_does_not_change_frozen_layers(monkeypatch, layer_norm, dtype):
    objectives = Objectives(monkeypatch)
    x = X.astype(dtype)
    model = MLPRegressor(hidden_layer_sizes=(6,), layer_norm=layer_norm, random_state=0, max_iter=5)
    model.set_params(warm_start=True, alpha=0.1).fit(x, Y)
    first, *_, last = model.network_.layers
    first.trainable = False
    last.bias_learning_rate_factor = 0
    before = [array.astype(np.float64) for array in (*model.coefs_, *model.intercepts_)]
    loss = model.set_params(solver="lbfgs", max_iter=200).fit(x, Y).loss_
    after = [*model.coefs_, *model.intercepts_]
    assert [np.array_equal(a, b) for a, b in zip(after, before, strict=True)] == [1, 0, 1, 1]
    assert not model.network_.layers[0].trainable
    assert model.network_.dtype == np.float64
    assert loss < min(model.loss_curve_[:5])
    assert len(objectives[-1][1]) == (18 if layer_norm else 6)
    objectives.check_gradient()


def test_lbfgs_with_every_layer_frozen_changes_nothing():
    model = MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs", warm_start=True, random_state=0)
    model.set_params(max_iter=3).fit(X, Y)
    for layer in model.network_.layers:
        layer.trainable = False
    before, loss = values(model), model.loss_
    model.fit(X, Y)
    np.testing.assert_array_equal(values(model)[0], before[0])
    assert model.n_iter_ == 0
    assert model.loss_ == pytest.approx(loss)


# Parameters


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_parameters(cls):
    assert cls().get_params()["batch_norm"] is False
    assert cls().get_params()["layer_norm"] is False
    model = cls(layer_norm=True)
    assert clone(model).get_params() == model.get_params()
    assert repr(model) == f"{cls.__name__}(layer_norm=True)"
    assert repr(cls(batch_norm=True)) == f"{cls.__name__}(batch_norm=True)"
    with pytest.raises(ValueError, match="batch_norm and layer_norm must not both be True"):
        cls(batch_norm=True, layer_norm=True).fit(X, CLASSES)
    for norm in NORMS:
        with pytest.raises(TypeError, match=f"{norm} must be True or False, got 1"):
            cls(**{norm: 1}).fit(X, CLASSES)


def estimators():
    return [
        cls(hidden_layer_sizes=(10,), learning_rate_init=0.02, max_iter=100, **{norm: True})
        for cls in (MLPClassifier, MLPRegressor)
        for norm in NORMS
    ]


def expected_failures(estimator):
    """Each row counts once in the statistics of a batch, whatever its weight."""
    if not estimator.batch_norm:
        return {}
    names = [f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse")]
    return dict.fromkeys(names, expected_failures.__doc__)


@parametrize_with_checks(estimators(), expected_failed_checks=expected_failures)
def test_estimator_checks(estimator, check):
    check(estimator)
