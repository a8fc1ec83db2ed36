"""Differences from scikit-learn's estimators, as listed in docs/scikit-learn.md."""

import warnings

import numpy as np
import pytest
from sklearn import neural_network as peer
from sklearn.datasets import load_iris, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import LabelBinarizer

import cnet
from cnet.estimators import MLPClassifier, MLPRegressor

X, Y = load_iris(return_X_y=True)


def parameters_of(model):
    return np.concatenate([a.ravel() for a in (*model.coefs_, *model.intercepts_)])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_lbfgs_with_several_outputs_has_a_gradient_that_matches_its_loss():
    # scikit-learn's value is the mean over the outputs, but its gradient belongs to their sum.
    found = []
    for seed in range(3):
        x, y = make_regression(100, 6, n_targets=5, random_state=seed)
        y = np.tanh(y / y.std())
        losses = []
        for cls in (peer.MLPRegressor, MLPRegressor):
            model = cls(hidden_layer_sizes=(8,), solver="lbfgs", alpha=1, random_state=seed)
            model.set_params(max_iter=1000).fit(x, y)
            penalty = 0.5 * sum((coef**2).sum() for coef in model.coefs_) / 100
            losses.append(0.5 * ((model.predict(x) - y) ** 2).sum(axis=1).mean() + penalty)
        mean = 0.5 * ((model.predict(x) - y) ** 2).mean() + penalty
        assert model.loss_ == pytest.approx(mean)
        assert model.loss_curve_[-1] == pytest.approx(mean)
        found.append(losses)
    assert all(ours < theirs for theirs, ours in found)


def test_divergence_ends_the_training_with_the_last_finite_weights():
    x, y = make_regression(100, 3, random_state=0)
    model = MLPRegressor(hidden_layer_sizes=(5,), activation="identity", solver="sgd")
    model.set_params(learning_rate_init=1.0, random_state=0)
    with pytest.raises(ValueError, match="non-finite parameter weights") as caught:
        model.fit(x, y)
    assert isinstance(caught.value.__cause__, cnet.DivergenceError)
    assert np.isfinite(parameters_of(model)).all()


def test_divergence_with_early_stopping_restores_the_best_weights():
    x, y = make_regression(100, 3, random_state=0)
    model = MLPRegressor(hidden_layer_sizes=(5,), activation="identity", solver="sgd")
    model.set_params(learning_rate_init=1.0, random_state=0, early_stopping=True)
    with pytest.warns(ConvergenceWarning, match="diverged in epoch"):
        model.fit(x, y)
    assert np.isnan(model.validation_scores_[-1])
    assert len(model.validation_scores_) == model.n_iter_ + 1 < 200
    assert np.isfinite(parameters_of(model)).all()


def test_an_interrupt_leaves_the_weights_of_the_last_epoch():
    def interrupt(network, epoch, logs):
        if epoch == 4:
            raise KeyboardInterrupt

    model = MLPClassifier((5,), random_state=0, callbacks=interrupt)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(X, Y)
    with pytest.warns(ConvergenceWarning, match="max_iter=5"):
        same = MLPClassifier((5,), random_state=0, max_iter=5).fit(X, Y)
    np.testing.assert_array_equal(parameters_of(model), parameters_of(same))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_interrupt_of_lbfgs_leaves_the_weights_of_the_last_iteration():
    evaluations, reached = [], []

    def loss(y_true, y_pred):
        evaluations.append(1)
        # The interrupt comes at weights that a line search tries.
        if len(evaluations) == 9:
            raise KeyboardInterrupt
        difference = y_pred - y_true
        return (difference**2).mean(), 2 * difference / difference.size

    def note(network, epoch, logs):
        reached.append(network.parameters.copy())

    model = MLPRegressor(loss, (5,), solver="lbfgs", random_state=0, callbacks=note)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y**3)
    assert 0 < model.n_iter_ == len(model.loss_curve_) == len(reached)
    np.testing.assert_array_equal(model.network_.parameters, reached[-1])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "y", [Y, Y == 1, np.eye(3, dtype=int)[Y]], ids=["several", "two", "labels"]
)
def test_log_probabilities_are_finite(y):
    model = MLPClassifier((5,), solver="lbfgs", random_state=0).fit(X, y)
    with np.errstate(divide="raise", invalid="raise"):
        found = model.predict_log_proba(X * 1e4)
    assert np.isfinite(found).all()
    assert found.min() < np.log(np.finfo(float).tiny)
    probabilities = model.predict_proba(X * 1e4)
    np.testing.assert_allclose(np.exp(found), probabilities, rtol=1e-9, atol=1e-300)


def test_the_loss_of_confident_mistakes_is_not_clipped():
    x = np.array([[1.0], [-1.0], [1.0]])
    y = np.array([1, 0, 0])
    losses = []
    for cls in (peer.MLPClassifier, MLPClassifier):
        model = cls((), solver="sgd", learning_rate_init=1e-300, max_iter=1, alpha=0)
        model.coefs_, model.intercepts_ = [np.array([[100.0]])], [np.zeros(1)]
        model.set_params(random_state=0, warm_start=True)
        model.classes_, model.n_outputs_, model.n_layers_ = np.array([0, 1]), 1, 2
        model.n_features_in_, model.out_activation_, model.t_ = 1, "logistic", 0
        model.loss_curve_, model._no_improvement_count, model.best_loss_ = [], 0, np.inf
        if cls is peer.MLPClassifier:
            model.validation_scores_ = None
            model._label_binarizer = LabelBinarizer().fit(y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            losses.append(model.fit(x, y).loss_)
    theirs, ours = losses
    assert ours == pytest.approx(100 / 3)
    assert theirs == pytest.approx(-np.log(np.finfo(float).eps) / 3)


def test_partial_fit_with_warm_start_takes_some_of_the_classes():
    model = MLPClassifier((5,), warm_start=True, random_state=0)
    model.partial_fit(X, Y, classes=[0, 1, 2])
    model.partial_fit(X[:50], Y[:50])
    assert model.t_ == 200


def test_partial_fit_follows_a_changed_learning_rate():
    model = MLPRegressor(hidden_layer_sizes=(5,), solver="sgd", momentum=0, random_state=0, alpha=0)
    model.set_params(shuffle=False).partial_fit(X, Y)
    steps = []
    for rate in (1e-3, 1e-4):
        twin = MLPRegressor(**model.get_params())
        twin.partial_fit(X, Y).set_params(learning_rate_init=rate)
        before = parameters_of(twin).copy()
        steps.append(parameters_of(twin.partial_fit(X, Y)) - before)
    np.testing.assert_allclose(steps[0], 10 * steps[1], rtol=1e-6, atol=1e-12)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_parameters_changed_before_a_warm_start_take_effect():
    model = MLPClassifier((5,), random_state=0, max_iter=3, warm_start=True).fit(X, Y)
    before = parameters_of(model).copy()
    model.set_params(activation="tanh", dropout=0.5, learning_rate_init=1e-300).fit(X, Y)
    assert [layer.activation for layer in model.network_.layers] == ["tanh", "softmax"]
    assert model.network_.layers[0].dropout == 0.5
    np.testing.assert_array_equal(parameters_of(model), before)
    model.set_params(solver="lbfgs", dropout=0)
    assert model.fit(X.astype(np.float32), Y).network_.dtype == np.float64


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_early_stopping_keeps_the_best_weights_over_a_warm_start():
    # scikit-learn continues training in the arrays that hold the best weights.
    model = MLPClassifier((20,), early_stopping=True, warm_start=True, random_state=0)
    model.set_params(max_iter=60, learning_rate_init=0.01).fit(X, Y)
    best = parameters_of(model).copy()
    assert model.best_validation_score_ == 1
    model.set_params(max_iter=3).fit(X, Y)
    np.testing.assert_array_equal(parameters_of(model), best)


def test_a_single_class_has_probability_one():
    model = MLPClassifier((4,), random_state=0, max_iter=2)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, np.full(150, "only"))
    assert model.predict_proba(X).shape == (150, 1)
    assert (model.predict_proba(X) == 1).all()
    assert (model.predict_log_proba(X) == 0).all()
    assert set(model.predict(X)) == {"only"}


def test_predictions_are_in_the_dtype_of_the_network():
    with pytest.warns(ConvergenceWarning):
        model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=2).fit(X.astype(np.float32), Y)
    assert model.predict(X).dtype == np.float32


def test_a_batch_whose_rows_have_weight_zero_changes_nothing():
    weights = np.r_[np.ones(100), np.zeros(50)]
    settings = {"hidden_layer_sizes": (5,), "batch_size": 50, "shuffle": False, "random_state": 0}
    settings |= {"solver": "sgd", "momentum": 0, "alpha": 0, "max_iter": 5}
    with pytest.warns(ConvergenceWarning):
        model = MLPRegressor(**settings).fit(X, Y, weights)
    with pytest.warns(ConvergenceWarning):
        same = MLPRegressor(**settings).fit(X[:100], Y[:100])
    np.testing.assert_array_equal(parameters_of(model), parameters_of(same))
