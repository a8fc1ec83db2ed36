"""Fixtures of the estimators' tests."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _seeded():
    """Seed NumPy's global random numbers, which are used without a random_state."""
    np.random.seed(0)
