"""What the tests of the estimators share."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _seeded():
    """Give what is drawn without a random_state one start; scikit-learn's own tests draw so too."""
    np.random.seed(0)
