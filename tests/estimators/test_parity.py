"""Same weights, losses and predictions as scikit-learn's estimators with the same random_state."""

import numpy as np
import pytest
import scipy.sparse
from sklearn import neural_network as peer
from sklearn.datasets import (
    make_classification,
    make_multilabel_classification,
    make_regression,
)

from cnet import estimators

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # scikit-learn warns of overflows and divisions by 0.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


def data(kind):
    if kind == "binary":
        return make_classification(120, 6, random_state=0)
    if kind == "multiclass":
        return make_classification(
            120, 6, n_classes=4, n_informative=5, n_redundant=0, random_state=0
        )
    if kind == "multilabel":
        x, y = make_multilabel_classification(120, 6, n_classes=3, random_state=0)
        return x / 10, y
    if kind == "counts":
        x, _ = make_regression(120, 6, random_state=0)
        rng = np.random.RandomState(0)
        return x, rng.poisson(np.exp(x[:, 0] / 2))
    x, y = make_regression(120, 6, n_targets=3 if kind == "numbers" else 1, random_state=0)
    return x, y / y.std()


KINDS = {
    "binary": "MLPClassifier",
    "multiclass": "MLPClassifier",
    "multilabel": "MLPClassifier",
    "number": "MLPRegressor",
    "numbers": "MLPRegressor",
    "counts": "MLPRegressor",
}
SETTINGS = {
    "hidden_layer_sizes": (12, 7),
    "max_iter": 25,
    "batch_size": 32,
    "alpha": 0.1,
    "random_state": 3,
}


def both(kind, **settings):
    if kind == "counts":
        settings = {"loss": "poisson", **settings}
    settings = {**SETTINGS, **settings}
    return [getattr(module, KINDS[kind])(**settings) for module in (peer, estimators)]


def assert_same(theirs, ours, x, rtol=1e-9, atol=1e-11):
    """Check that all public results of both estimators are equal up to rounding."""

    def equal(actual, desired):
        np.testing.assert_allclose(actual, desired, rtol, atol)

    for name in ("coefs_", "intercepts_"):
        for own, other in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert own.dtype == other.dtype
            equal(own, other)
    for name in (
        "loss_",
        "loss_curve_",
        "validation_scores_",
        "best_validation_score_",
        "best_loss_",
    ):
        if hasattr(theirs, name):
            if getattr(theirs, name) is None:
                assert getattr(ours, name) is None
            else:
                equal(getattr(ours, name), getattr(theirs, name))
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    equal(ours.predict(x), theirs.predict(x))
    if hasattr(theirs, "predict_proba"):
        equal(ours.predict_proba(x), theirs.predict_proba(x))
        equal(ours.predict_log_proba(x), theirs.predict_log_proba(x))
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)


def assert_same_fit(kind, sample_weight=None, rtol=1e-9, atol=1e-11, **settings):
    x, y = data(kind)
    theirs, ours = both(kind, **settings)
    theirs.fit(x, y, sample_weight=sample_weight)
    ours.fit(x, y, sample_weight=sample_weight)
    assert_same(theirs, ours, x, rtol, atol)
    return theirs, ours


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_targets(kind, solver):
    assert_same_fit(kind, solver=solver)


# L-BFGS carries rounding from step to step. For several outputs see test_differences.py.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "numbers"])
def test_lbfgs(kind):
    assert_same_fit(kind, solver="lbfgs", rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", ["multiclass", "number"])
def test_activations(kind, activation):
    assert_same_fit(kind, activation=activation)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("momentum", [0, 0.5, 0.9])
@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
def test_schedules_of_the_learning_rate(schedule, momentum, nesterov):
    theirs, ours = assert_same_fit(
        "multiclass",
        solver="sgd",
        learning_rate=schedule,
        learning_rate_init=0.05,
        power_t=0.3,
        momentum=momentum,
        nesterovs_momentum=nesterov,
        n_iter_no_change=2,
        tol=1e-2,
        max_iter=80,
    )
    assert ours._optimizer.learning_rate == theirs._optimizer.learning_rate


def test_the_adaptive_learning_rate_ends():
    theirs, ours = assert_same_fit(
        "binary",
        solver="sgd",
        learning_rate="adaptive",
        learning_rate_init=0.1,
        n_iter_no_change=2,
        tol=1e-3,
        max_iter=500,
    )
    assert theirs.n_iter_ < 500
    assert ours._optimizer.learning_rate < 1e-6


def test_settings_of_adam():
    assert_same_fit("binary", beta_1=0.5, beta_2=0.9, epsilon=1e-3, learning_rate_init=0.01)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_early_stopping(kind, solver):
    theirs, _ = assert_same_fit(
        kind,
        solver=solver,
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=3,
        max_iter=60,
    )
    assert theirs.n_iter_ > 3


def test_early_stopping_with_sample_weight():
    weights = np.random.RandomState(0).uniform(0.1, 2, 120)
    for kind in ("binary", "multilabel", "numbers"):
        assert_same_fit(kind, weights, early_stopping=True, n_iter_no_change=3)


def test_training_ends_when_the_loss_does_not_fall():
    theirs, _ = assert_same_fit("multiclass", tol=1e-2, max_iter=300, n_iter_no_change=4)
    assert theirs.n_iter_ < 300


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "number", "counts"])
def test_sample_weight(kind, solver):
    weights = np.random.RandomState(0).uniform(0, 3, 120)
    weights[::7] = 0
    rough = {"rtol": 1e-6, "atol": 1e-8} if solver == "lbfgs" else {}
    assert_same_fit(kind, weights, solver=solver, **rough)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_without_shuffling(solver):
    assert_same_fit("multiclass", solver=solver, shuffle=False)
    weights = np.random.RandomState(0).uniform(0, 3, 120)
    assert_same_fit("counts", weights, solver=solver, shuffle=False)


def test_batch_sizes():
    for batch_size in ("auto", 1, 50, 120):
        assert_same_fit("number", batch_size=batch_size, max_iter=5)


def test_a_batch_larger_than_the_data():
    x, y = data("number")
    theirs, ours = both("number", batch_size=500)
    for estimator in (theirs, ours):
        with pytest.warns(UserWarning, match="batch_size"):
            estimator.fit(x, y)
    assert_same(theirs, ours, x)


def test_no_hidden_layer():
    assert_same_fit("multiclass", hidden_layer_sizes=())


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_float32(kind, solver):
    x, y = data(kind)
    x = x.astype(np.float32)
    theirs, ours = (estimator.fit(x, y) for estimator in both(kind, solver=solver))
    # Rounding errors add up over a dozen steps, with the 7 digits of float32.
    assert_same(theirs, ours, x, 2e-3, 2e-5)
    assert ours.network_.dtype == np.float32


def test_lbfgs_of_float32_ends_in_float64():
    x, y = data("multiclass")
    x = x.astype(np.float32)
    theirs, ours = (estimator.fit(x, y) for estimator in both("multiclass", solver="lbfgs"))
    # scikit-learn rounds its weights to float32 at each evaluation.
    assert_same(theirs, ours, x, 1e-3, 1e-4)
    assert ours.coefs_[0].dtype == np.float64


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("container", [scipy.sparse.csr_matrix, scipy.sparse.csc_array])
def test_sparse_inputs(container, solver):
    x, y = data("multiclass")
    x = np.where(np.abs(x) > 0.5, x, 0)
    theirs, ours = both("multiclass", solver=solver)
    theirs.fit(container(x), y)
    ours.fit(container(x), y)
    assert_same(theirs, ours, container(x), 1e-6 if solver == "lbfgs" else 1e-9, 1e-9)


@pytest.mark.parametrize("random_state", ["int", "RandomState"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit(kind, solver, random_state):
    x, y = data(kind)
    estimators_of_both = both(kind, solver=solver, learning_rate="invscaling", batch_size="auto")
    for estimator in estimators_of_both:
        if random_state == "RandomState":
            estimator.set_params(random_state=np.random.RandomState(5))
        known = (
            {}
            if KINDS[kind] == "MLPRegressor"
            else {"classes": np.arange(np.max([y.max() + 1, 2]))}
        )
        if kind == "multilabel":
            known = {"classes": np.arange(3)}
        estimator.partial_fit(x[:40], y[:40], **known)
        for _ in range(3):
            estimator.partial_fit(x[40:], y[40:])
        estimator.partial_fit(x[:7], y[:7], sample_weight=np.arange(7.0))
    assert_same(*estimators_of_both, x)


def test_partial_fit_after_fit():
    x, y = data("number")
    theirs, ours = both("number")
    for estimator in (theirs, ours):
        estimator.fit(x, y).partial_fit(x, y).partial_fit(x, y)
    assert_same(theirs, ours, x)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", ["multiclass", "number"])
def test_warm_start(kind, solver):
    x, y = data(kind)
    theirs, ours = both(kind, solver=solver, warm_start=True, learning_rate="invscaling")
    for estimator in (theirs, ours):
        estimator.fit(x, y)
        estimator.set_params(max_iter=10, alpha=0.01)
        estimator.fit(x, y)
    assert_same(theirs, ours, x, 1e-6 if solver == "lbfgs" else 1e-9, 1e-8)


def test_warm_start_continues_to_count_epochs_without_improvement():
    x, y = data("binary")
    theirs, ours = both("binary", warm_start=True, tol=10.0, max_iter=100)
    for estimator in (theirs, ours):
        estimator.fit(x, y)
        estimator.fit(x, y)
    assert theirs.n_iter_ == 1
    assert_same(theirs, ours, x)
    assert ours._no_improvement_count == theirs._no_improvement_count


def test_the_same_random_numbers_are_drawn():
    x, y = data("binary")
    states = []
    for estimator in both("binary", early_stopping=True):
        state = np.random.RandomState(0)
        estimator.set_params(random_state=state, max_iter=4).fit(x, y)
        states.append(state.random())
    assert states[0] == states[1]


def test_the_global_random_numbers_are_used_without_random_state():
    x, y = data("number")
    theirs, ours = both("number", random_state=None)
    for estimator in (theirs, ours):
        np.random.seed(4)
        estimator.fit(x, y)
    assert_same(theirs, ours, x)


@pytest.mark.parametrize("labels", [["no", "yes"], [-1.0, 2.0], [False, True], [7, 3]])
def test_labels_of_all_types(labels):
    x, y = data("binary")
    y = np.array(labels, dtype=object if isinstance(labels[0], str) else None)[y]
    theirs, ours = (estimator.fit(x, y) for estimator in both("binary"))
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
    assert ours.predict(x).dtype == theirs.predict(x).dtype
    assert ours.score(x, y) == theirs.score(x, y)


def test_a_sparse_indicator_of_labels():
    x, y = data("multilabel")
    theirs, ours = (e.fit(x, scipy.sparse.csr_matrix(y)) for e in both("multilabel"))
    assert scipy.sparse.issparse(ours.predict(x))
    np.testing.assert_array_equal(ours.predict(x).toarray(), theirs.predict(x).toarray())


def test_all_parameters_of_scikit_learn_with_its_defaults():
    for name in ("MLPClassifier", "MLPRegressor"):
        theirs = getattr(peer, name)().get_params()
        ours = getattr(estimators, name)().get_params()
        assert {key: ours[key] for key in theirs} == theirs


def test_positional_parameters_are_scikit_learns():
    assert estimators.MLPClassifier((3,), "tanh").get_params()["activation"] == "tanh"
    found = estimators.MLPRegressor("poisson", (3,), "tanh").get_params()
    assert (found["loss"], found["hidden_layer_sizes"], found["activation"]) == (
        "poisson",
        (3,),
        "tanh",
    )
