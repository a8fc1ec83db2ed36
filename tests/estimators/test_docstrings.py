"""Docstrings of the estimators."""

import doctest
import re

import pytest

from cnet.estimators import MLPClassifier, MLPRegressor


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_examples_of_docstrings_run(cls):
    (test,) = doctest.DocTestFinder(recurse=False).find(cls, cls.__name__)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_every_public_method_has_a_docstring(cls):
    for name in ("fit", "partial_fit", "predict", "score"):
        assert getattr(cls(), name).__doc__


def test_every_parameter_is_in_the_docstring():
    for name in MLPClassifier().get_params():
        assert re.search(rf"^    (\w+, )*{name}(, \w+)* : ", MLPClassifier.__doc__, re.MULTILINE), (
            name
        )
