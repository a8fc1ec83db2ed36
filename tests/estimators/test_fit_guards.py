"""Guards that only a rare event tests: vanishing rates, failed fits, single rows after a fit."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sklearn import neural_network

import cnet
from cnet.estimators import MLPClassifier, MLPRegressor
from cnet.estimators._task import random_state_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = X @ [1.0, -2.0, 0.5]
LABELS = (Y > 0).astype(int)


# A learning rate that falls to nothing


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power_t", [20.0, 60.0, 120.0, 300.0])
@pytest.mark.parametrize("nesterov", [False, True])
def test_a_vanishing_learning_rate_does_not_overflow_the_velocity(dtype, power_t, nesterov):
    """The velocity is stored without the rate, so it grows by the factor that the rate falls by."""
    settings = {
        "hidden_layer_sizes": (4,),
        "solver": "sgd",
        "learning_rate": "invscaling",
        "power_t": power_t,
        "momentum": 0.9,
        "nesterovs_momentum": nesterov,
        "batch_size": 10,
        "max_iter": 6,
        "random_state": 0,
    }
    x, y = X.astype(dtype), Y.astype(dtype)
    found = MLPRegressor(**settings).fit(x, y)
    assert found.n_iter_ == 6
    assert all(np.isfinite(weights).all() for weights in (*found.coefs_, *found.intercepts_))
    if power_t == 300:  # beyond what scikit-learn can compute
        return
    # From the second epoch on the velocity alone moves the weights.
    expected = neural_network.MLPRegressor(**settings).fit(x, y)
    for ours, theirs in zip(found.coefs_, expected.coefs_, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4 if dtype == np.float32 else 1e-9)


def test_a_vanishing_learning_rate_does_not_overflow_in_partial_fit():
    model = MLPRegressor(
        hidden_layer_sizes=(4,), solver="sgd", learning_rate="invscaling", power_t=300.0
    )
    model.set_params(momentum=0.9, random_state=0)
    for _ in range(4):
        model.partial_fit(X, Y)
    assert all(np.isfinite(weights).all() for weights in model.coefs_)


# A fit that fails


def seen(model):
    """Return what the estimator knows of the features."""
    return (
        getattr(model, "n_features_in_", None),
        list(getattr(model, "feature_names_in_", [])) or None,
    )


FRAME = pd.DataFrame(X, columns=["width", "height", "depth"])
OTHERS = {
    "other names": FRAME.rename(columns={"depth": "weight"}),
    "more features": FRAME.assign(weight=1.0),
    "no names": X,
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("first", ["names", "no names", None])
@pytest.mark.parametrize("failure", ["held-out rows", "sample_weight", "y"])
def test_a_failed_fit_restores_the_features(first, other, failure):
    model = MLPClassifier((4,), max_iter=2, random_state=0)
    if first is not None:
        model.fit(FRAME if first == "names" else X, LABELS)
        predicted = model.predict_proba(FRAME if first == "names" else X)
    before = seen(model)
    y, weights = LABELS, None
    if failure == "held-out rows":
        # Found late: scikit-learn's checks have seen the features by then.
        model.set_params(early_stopping=True, validation_fraction=0.999)
    elif failure == "sample_weight":
        weights = -np.ones(len(X))
    else:
        y = np.column_stack([LABELS, np.full(len(X), 0.5)])
    with pytest.raises(ValueError):  # noqa: PT011
        model.fit(OTHERS[other], y, sample_weight=weights)
    assert seen(model) == before
    if first is not None:
        # With the names of before, and no warning about names.
        np.testing.assert_array_equal(
            model.predict_proba(FRAME if first == "names" else X), predicted
        )


def test_a_failed_partial_fit_restores_the_features():
    model = MLPClassifier((4,), random_state=0)
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(FRAME, LABELS)
    assert seen(model) == (None, None)


# Single rows of the network of an estimator


REFITS = {
    "solver": {"solver": "rmsprop"},
    "momentum": {"momentum": 0.5},
    "learning rate": {"learning_rate_init": 0.3},
    "loss": {"loss": "huber"},
    "alpha": {"alpha": 0.5},
    "nothing": {},
}


@pytest.mark.parametrize("again", ["fit", "partial_fit"])
@pytest.mark.parametrize("changed", REFITS)
def test_train_one_follows_a_refit(changed, again):
    """A copy has not learnt rows yet, so it reads every setting again."""
    model = MLPRegressor(
        hidden_layer_sizes=(4,), solver="sgd", max_iter=2, warm_start=True, random_state=0
    )
    model.fit(X, Y)
    row, target = X[0], Y[0]
    for _ in range(2):
        model.network_.train_one(row, target)
    model.set_params(**REFITS[changed])
    getattr(model, again)(X, Y)
    expected = model.network_.copy()
    for _ in range(2):
        assert model.network_.train_one(row, target) == expected.train_one(row, target)
        np.testing.assert_array_equal(model.network_.parameters, expected.parameters)
    # The optimizer's state too has seen the same rows.
    how = {"epochs": 2, "batch_size": 4, "verbose": False}
    assert model.network_.train(X, Y, **how) == expected.train(X, Y, **how)
    np.testing.assert_array_equal(model.network_.parameters, expected.parameters)


def test_train_one_with_explicit_settings_follows_a_refit():
    optimizer, loss = cnet.SGD(0.1, momentum=0.9), cnet.SquaredError()
    model = MLPRegressor(
        hidden_layer_sizes=(4,), solver="adam", max_iter=2, warm_start=True, random_state=0
    )
    model.fit(X, Y)
    model.network_.train_one(X[0], Y[0], optimizer=optimizer, loss=loss)
    model.fit(X, Y)
    expected = model.network_.copy()
    how = {"optimizer": optimizer, "loss": loss}
    assert model.network_.train_one(X[0], Y[0], **how) == expected.train_one(X[0], Y[0], **how)
    # The optimizer is another one than the fit's, so its state starts again.
    np.testing.assert_array_equal(model.network_.parameters, expected.parameters)
    model.network_.train(X, Y, epochs=1, verbose=False)
    expected.train(X, Y, epochs=1, verbose=False)
    np.testing.assert_array_equal(model.network_.parameters, expected.parameters)


# Sources of random numbers, which calls hand on to each other


def test_fits_inside_and_beside_a_fit_do_not_share_random_numbers():
    def model(seed=7):
        return MLPClassifier((4,), max_iter=6, dropout=0.2, batch_size=8, random_state=seed)

    def weights(fitted):
        return fitted.network_.parameters.copy()

    expected, other = weights(model().fit(X, LABELS)), weights(model(8).fit(X, LABELS))
    inner = []

    def fit_another(network, epoch, logs):
        inner.append(weights(model(8).fit(X, LABELS)))
        with pytest.raises(ValueError, match="sample_weight"):
            model(9).fit(X, LABELS, sample_weight=-np.ones(len(X)))

    outer = model().set_params(callbacks=[fit_another]).fit(X, LABELS)
    np.testing.assert_array_equal(weights(outer), expected)
    assert len(inner) == 6
    for found in inner:
        np.testing.assert_array_equal(found, other)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: weights(model(seed).fit(X, LABELS)), [7, 8] * 8))
    for i, array in enumerate(found):
        np.testing.assert_array_equal(array, other if i % 2 else expected)


@pytest.mark.parametrize("seed", [0, True, np.int64(5), np.uint8(7), 2**32 - 1])
def test_an_integer_seeds_as_in_scikit_learn(seed):
    settings = {"hidden_layer_sizes": (4,), "max_iter": 5, "random_state": seed}
    for _ in range(2):
        found = MLPRegressor(**settings).fit(X, Y)
        expected = neural_network.MLPRegressor(**settings).fit(X, Y)
        np.testing.assert_allclose(found.coefs_[0], expected.coefs_[0], rtol=1e-9)


@pytest.mark.parametrize("seed", [-1, 2**32, "seed", 1.5])
def test_an_invalid_random_state_raises(seed):
    model = MLPRegressor(hidden_layer_sizes=(4,), random_state=seed)
    with pytest.raises(ValueError, match=r"[Ss]eed"):
        model.fit(FRAME, Y)
    assert seen(model) == (None, None)
    # The next call has a valid source.
    MLPRegressor(hidden_layer_sizes=(4,), max_iter=1, random_state=0).fit(X, Y)


def test_a_given_random_state_continues():
    source, same = np.random.RandomState(3), np.random.RandomState(3)
    for _ in range(2):
        found = MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=source).fit(X, Y)
        expected = neural_network.MLPRegressor(
            hidden_layer_sizes=(4,), max_iter=5, random_state=same
        ).fit(X, Y)
        np.testing.assert_allclose(found.coefs_[0], expected.coefs_[0], rtol=1e-9)
    assert source.randint(1000) == same.randint(1000)


def test_a_source_of_random_numbers_is_used_again():
    with random_state_of(0) as first, random_state_of(0) as second:
        assert first is not second
        assert first.randint(1000) == second.randint(1000)
    sources = {first, second}
    for seed in (1, 2):
        with random_state_of(seed) as source:
            assert source in sources
