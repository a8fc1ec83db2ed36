"""The estimators with scikit-learn's tools, and when copied, stored and called from threads."""

import copy
import pickle
import subprocess
import sys
import threading

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    validation_curve,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cnet
from cnet.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)


def small(**settings):
    return MLPClassifier((6,), random_state=0, **{"max_iter": 30, **settings})


def test_pipeline_with_feature_names():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    pipeline = make_pipeline(StandardScaler(), small(solver="lbfgs"))
    pipeline.set_output(transform="pandas").fit(frame, pd.Series(Y))
    assert list(pipeline[-1].feature_names_in_) == ["a", "b", "c", "d"]
    assert pipeline.score(frame, Y) > 0.95
    with pytest.raises(ValueError, match="feature names should match"):
        pipeline[-1].predict(frame.rename(columns={"a": "z"}))
    with pytest.warns(UserWarning, match="valid feature names"):
        pipeline[-1].predict(X)


def test_grid_search_in_threads():
    grid = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(4,), (8, 4)]}
    alone = GridSearchCV(small(), grid, cv=3).fit(X, Y)
    with joblib.parallel_backend("threading"):
        together = GridSearchCV(small(), grid, cv=3, n_jobs=2).fit(X, Y)
    assert together.best_params_ == alone.best_params_
    np.testing.assert_array_equal(
        together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )


def test_grid_search_in_processes():
    grid = {"solver": ["adam", "lbfgs", cnet.AdamW(0.01)]}
    alone = GridSearchCV(small(), grid, cv=2).fit(X, Y)
    together = GridSearchCV(small(), grid, cv=2, n_jobs=2).fit(X, Y)
    np.testing.assert_array_equal(
        together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )


def test_cross_validation():
    probabilities = cross_val_predict(small(), X, Y, method="predict_proba", cv=3)
    assert probabilities.shape == (150, 3)
    assert cross_val_score(small(solver="lbfgs"), X, Y, cv=3).min() > 0.9
    learning_curve(small(), X, Y, cv=2, train_sizes=[0.5, 1.0], exploit_incremental_learning=True)
    validation_curve(small(), X, Y, param_name="alpha", param_range=[0.1, 1], cv=2)


def test_calibration_inspection_and_ensembles():
    model = small(solver="lbfgs").fit(X, Y)
    importance = permutation_importance(model, X, Y, n_repeats=3, random_state=0)
    assert importance.importances_mean[2] > importance.importances_mean[0]
    assert partial_dependence(model, X, [2])["average"].shape[0] == 3
    calibrated = CalibratedClassifierCV(small(solver="lbfgs"), cv=3).fit(X, Y)
    assert calibrated.predict_proba(X).shape == (150, 3)
    assert BaggingClassifier(small(), n_estimators=2, random_state=0).fit(X, Y).score(X, Y) > 0.3
    assert VotingClassifier([("a", small()), ("b", small())], voting="soft").fit(X, Y)
    columns = np.column_stack([Y, Y == 1])
    assert MultiOutputClassifier(small()).fit(X, columns).predict(X).shape == (150, 2)
    regressor = TransformedTargetRegressor(MLPRegressor(max_iter=5), transformer=StandardScaler())
    assert regressor.fit(X, Y).predict(X).shape == (150,)


def test_clone_keeps_parameters_and_nothing_learnt():
    model = small(solver=cnet.SGD(0.1), dropout=[0.5], callbacks=[cnet.Callback()])
    twin = clone(model.fit(X, Y))
    assert twin.get_params().keys() == model.get_params().keys()
    assert twin.solver == cnet.SGD(0.1)
    assert not hasattr(twin, "coefs_")
    np.testing.assert_array_equal(twin.fit(X, Y).predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("way", ["pickle", "deepcopy", "joblib", "memory-mapped"])
def test_copies_predict_the_same_and_continue_training(way, tmp_path):
    model = small().fit(X, Y)
    if way == "pickle":
        twin = pickle.loads(pickle.dumps(model))
    elif way == "deepcopy":
        twin = copy.deepcopy(model)
    else:
        joblib.dump(model, tmp_path / "model")
        twin = joblib.load(tmp_path / "model", mmap_mode="r" if way == "memory-mapped" else None)
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
    assert np.shares_memory(twin.coefs_[0], twin.network_.parameters)
    assert not np.shares_memory(twin.coefs_[0], model.network_.parameters)
    for one in (model, twin):
        one.partial_fit(X, Y).partial_fit(X, Y)
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
    assert twin.loss_curve_ == model.loss_curve_


def test_copies_of_the_weights_are_independent():
    model = small().fit(X, Y)
    coefs = copy.deepcopy(model.coefs_)
    assert type(coefs) is list
    coefs[0][...] = 0
    assert np.any(model.coefs_[0])
    assert type(pickle.loads(pickle.dumps(model.intercepts_))) is list


def test_estimators_train_side_by_side():
    settings = [("adam", 0), ("lbfgs", 1), ("sgd", 2)]
    alone = [
        MLPClassifier((6,), solver=solver, random_state=seed, max_iter=30).fit(X, Y)
        for solver, seed in settings
    ]
    together = [clone(model) for model in alone]
    threads = [threading.Thread(target=model.fit, args=(X, Y)) for model in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def test_metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        model = small().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(model, {"alpha": [0.1]}, cv=2)
        search.fit(X, Y, sample_weight=np.ones(150))
        assert search.best_estimator_.n_iter_ == 30


def test_repr_shows_changed_parameters():
    assert repr(MLPClassifier(alpha=0.5, dropout=0.2)) == "MLPClassifier(alpha=0.5, dropout=0.2)"
    assert "MLPRegressor" in MLPRegressor()._repr_html_()


def fresh(code):
    """Return the output of a new interpreter, or its error."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_without_scikit_learn_the_error_says_what_to_install():
    found = fresh("import sys; sys.modules['sklearn'] = None; import cnet.estimators")
    assert "ImportError: cnet.estimators requires scikit-learn: pip install" in found
    assert '"cnet[sklearn]"' in found


def test_only_the_estimators_import_scikit_learn():
    assert fresh("import cnet, sys; print('sklearn' in sys.modules, 'scipy' in sys.modules)") == (
        "False False\n"
    )
    assert fresh("import cnet.estimators, sys; print('sklearn' in sys.modules)") == "True\n"
