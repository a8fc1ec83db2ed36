"""scikit-learn's multi-layer perceptrons, on cnet's engine: change the import, keep the code.

Needs scikit-learn: ``pip install "cnet[sklearn]"``.
"""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        'cnet.estimators needs scikit-learn, which comes with: pip install "cnet[sklearn]"'
    ) from error

from cnet.estimators._classifier import MLPClassifier
from cnet.estimators._regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
