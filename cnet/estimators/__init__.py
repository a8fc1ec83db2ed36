"""scikit-learn's multi-layer perceptrons on cnet's engine: change the import, keep the code.

Requires scikit-learn: ``pip install "cnet[sklearn]"``.
"""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        'cnet.estimators requires scikit-learn: pip install "cnet[sklearn]"'
    ) from error

from cnet.estimators._classifier import MLPClassifier
from cnet.estimators._regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
