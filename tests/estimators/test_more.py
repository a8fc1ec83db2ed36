"""Features that scikit-learn's estimators do not have."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_digits, load_iris, make_classification, make_regression
from sklearn.metrics import log_loss, make_scorer, mean_absolute_error, roc_auc_score
from sklearn.utils.class_weight import compute_sample_weight

import cnet
from cnet.estimators import MLPClassifier, MLPRegressor
from cnet.estimators._coding import GroupedCrossEntropy

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(150, 5, n_informative=4, n_redundant=0, random_state=1)
X3, Y3 = load_iris(return_X_y=True)
XR, YR = make_regression(150, 5, noise=5, random_state=1)
YR = YR / YR.std()


def parameters_of(model):
    return np.concatenate([a.ravel() for a in (*model.coefs_, *model.intercepts_)])


def assert_equal_fits(model, other):
    np.testing.assert_array_equal(parameters_of(model), parameters_of(other))


# The network


def test_network_is_a_neural_network():
    model = MLPClassifier((7, 4), random_state=0, max_iter=20).fit(X3, Y3)
    assert isinstance(model.network_, cnet.NeuralNetwork)
    np.testing.assert_array_equal(model.network_.predict(X3), model.predict_proba(X3))
    hidden = np.maximum(X3 @ model.coefs_[0] + model.intercepts_[0], 0)
    np.testing.assert_allclose(model.network_.activations(X3)[0], hidden)
    np.testing.assert_array_equal(model.network_.predictor()(X3), model.predict_proba(X3))
    assert model.network_.evaluate(X3, Y3)["accuracy"] == model.score(X3, Y3)


def test_input_gradients():
    model = MLPRegressor(hidden_layer_sizes=(6,), activation="tanh", solver="lbfgs", random_state=0)
    model.fit(XR, YR)
    gradient = model.network_.input_gradient(XR, YR, reduction="sum")
    step = 1e-6
    for column in range(5):
        shifted = [XR.copy(), XR.copy()]
        shifted[0][:, column] -= step
        shifted[1][:, column] += step
        losses = [0.5 * (model.predict(x) - YR) ** 2 for x in shifted]
        np.testing.assert_allclose(
            gradient[:, column], (losses[1] - losses[0]) / (2 * step), rtol=1e-4, atol=1e-6
        )


def test_the_weights_are_views():
    model = MLPClassifier((7,), random_state=0, max_iter=2).fit(X3, Y3)
    assert np.shares_memory(model.coefs_[0], model.network_.parameters)
    assert np.shares_memory(model.intercepts_[1], model.network_.parameters)
    before = model.predict_proba(X3)
    model.coefs_[0][...] *= 2
    assert not np.array_equal(model.predict_proba(X3), before)


def test_weights_can_be_assigned():
    model, other = (MLPClassifier((7,), random_state=i, max_iter=2).fit(X3, Y3) for i in (0, 1))
    model.coefs_ = other.coefs_
    model.intercepts_[0] = other.intercepts_[0]
    model.intercepts_[1:] = other.intercepts_[1:]
    np.testing.assert_array_equal(model.predict_proba(X3), other.predict_proba(X3))
    assert np.shares_memory(model.coefs_[0], model.network_.parameters)
    other.coefs_[0] += 1
    assert not np.array_equal(model.coefs_[0], other.coefs_[0])


def test_weights_of_other_shapes_raise():
    model = MLPClassifier((7,), random_state=0, max_iter=2).fit(X3, Y3)
    before = parameters_of(model)
    with pytest.raises(
        ValueError, match=r"coefs_\[1\] must have shape \(7, 3\), got shape \(2, 2\)"
    ):
        model.coefs_ = [np.ones((4, 7)), np.ones((2, 2))]
    with pytest.raises(ValueError, match="coefs_ must have 2 arrays here, got 1"):
        model.coefs_ = [np.ones((4, 7))]
    with pytest.raises(TypeError, match="intercepts_ must be a list of arrays, got 3"):
        model.intercepts_ = 3
    np.testing.assert_array_equal(parameters_of(model), before)


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_a_model_of_given_weights_predicts_without_fit(kind):
    fitted = (
        MLPClassifier((7,), random_state=0, max_iter=5).fit(X3, Y3)
        if kind == "classifier"
        else MLPRegressor(hidden_layer_sizes=(7,), random_state=0, max_iter=5).fit(X3, Y3)
    )
    model = type(fitted)(hidden_layer_sizes=(7,))
    assert not hasattr(model, "coefs_")
    model.coefs_ = [coef.copy() for coef in fitted.coefs_]
    model.intercepts_ = [intercept.copy() for intercept in fitted.intercepts_]
    model.n_features_in_ = 4
    if kind == "classifier":
        model.classes_ = fitted.classes_
    np.testing.assert_array_equal(model.predict(X3), fitted.predict(X3))


# Layers


def test_an_activation_for_each_layer():
    model = MLPClassifier((5, 4, 3), ["gelu", "logistic", "leaky_relu"], random_state=0, max_iter=3)
    model.fit(X3, Y3)
    assert [layer.activation for layer in model.network_.layers] == [
        "gelu",
        "sigmoid",
        "leaky_relu",
        "softmax",
    ]
    # The same as one name for all, in initial weights and training.
    same = {"random_state": 0, "max_iter": 3}
    assert_equal_fits(
        MLPClassifier((5, 4), ["logistic", "logistic"], **same).fit(X3, Y3),
        MLPClassifier((5, 4), "logistic", **same).fit(X3, Y3),
    )


@pytest.mark.parametrize("activation", ["elu", "selu", "silu", "softplus", "softsign", "exp"])
def test_activations_of_cnet(activation):
    model = MLPRegressor(hidden_layer_sizes=(8,), activation=activation, random_state=0)
    model.set_params(solver="lbfgs", max_iter=300).fit(XR, YR)
    assert model.score(XR, YR) > 0.9
    network = model.network_
    network.parameters[...] += 0.1 * np.random.default_rng(0).normal(size=len(network.parameters))
    direction = np.random.default_rng(1).normal(size=len(network.parameters))
    start, gradient = network.parameters.copy(), network.loss_and_gradient(XR, YR)[1]
    losses = []
    for step in (-1e-6, 1e-6):
        network.parameters[...] = start + step * direction
        losses.append(network.loss_and_gradient(XR, YR)[0])
    assert (losses[1] - losses[0]) / 2e-6 == pytest.approx(gradient @ direction, rel=1e-4)


def test_dropout():
    settings = {"hidden_layer_sizes": (30, 20), "random_state": 0, "max_iter": 30}
    model = MLPClassifier(dropout=0.5, **settings).fit(X3, Y3)
    assert [layer.dropout for layer in model.network_.layers] == [0.5, 0.5, 0]
    np.testing.assert_array_equal(model.predict_proba(X3), model.predict_proba(X3))
    without = MLPClassifier(**settings).fit(X3, Y3)
    assert model.loss_curve_[0] != without.loss_curve_[0]
    assert_equal_fits(model, MLPClassifier(dropout=[0.5, 0.5], **settings).fit(X3, Y3))
    other = MLPClassifier(dropout=0.5, **{**settings, "random_state": 1}).fit(X3, Y3)
    assert not np.array_equal(model.loss_curve_, other.loss_curve_)
    per_layer = MLPClassifier(dropout=[0, 0.25], **settings).fit(X3, Y3)
    assert [layer.dropout for layer in per_layer.network_.layers] == [0, 0.25, 0]


def test_dropout_is_seeded_by_random_state():
    given = MLPRegressor(hidden_layer_sizes=(30,), max_iter=1, random_state=0).fit(XR, YR)
    losses = []
    for seed in (0, 0, 1):
        model = MLPRegressor(hidden_layer_sizes=(30,), warm_start=True, max_iter=1, dropout=0.5)
        model.coefs_, model.intercepts_ = list(given.coefs_), list(given.intercepts_)
        model.n_features_in_ = 5
        losses.append(model.set_params(random_state=seed, shuffle=False).fit(XR, YR).loss_)
    assert losses[0] == losses[1] != losses[2]


def test_each_partial_fit_has_different_dropout():
    model = MLPRegressor(hidden_layer_sizes=(30,), solver="sgd", dropout=0.5, random_state=0)
    model.set_params(learning_rate_init=1e-300)
    for _ in range(3):
        model.partial_fit(XR, YR)
    assert len(set(model.loss_curve_)) == 3


def test_l1_makes_weights_small():
    settings = {"hidden_layer_sizes": (20,), "random_state": 0, "max_iter": 300, "tol": 0}
    with_l1 = MLPRegressor(l1=2.0, learning_rate_init=0.01, **settings).fit(XR, YR)
    without = MLPRegressor(learning_rate_init=0.01, **settings).fit(XR, YR)

    def share_of_small(model):
        return np.mean(np.abs(model.coefs_[0]) < 0.02)

    assert share_of_small(with_l1) > 0.3 > share_of_small(without)
    assert with_l1.score(XR, YR) > 0.8


def test_l1_is_divided_as_alpha_is():
    # One step of plain gradient descent, in which all terms except l1's are known.
    settings = {
        "hidden_layer_sizes": (4,),
        "solver": "sgd",
        "momentum": 0,
        "max_iter": 1,
        "random_state": 0,
        "learning_rate_init": 0.1,
        "alpha": 0,
    }
    start = MLPRegressor(**{**settings, "learning_rate_init": 1e-300}).fit(XR, YR)
    with_l1, without = (MLPRegressor(l1=l1, **settings).fit(XR, YR) for l1 in (3.0, 0.0))
    for first, one, other in zip(start.coefs_, with_l1.coefs_, without.coefs_, strict=True):
        np.testing.assert_allclose(other - one, 0.1 * 3.0 / 150 * np.sign(first), rtol=1e-6)


def test_max_norm():
    settings = {"hidden_layer_sizes": (9, 8), "random_state": 0, "max_iter": 50}
    model = MLPRegressor(max_norm=0.7, **settings).fit(XR, YR)
    for coef in model.coefs_[:-1]:
        assert np.linalg.norm(coef, axis=0).max() <= 0.7 + 1e-12
    free = MLPRegressor(**settings).fit(XR, YR)
    assert np.linalg.norm(free.coefs_[0], axis=0).max() > 0.7


# Optimizers and losses


def by_hand(model, x, y, loss, optimizer, rate):
    """Train with NeuralNetwork.train, from the initial weights of the model."""
    start = type(model)(**{**model.get_params(), "max_iter": 1, "solver": "sgd",
                           "learning_rate_init": 1e-300}).fit(x, y)  # fmt: skip
    layers = [
        cnet.Layer(layer.n_inputs, layer.n_neurons, layer.activation, l2=model.alpha / len(x))
        for layer in start.network_.layers
    ]
    network = cnet.NeuralNetwork(*layers, dtype="float64")
    network.parameters[...] = start.network_.parameters
    network.train(
        x,
        y,
        rate,
        epochs=model.max_iter,
        batch_size=None,
        optimizer=optimizer,
        loss=loss,
        shuffle=False,
        verbose=False,
    )
    return network


FULL_BATCH = {
    "hidden_layer_sizes": (6,),
    "random_state": 0,
    "max_iter": 20,
    "batch_size": 150,
    "shuffle": False,
    "alpha": 0.3,
    "tol": 0,
}


@pytest.mark.parametrize(
    ("solver", "optimizer", "rate"),
    [
        ("adamw", cnet.AdamW(), 1e-3),
        ("rmsprop", cnet.RMSprop(), 1e-3),
        ("adagrad", cnet.Adagrad(), 1e-3),
        ("rprop", cnet.Rprop(), 1e-3),
        (cnet.SGD(momentum=0.5), cnet.SGD(momentum=0.5), 1e-3),
        (cnet.Adam(0.03, clip_norm=0.1), cnet.Adam(clip_norm=0.1), 0.03),
        ("rmsprop(0.02)", cnet.RMSprop(), 0.02),
    ],
    ids=str,
)
def test_optimizers_of_cnet(solver, optimizer, rate):
    model = MLPRegressor(solver=solver, **FULL_BATCH).fit(XR, YR)
    network = by_hand(model, XR, YR, "squared_error", optimizer, rate)
    np.testing.assert_allclose(model.network_.parameters, network.parameters, rtol=1e-12)


@pytest.mark.parametrize("schedule", ["invscaling", "adaptive"])
def test_schedules_with_an_optimizer_of_cnet(schedule):
    model = MLPRegressor(solver="rmsprop", learning_rate=schedule, tol=10, n_iter_no_change=2)
    model.set_params(max_iter=12, random_state=0).fit(XR, YR)
    rates = {"invscaling": 1e-3 / (model.t_ + 1) ** 0.5, "adaptive": 1e-3 / 5**3}
    assert model._optimizer.learning_rate == pytest.approx(rates[schedule])


@pytest.mark.parametrize(
    ("loss", "same"),
    [
        ("absolute_error", cnet.AbsoluteError()),
        ("huber(0.3)", cnet.Huber(0.3)),
        (cnet.Quantile(0.8), "quantile(0.8)"),
    ],
    ids=str,
)
def test_losses_of_cnet(loss, same):
    model = MLPRegressor(loss=loss, solver=cnet.SGD(0.01), **FULL_BATCH).fit(XR, YR)
    network = by_hand(model, XR, YR, same, cnet.SGD(), 0.01)
    np.testing.assert_allclose(model.network_.parameters, network.parameters, rtol=1e-12)
    assert model.loss_curve_ == pytest.approx(network.history["loss"])


def test_quantiles_make_intervals():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (2000, 1))
    y = x[:, 0] + (1 + np.abs(x[:, 0])) * rng.normal(size=2000)
    settings = {"hidden_layer_sizes": (20,), "learning_rate_init": 0.01, "random_state": 0}
    low, high = (
        MLPRegressor(loss=f"quantile({q})", max_iter=60, **settings).fit(x, y) for q in (0.1, 0.9)
    )
    assert np.mean(y < low.predict(x)) == pytest.approx(0.1, abs=0.02)
    assert np.mean(y < high.predict(x)) == pytest.approx(0.9, abs=0.02)


def test_shares_by_binary_cross_entropy():
    shares = 1 / (1 + np.exp(-XR[:, 0]))
    model = MLPRegressor("binary_cross_entropy", (8,), solver="lbfgs", random_state=0)
    model.fit(XR, shares)
    assert model.out_activation_ == "logistic"
    np.testing.assert_allclose(model.predict(XR), shares, atol=0.05)


def test_a_classifier_by_another_loss():
    model = MLPClassifier((8,), loss="squared_error", solver="lbfgs", random_state=0).fit(X3, Y3)
    assert model.score(X3, Y3) > 0.95
    rows = np.eye(3)[Y3]
    penalty = 0.5 * model.alpha * sum((coef**2).sum() for coef in model.coefs_) / 150
    expected = 0.5 * ((model.predict_proba(X3) - rows) ** 2).sum(axis=1).mean() + penalty
    assert model.loss_ == pytest.approx(expected)


def half_squared_error(y_true, y_pred):
    difference = y_pred - y_true
    return 0.5 * (difference**2).sum(axis=1).mean(), difference / len(y_true)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_function_as_loss(solver):
    # The penalty has a larger weight in the last batch, which is smaller.
    settings = {"hidden_layer_sizes": (8,), "random_state": 0, "batch_size": 40, "solver": solver}
    settings["alpha"] = 1.0
    model = MLPRegressor(half_squared_error, max_iter=20, **settings).fit(XR, YR)
    same = MLPRegressor("squared_error", max_iter=20, **settings).fit(XR, YR)
    np.testing.assert_allclose(parameters_of(model), parameters_of(same), rtol=1e-6, atol=1e-8)
    assert model.loss_curve_ == pytest.approx(same.loss_curve_)


def test_a_function_as_loss_by_parts_of_different_sizes():
    model = MLPRegressor(half_squared_error, (8,), dropout=0.5, random_state=0)
    network = model.partial_fit(XR, YR).network_
    assert model.partial_fit(XR[:40], YR[:40]).network_ is network


# Weights of classes


def test_class_weight():
    weights = {0: 1.0, 1: 5.0}
    settings = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 20}
    model = MLPClassifier(class_weight=weights, **settings).fit(X, Y)
    assert_equal_fits(model, MLPClassifier(**settings).fit(X, Y, sample_weight=1.0 + 4 * Y))
    twice = MLPClassifier(class_weight=weights, **settings).fit(X, Y, sample_weight=X[:, 0] ** 2)
    product = (1.0 + 4 * Y) * X[:, 0] ** 2
    assert_equal_fits(twice, MLPClassifier(**settings).fit(X, Y, sample_weight=product))
    part = MLPClassifier(class_weight=weights, **settings).partial_fit(X, Y, classes=[0, 1])
    other = MLPClassifier(**settings).partial_fit(X, Y, 1.0 + 4 * Y, classes=[0, 1])
    assert_equal_fits(part, other)


def test_class_weight_where_rows_of_a_class_are_missing():
    model, other = (
        MLPClassifier((5,), random_state=0, class_weight=w) for w in ({2: 5.0}, {0: 1, 1: 1, 2: 5})
    )
    for rows in (Y3 == 0, Y3 == 2):
        for one in (model, other):
            one.partial_fit(X3[rows], Y3[rows], classes=[0, 1, 2])
    assert_equal_fits(model, other)


def test_balanced_class_weight():
    chosen = np.r_[0:60, 100:110]
    x, y = X3[chosen], np.array(["a", "b", "c"])[Y3[chosen]]
    settings = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 20}
    weights = compute_sample_weight("balanced", y)
    assert_equal_fits(
        MLPClassifier(class_weight="balanced", **settings).fit(x, y),
        MLPClassifier(**settings).fit(x, y, sample_weight=weights),
    )
    with pytest.raises(ValueError, match="class_weight must be a dict for partial_fit"):
        MLPClassifier(class_weight="balanced").partial_fit(x, y, classes=["a", "b", "c"])


# Validation


def test_validation_data():
    model = MLPClassifier((8,), random_state=0, max_iter=15)
    model.fit(X[:100], Y[:100], X_val=X[100:], y_val=Y[100:])
    assert len(model.validation_scores_) == 15
    assert model.validation_scores_[-1] == model.score(X[100:], Y[100:])
    assert model.best_validation_score_ == max(model.validation_scores_)
    # Rows that are only used for scores do not change the training.
    assert_equal_fits(model, MLPClassifier((8,), random_state=0, max_iter=15).fit(X[:100], Y[:100]))


def test_early_stopping_on_validation_data_returns_to_the_best():
    noise = np.random.default_rng(0).integers(0, 2, 100)
    model = MLPClassifier((50,), early_stopping=True, learning_rate_init=0.02, random_state=0)
    model.fit(X[:100], noise, X_val=X[100:], y_val=Y[100:])
    scores = model.validation_scores_
    assert scores[-1] < max(scores)
    assert model.score(X[100:], Y[100:]) == max(scores)
    assert model.t_ == 100 * model.n_iter_
    assert len(scores) == model.n_iter_ < 200


def test_weights_of_validation_rows():
    weights = np.arange(50.0)
    model = MLPClassifier((8,), random_state=0, max_iter=3)
    model.fit(X[:100], Y[:100], X_val=X[100:], y_val=Y[100:], sample_weight_val=weights)
    assert model.validation_scores_[-1] == pytest.approx(model.score(X[100:], Y[100:], weights))


def shifted_auc(estimator, x, y):
    return roc_auc_score(y, estimator.predict_proba(x)[:, 1]) - 1


@pytest.mark.parametrize(
    ("scoring", "expected"),
    [
        ("roc_auc", lambda m, x, y: roc_auc_score(y, m.predict_proba(x)[:, 1])),
        ("neg_log_loss", lambda m, x, y: -log_loss(y, m.predict_proba(x))),
        ("loss", lambda m, x, y: -log_loss(y, m.predict_proba(x))),
        ("auc", lambda m, x, y: roc_auc_score(y, m.predict_proba(x)[:, 1])),
        ("log_loss", lambda m, x, y: -log_loss(y, m.predict_proba(x))),
        (shifted_auc, shifted_auc),
        (make_scorer(mean_absolute_error), lambda m, x, y: mean_absolute_error(y, m.predict(x))),
    ],
    ids=str,
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_scoring(scoring, expected, solver):
    model = MLPClassifier((8,), solver=solver, scoring=scoring, random_state=0, max_iter=6)
    model.fit(X[:100], Y[:100], X_val=X[100:], y_val=Y[100:])
    assert len(model.validation_scores_) == 6
    assert model.validation_scores_[-1] == pytest.approx(expected(model, X[100:], Y[100:]))


def test_a_function_as_scoring_need_not_take_weights():
    weights = np.linspace(0, 1, 150)
    seen = []

    def score(estimator, x, y, sample_weight=None):
        seen.append(sample_weight)
        return 1.0

    for scoring in (lambda estimator, x, y: score(estimator, x, y), score):
        model = MLPClassifier((4,), scoring=scoring, max_iter=1)
        model.fit(X, Y, X_val=X, y_val=Y, sample_weight_val=weights)
    assert seen[0] is None
    np.testing.assert_array_equal(seen[1], weights)


def test_a_scorer_is_not_warned_of_missing_feature_names():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcde"))
    model = MLPClassifier((8,), early_stopping=True, scoring="neg_log_loss", max_iter=3)
    model.fit(frame, Y)
    assert len(model.validation_scores_) == 3
    assert list(model.feature_names_in_) == list("abcde")


def test_scores_of_a_regressor():
    model = MLPRegressor(hidden_layer_sizes=(8,), early_stopping=True, random_state=0, max_iter=5)
    model.fit(XR, YR, X_val=XR[100:], y_val=YR[100:])
    model.set_params(early_stopping=False).fit(XR, YR, X_val=XR[100:], y_val=YR[100:])
    assert model.validation_scores_[-1] == pytest.approx(model.score(XR[100:], YR[100:]))


# Callbacks


class Recorder(cnet.Callback):
    def __init__(self):
        self.calls = []

    def __deepcopy__(self, memo):
        return self

    def on_train_begin(self, network):
        self.calls.append("begin")

    def on_epoch_end(self, network, epoch, logs):
        self.calls.append((network, epoch, logs))
        return epoch == 3

    def on_train_end(self, network, history):
        self.calls.append(history)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_callbacks(solver):
    recorder = Recorder()
    model = MLPRegressor(hidden_layer_sizes=(8,), solver=solver, random_state=0)
    model.set_params(callbacks=[recorder]).fit(XR, YR, X_val=XR, y_val=YR)
    assert model.n_iter_ == 4
    begin, *epochs, history = recorder.calls
    assert begin == "begin"
    assert all(network is model.network_ for network, _, _ in epochs)
    assert [epoch for _, epoch, _ in epochs] == [0, 1, 2, 3]
    assert history is model.network_.history
    assert history["loss"] == pytest.approx(model.loss_curve_)
    assert [logs["validation_score"] for _, _, logs in epochs] == model.validation_scores_


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_can_monitor_recorded_values(solver):
    model = MLPClassifier((4,), solver=solver, max_iter=30, random_state=0)
    for monitor in ("validation_score", "val_loss"):
        model.set_params(callbacks=cnet.EarlyStopping(monitor))
        with pytest.raises(ValueError, match=f"that is recorded, loss, got '{monitor}'"):
            model.fit(X, Y)
        assert not hasattr(model, "coefs_")
    stopping = cnet.EarlyStopping("validation_score", patience=0, mode="max")
    model.set_params(callbacks=stopping, tol=0.0, scoring=lambda *_: 1.0)
    assert model.fit(X, Y, X_val=X, y_val=Y).n_iter_ == 2
    assert (stopping.best, stopping.best_epoch) == (1.0, 0)


@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
def test_the_learning_rate_is_recorded(schedule):
    rates = []

    def see(network, epoch, logs):
        rates.append(logs.get("learning_rate"))

    model = MLPRegressor(hidden_layer_sizes=(8,), solver="sgd", learning_rate=schedule)
    model.set_params(callbacks=see, tol=10.0, n_iter_no_change=2, max_iter=8, random_state=0)
    history = model.fit(XR, YR).network_.history
    if schedule == "constant":
        assert set(rates) == {None}
        assert list(history) == ["loss"]
        return
    expected = {
        "invscaling": [1e-3 / (150 * epoch + 1) ** 0.5 for epoch in range(4)],
        "adaptive": [1e-3] * 4 + [1e-3 / 5] * 3 + [1e-3 / 5 / 5],
    }
    assert rates == history["learning_rate"] == pytest.approx(expected[schedule])


def test_a_function_as_callback():
    seen = []
    model = MLPClassifier((4,), max_iter=3, callbacks=lambda n, e, logs: seen.append(logs["loss"]))
    model.fit(X, Y)
    assert seen == pytest.approx(model.loss_curve_)


def test_verbose(capsys):
    settings = {"hidden_layer_sizes": (4,), "verbose": True, "random_state": 0, "max_iter": 30}
    model = MLPClassifier(solver="sgd", learning_rate="adaptive", tol=1, **settings)
    model.set_params(n_iter_no_change=2, early_stopping=True).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Iteration 1, loss = {model.loss_curve_[0]:.8f}"
    assert lines[1] == f"Validation score: {model.validation_scores_[0]:f}"
    slower = (
        "No better validation score, by tol=1, for more than 2 epochs: "
        "continuing with learning rate"
    )
    assert next(line for line in lines if line.startswith("No better")) == f"{slower} 0.0002."
    assert lines[-1].endswith("epochs: stopping.")
    model = MLPClassifier(solver="lbfgs", **settings).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == model.n_iter_
    assert lines[-1] == f"Iteration {model.n_iter_}, loss = {model.loss_:.8f}"


# Several columns of labels


def two_columns():
    x, y = load_digits(return_X_y=True)
    x, y = x[:300] / 16, y[:300]
    return x, np.column_stack([y % 3, np.where(y > 5, 10, y % 2)])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_several_columns_of_labels(solver):
    x, y = two_columns()
    model = MLPClassifier((40,), solver=solver, random_state=0, max_iter=80).fit(x, y)
    assert [list(classes) for classes in model.classes_] == [[0, 1, 2], [0, 1, 10]]
    assert model.score(x, y) > 0.9
    assert model.predict(x).shape == y.shape
    first, second = model.predict_proba(x)
    np.testing.assert_allclose(first.sum(axis=1), 1)
    np.testing.assert_array_equal(model.classes_[1][second.argmax(axis=1)], model.predict(x)[:, 1])
    for logarithms, part in zip(model.predict_log_proba(x), (first, second), strict=True):
        np.testing.assert_allclose(np.exp(logarithms), part)


def test_one_column_of_several_is_the_cross_entropy():
    x, y = X3, Y3
    weights = np.random.default_rng(0).uniform(0, 2, 150)
    loss = GroupedCrossEntropy([slice(0, 3)])
    network = cnet.NeuralNetwork(cnet.Layer(4, 3, "softmax"), dtype="float64", seed=0)
    logits = cnet.NeuralNetwork(cnet.Layer(4, 3, "linear"), dtype="float64")
    logits.parameters[...] = network.parameters
    expected = network.loss_and_gradient(x, y, sample_weight=weights, reduction="weighted_mean")
    found = logits.loss_and_gradient(x, np.eye(3)[y] * weights[:, np.newaxis], loss=loss)
    assert found[0] == pytest.approx(expected[0])
    np.testing.assert_allclose(found[1], expected[1])


def test_weights_of_rows_of_several_columns():
    x, y = two_columns()
    weights = np.tile([0, 1, 2], 100)
    settings = {"hidden_layer_sizes": (9,), "random_state": 0, "max_iter": 10, "batch_size": 300}
    settings |= {"alpha": 0, "shuffle": False}
    weighted = MLPClassifier(**settings).fit(x, y, sample_weight=weights)
    repeated = MLPClassifier(**settings).fit(np.repeat(x, weights, 0), np.repeat(y, weights, 0))
    np.testing.assert_allclose(parameters_of(weighted), parameters_of(repeated), rtol=1e-9)
    assert weighted.score(x, y, weights) == pytest.approx(
        repeated.score(np.repeat(x, weights, 0), np.repeat(y, weights, 0))
    )


def test_several_columns_of_text_in_parts():
    x, y = two_columns()
    y = np.array(["zero", "one", "two"], object)[y % 3]
    model = MLPClassifier((20,), random_state=0)
    model.partial_fit(x[:50], y[:50], classes=[["zero", "one", "two"]] * 2)
    for _ in range(30):
        model.partial_fit(x, y)
    assert model.score(x, y) > 0.5
    assert set(model.predict(x).ravel()) <= {"zero", "one", "two"}
    with pytest.raises(ValueError, match="three"):
        model.partial_fit(x[:1], [["one", "three"]])


def test_sparse_targets_of_a_regression():
    targets = np.column_stack([YR > 0, YR])
    model, other = (MLPRegressor(hidden_layer_sizes=(5,), random_state=0) for _ in range(2))
    assert_equal_fits(model.fit(XR, targets), other.fit(XR, scipy.sparse.csr_matrix(targets)))


# Sparse inputs that are too large to be dense


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1e-2, "n_iter_no_change": 2},
        {"solver": "lbfgs"},
        {"shuffle": False},
        {"early_stopping": True, "scoring": "loss"},
        {"dropout": 0.3},
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_rows_in_parts(monkeypatch, settings, weighted):
    x = np.where(X3 > 2, X3, 0)
    weights = np.arange(150.0) if weighted else None
    model = MLPClassifier((6,), random_state=0, max_iter=12, batch_size=16, alpha=0.5, **settings)
    model.fit(x, Y3, weights)
    dense = parameters_of(model).copy()
    # Some 40 rows at a time.
    monkeypatch.setattr("cnet.estimators._rows.DENSE_BYTES", 40 * 4 * 8)
    part = MLPClassifier(**model.get_params()).fit(scipy.sparse.csr_matrix(x), Y3, weights)
    np.testing.assert_allclose(parameters_of(part), dense, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(part.loss_curve_, model.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(
        part.predict_proba(scipy.sparse.csr_matrix(x)), model.predict_proba(x), rtol=1e-6, atol=1e-9
    )


def test_sparse_rows_in_parts_of_which_some_are_held_out(monkeypatch):
    x = np.where(X3 > 2, X3, 0)
    model = MLPClassifier((6,), random_state=0, max_iter=5, batch_size=16, early_stopping=True)
    # Enough rows for several parts.
    model.set_params(validation_fraction=0.5).fit(x, Y3)
    dense = parameters_of(model).copy()
    monkeypatch.setattr("cnet.estimators._rows.DENSE_BYTES", 20 * 4 * 8)
    model.fit(scipy.sparse.csr_matrix(x), Y3)
    np.testing.assert_allclose(parameters_of(model), dense, rtol=1e-7, atol=1e-9)


def test_batches_of_sparse_rows_are_numbered_across_parts(monkeypatch):
    monkeypatch.setattr("cnet.estimators._rows.DENSE_BYTES", 40 * 4 * 8)
    begun, ended = [], []
    callback = cnet.Callback()
    callback.on_batch_begin = lambda network, batch: begun.append(batch)
    callback.on_batch_end = lambda network, batch, logs: ended.append(batch)
    MLPClassifier((6,), batch_size=16, max_iter=2, callbacks=callback).fit(
        scipy.sparse.csr_matrix(X3), Y3
    )
    assert begun == ended == [*range(10), *range(10)]


def test_an_interrupt_while_sparse_rows_are_made_dense(monkeypatch):
    x = scipy.sparse.csr_matrix(np.where(X3 > 2, X3, 0))
    monkeypatch.setattr("cnet.estimators._rows.DENSE_BYTES", 40 * 4 * 8)
    model, expected = (
        MLPClassifier((6,), random_state=0, max_iter=n, batch_size=16).set_params(tol=0.0)
        for n in (5, 1)
    )
    expected.fit(x, Y3)
    calls = []

    def interrupted(rows):
        calls.append(1)
        if len(calls) == 8:  # of five parts each epoch
            raise KeyboardInterrupt
        return rows.toarray()

    monkeypatch.setattr("cnet.estimators._rows.dense", interrupted)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(x, Y3)
    assert_equal_fits(model, expected)
    assert model.n_iter_ == 1


def test_sparse_rows_in_parts_that_diverge(monkeypatch):
    monkeypatch.setattr("cnet.estimators._rows.DENSE_BYTES", 40 * 5 * 8)
    x = scipy.sparse.csr_matrix(np.where(XR > 0, XR, 0))
    model = MLPRegressor(hidden_layer_sizes=(6,), activation="identity", solver="sgd")
    model.set_params(random_state=0, batch_size=10, max_iter=100)
    start = model.set_params(learning_rate_init=1e-300, max_iter=1).fit(x, YR)
    before = parameters_of(start).copy()
    model.set_params(learning_rate_init=1e3, warm_start=True)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        model.fit(x, YR)
    np.testing.assert_array_equal(parameters_of(model), before)
