"""Errors and warnings, and their messages."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_iris

import cnet
from cnet.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)


@pytest.mark.parametrize(
    ("name", "value", "error", "parts"),
    [
        ("hidden_layer_sizes", 0, ValueError, ["hidden_layer_sizes", "at least 1", "got 0"]),
        ("hidden_layer_sizes", (5, -1), ValueError, ["hidden_layer_sizes", "got -1"]),
        ("hidden_layer_sizes", "10", TypeError, ["hidden_layer_sizes", "got '10'"]),
        ("hidden_layer_sizes", (2.5,), TypeError, ["an integer", "got 2.5"]),
        (
            "activation",
            "sigmoidal",
            ValueError,
            ["activation", "'identity'", "'gelu'", "'sigmoidal'"],
        ),
        ("activation", "softmax", ValueError, ["activation must be one of", "got 'softmax'"]),
        ("activation", ["relu", "tanh"], ValueError, ["a list of 1", "one for each hidden layer"]),
        ("activation", 3, ValueError, ["activation", "got 3"]),
        ("solver", "newton", ValueError, ["solver", "'lbfgs'", "'adamw'", "got 'newton'"]),
        ("solver", cnet.SGD, ValueError, ["solver must be one of"]),
        ("alpha", -1, ValueError, ["alpha", "at least 0", "got -1"]),
        ("alpha", "0.1", TypeError, ["alpha", "a finite number"]),
        ("batch_size", 0, ValueError, ["batch_size", "at least 1"]),
        ("batch_size", "all", ValueError, ["batch_size", "'auto'", "got 'all'"]),
        ("learning_rate", "fast", ValueError, ["learning_rate", "'adaptive'", "got 'fast'"]),
        ("learning_rate_init", 0, ValueError, ["learning_rate_init", "above 0"]),
        ("power_t", -0.1, ValueError, ["power_t"]),
        ("max_iter", 0, ValueError, ["max_iter", "at least 1"]),
        ("max_iter", 2.5, TypeError, ["max_iter", "an integer"]),
        ("shuffle", 1, TypeError, ["shuffle", "True or False"]),
        ("random_state", "seed", ValueError, ["seed"]),
        ("tol", -1, ValueError, ["tol"]),
        ("verbose", -1, ValueError, ["verbose"]),
        ("warm_start", "yes", TypeError, ["warm_start"]),
        ("momentum", 1.5, ValueError, ["momentum", "at most 1"]),
        ("nesterovs_momentum", None, TypeError, ["nesterovs_momentum"]),
        ("early_stopping", 0, TypeError, ["early_stopping"]),
        ("validation_fraction", 1, ValueError, ["validation_fraction", "below 1"]),
        ("beta_1", 1, ValueError, ["beta_1"]),
        ("beta_2", -0.1, ValueError, ["beta_2"]),
        ("epsilon", 0, ValueError, ["epsilon"]),
        ("n_iter_no_change", 0, ValueError, ["n_iter_no_change"]),
        ("n_iter_no_change", 2.5, TypeError, ["n_iter_no_change"]),
        ("max_fun", 0, ValueError, ["max_fun"]),
        ("loss", "hinge", ValueError, ["loss", "got 'hinge'"]),
        ("l1", -1, ValueError, ["l1"]),
        ("max_norm", 0, ValueError, ["max_norm", "above 0"]),
        ("dropout", 1, ValueError, ["dropout", "below 1"]),
        ("dropout", [0.1, 0.2], ValueError, ["dropout", "a list of 1"]),
        ("callbacks", 3, TypeError, ["callbacks"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_invalid_parameters_raise(cls, name, value, error, parts):
    model = cls(hidden_layer_sizes=(4,)).set_params(**{name: value})
    with pytest.raises(error) as caught:
        model.fit(X, Y)
    for part in parts:
        assert part in str(caught.value)
    assert not hasattr(model, "coefs_")


def test_parameters_are_checked_in_partial_fit():
    with pytest.raises(ValueError, match="alpha must be"):
        MLPClassifier(alpha=-1).partial_fit(X, Y, classes=[0, 1, 2])


@pytest.mark.parametrize(("name", "value"), [("l1", 0.1), ("max_norm", 2), ("dropout", 0.5)])
def test_settings_that_lbfgs_does_not_support_raise(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .* with solver 'lbfgs'"):
        MLPClassifier(solver="lbfgs", **{name: value}).fit(X, Y)


@pytest.mark.parametrize("scoring", ["accurate", 3])
def test_invalid_scoring_raises(scoring):
    with pytest.raises(ValueError, match="scoring must be 'loss', one of 'accuracy'"):
        MLPClassifier(scoring=scoring, early_stopping=True).fit(X, Y)


def test_a_metric_of_cnet_with_weights_raises():
    model = MLPClassifier(scoring="auc", early_stopping=True)
    with pytest.raises(ValueError, match="a scorer of scikit-learn with sample_weight, got 'auc'"):
        model.fit(X, Y == 1, np.ones(150))


def test_invalid_sample_weight_raises():
    with pytest.raises(ValueError, match="sample_weight must not be negative, got -1"):
        MLPClassifier().fit(X, Y, np.r_[-1, np.ones(149)])
    with pytest.raises(ValueError, match=r"weights? must .*zero"):
        MLPClassifier().fit(X, Y, np.zeros(150))

    with pytest.raises(ValueError, match="sample_weight_val must not be negative"):
        MLPClassifier().fit(X, Y, X_val=X, y_val=Y, sample_weight_val=-np.ones(150))
    with pytest.raises(ValueError, match="among the rows that are held out"):
        MLPClassifier(early_stopping=True, random_state=0).fit(X, Y, np.arange(150) == 7)

    def loss(y_true, y_pred):
        raise AssertionError

    with pytest.raises(ValueError, match="must be None with a function as loss"):
        MLPRegressor(loss).fit(X, Y, np.ones(150))


def test_invalid_class_weight_raises():
    for weights in ({0: -1.0}, {0: np.nan}, {0: np.inf}):
        with pytest.raises(ValueError, match="class_weight must have finite weights of at least 0"):
            MLPClassifier(class_weight=weights).fit(X, Y)
    with pytest.raises(ValueError, match="class_weight must leave some row a weight above zero"):
        MLPClassifier(class_weight={0: 0.0}).fit(X, Y, Y == 0)
    for weights in ({3: 1.0}, {0: 1.0, "1": 2.0}):
        with pytest.raises(ValueError, match="not in class_weight"):
            MLPClassifier(class_weight=weights).partial_fit(X, Y, classes=[0, 1, 2])


def test_invalid_validation_data_raises():
    with pytest.raises(ValueError, match="X_val and y_val must be given together"):
        MLPClassifier().fit(X, Y, X_val=X)
    with pytest.raises(ValueError, match="3 features"):
        MLPClassifier().fit(X, Y, X_val=X[:, :3], y_val=Y)
    with pytest.raises(ValueError, match="labels of the classes"):
        MLPClassifier().fit(X[:100], Y[:100], X_val=X, y_val=Y)
    with pytest.raises(ValueError, match="validation set is too small"):
        MLPClassifier(early_stopping=True, validation_fraction=0.005).fit(X, Y)


def test_invalid_targets_raise():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        MLPClassifier().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="must be at least 0 for loss 'poisson'"):
        MLPRegressor("poisson").fit(X, Y - 1.5)
    with pytest.raises(ValueError, match="loss must be 'log_loss'"):
        MLPClassifier(loss="squared_error").fit(X, np.column_stack([Y, Y]))
    with pytest.raises(ValueError, match="sigmoid"):
        MLPClassifier(loss="binary_cross_entropy").fit(X, Y)


def test_another_shape_at_a_warm_start_raises():
    model = MLPClassifier((4,), warm_start=True, max_iter=2).fit(X, Y)
    model.set_params(hidden_layer_sizes=(5,))
    with pytest.raises(ValueError, match=r"hidden_layer_sizes .* \(4, 3\), got \(5, 3\)"):
        model.fit(X, Y)
    regressor = MLPRegressor(hidden_layer_sizes=(4,), max_iter=2).fit(X, Y)
    with pytest.raises(ValueError, match=r"\(4, 1\), got \(4, 2\)"):
        regressor.partial_fit(X, np.column_stack([Y, Y]))


def test_invalid_classes_in_partial_fit_raise():
    model = MLPClassifier((4,))
    with pytest.raises(ValueError, match="classes must be given in the first call"):
        model.partial_fit(X, Y)
    for classes in ([], np.array([])):
        with pytest.raises(ValueError, match="classes must have at least one class"):
            model.partial_fit(X, Y, classes=classes)
    model.partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes must be those of the first call"):
        model.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"labels of the classes \[0 1 2\], got also \[3\]"):
        model.partial_fit(X, Y + 1)
    with pytest.raises(ValueError, match="does not support early_stopping=True"):
        model.set_params(early_stopping=True).partial_fit(X, Y)


def test_warnings_point_at_the_call():
    for model in (
        MLPClassifier((4,), max_iter=2),
        MLPClassifier((4,), max_iter=2, solver="lbfgs"),
        MLPClassifier((4,), max_iter=2, batch_size=151),
    ):
        with pytest.warns(UserWarning, match="max_iter|batch_size") as caught:
            model.fit(X, Y)
        assert {warning.filename for warning in caught} == {__file__}


def test_invalid_columns_of_labels_raise():
    one_hot = np.eye(3, dtype=int)[Y]
    model = MLPClassifier((4,), max_iter=2, warm_start=True).fit(X, one_hot)
    with pytest.raises(ValueError, match="warm_start can only be used"):
        model.fit(X, one_hot[:, :2])
    with pytest.raises(ValueError, match=r"3 columns of 0 and 1.* got shape \(150, 2\)"):
        model.partial_fit(X, one_hot[:, :2])
    # scikit-learn treats every value except 0 as 1.
    with pytest.raises(ValueError, match=r"y must have only 0 and 1 .* got \[-1  1\]"):
        MLPClassifier().fit(X, 2 * one_hot - 1)
    with pytest.raises(ValueError, match=r"y must have only 0 and 1 .* got \[0 2\]"):
        MLPClassifier().fit(X, one_hot, X_val=X, y_val=2 * one_hot)
    several = MLPClassifier((4,), max_iter=2).fit(X, np.column_stack([Y, Y]))
    with pytest.raises(ValueError, match=r"2 columns of labels, got shape \(150,\)"):
        several.partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"y must be an array if .* got a sparse matrix"):
        several.fit(X, scipy.sparse.csr_matrix(np.column_stack([Y, Y])))


def test_lbfgs_with_a_loss_that_is_not_finite_raises():
    # scikit-learn returns its initial weights.
    with pytest.raises(ValueError, match="the loss is not a finite number"):
        MLPRegressor(hidden_layer_sizes=(9,), solver="lbfgs", random_state=0).fit(X * 1e200, Y)


def test_a_callback_cannot_train_its_network():
    def again(network, epoch, logs):
        model.partial_fit(X, Y)

    model = MLPClassifier((4,), callbacks=again)
    with pytest.raises(RuntimeError, match="is being trained already"):
        model.fit(X, Y)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_the_network_cannot_be_trained_during_a_fit(solver):
    def again(network, epoch, logs):
        network.train(X, Y, verbose=False)

    model = MLPClassifier((4,), solver=solver, callbacks=again)
    with pytest.raises(RuntimeError, match="is being trained already"):
        model.fit(X, Y)
    # The exception has released the lock.
    model.network_.train(X, Y, epochs=1, verbose=False)


def test_a_fit_with_invalid_arguments_changes_nothing():
    model = MLPClassifier((4,), random_state=0, max_iter=5).fit(X, Y)
    network, before = model.network_, model.network_.parameters.copy()
    with pytest.raises(ValueError, match="negative"):
        model.fit(X, Y > 0, -np.ones(150))
    with pytest.raises(ValueError, match="negative"):
        model.fit(X[:, :2], Y, -np.ones(150))
    with pytest.raises(TypeError, match="max_iter"):
        model.set_params(max_iter=None).fit(X, Y)
    assert model.predict(X).shape == (150,)
    assert model.network_ is network
    np.testing.assert_array_equal(network.parameters, before)
    assert list(model.classes_) == [0, 1, 2]
