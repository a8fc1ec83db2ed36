"""The estimators pass scikit-learn's own tests: its estimator checks, and its tests of the MLP."""

import importlib.util
from pathlib import Path
from unittest import mock

import pytest
import sklearn.neural_network
from sklearn.utils.estimator_checks import parametrize_with_checks

from cnet.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Tests of scikit-learn's private methods.
NOT_APPLICABLE = {
    "test_gradient": "calls _loss_grad_lbfgs with scikit-learn's lists of activations, deltas and "
    "gradients; cnet's gradients are tested against finite differences in test_gradients.py",
}


def load_test_mlp():
    """Return scikit-learn's installed test_mlp.py, unchanged except that it imports cnet's classes."""
    path = Path(sklearn.neural_network.__file__).parent / "tests" / "test_mlp.py"
    spec = importlib.util.spec_from_file_location("test_mlp_of_scikit_learn", path)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.multiple(
        sklearn.neural_network, MLPClassifier=MLPClassifier, MLPRegressor=MLPRegressor
    ):
        spec.loader.exec_module(module)
    return module


TEST_MLP = load_test_mlp()
globals().update(
    {
        name: value
        for name, value in vars(TEST_MLP).items()
        if name.startswith("test_") and name not in NOT_APPLICABLE
    }
)


@pytest.fixture
def global_random_seed():
    """Return the seed that scikit-learn's own conftest.py gives by default."""
    return 42


def test_excluded_tests_exist():
    assert all(callable(getattr(TEST_MLP, name)) for name in NOT_APPLICABLE)


def test_the_module_tests_cnet():
    assert TEST_MLP.MLPClassifier is MLPClassifier
    assert TEST_MLP.MLPRegressor is MLPRegressor


@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_estimator_checks(estimator, check):
    check(estimator)
