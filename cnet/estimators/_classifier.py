"""MLPClassifier: classification with a neural network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import unique_labels

from cnet.callbacks import Callbacks
from cnet.estimators._base import BaseMLP
from cnet.estimators._coding import (
    Coding,
    Labels,
    Multilabel,
    Multioutput,
    labels_from,
    labels_of,
    places_of,
)
from cnet.estimators._network import changed
from cnet.estimators._parameters import (
    HiddenActivation,
    LearningRate,
    RandomState,
    Scoring,
    Solver,
    is_stochastic,
)
from cnet.estimators._rows import Matrix, forward
from cnet.losses import Loss, LossFunction, LossName, resolve_loss
from cnet.network import NeuralNetwork
from cnet.optimizers import Optimizer

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Weights: TypeAlias = Mapping[Any, float]


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multi-layer perceptron classifier: scikit-learn's MLPClassifier with more options.

    With the same parameters and `random_state` it has scikit-learn's starting weights and batches, and
    so its predictions, up to rounding errors.

    Parameters
    ----------
    hidden_layer_sizes : int or iterable of int, default (100,)
        Number of neurons in each hidden layer.
    activation : str or list of str, default "relu"
        Activation of the hidden layers, one for all or one for each: identity, logistic, tanh, relu, or
        any activation of `cnet.Layer` except softmax.
    solver : str or cnet.Optimizer, default "adam"
        lbfgs (on all rows at once, in float64, without `l1`, `max_norm`, `dropout` or `batch_norm`),
        sgd (with `momentum` and `nesterovs_momentum`), adam (with `beta_1`, `beta_2` and `epsilon`), or
        another optimizer of cnet by name or as an object such as ``cnet.AdamW(weight_decay=0.01)``. If
        such an object has a learning_rate, it is used instead of `learning_rate_init`.
    alpha : float, default 0.0001
        L2 penalty on the weights. Half of it times the sum of their squares is added to the sum of a
        batch's losses, which is then divided by the number of rows, or by the sum of their weights.
    batch_size : int or "auto", default "auto"
        Number of rows in a batch; "auto": 200, or all rows if there are fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        Learning-rate schedule. "invscaling" divides `learning_rate_init` by t ** `power_t`, where t is 1
        plus the number of rows seen. "adaptive" divides the learning rate by 5 each time that training
        would otherwise stop, down to 1e-6. Not used by the solvers "adam" and "lbfgs".
    learning_rate_init : float, default 0.001
        Initial learning rate. Not used by "lbfgs".
    power_t : float, default 0.5
        Exponent of "invscaling".
    max_iter : int, default 200
        Maximum number of epochs in a call of `fit`, or of iterations of lbfgs.
    shuffle : bool, default True
        Whether to shuffle the rows in each epoch.
    random_state : int, numpy.random.RandomState or None, default None
        Source of the starting weights, the held-out rows, the order of rows, and dropout.
    tol : float, default 1e-4
        An epoch is no improvement if it lowers the loss, or with `early_stopping` raises the score, by
        less than this. lbfgs stops when no element of the gradient is larger.
    verbose : bool or int, default False
        Whether to print the loss after each epoch.
    warm_start : bool, default False
        Whether `fit` continues with the present weights.
    momentum : float, default 0.9
        Momentum of "sgd".
    nesterovs_momentum : bool, default True
        Whether "sgd" uses Nesterov's momentum.
    early_stopping : bool, default False
        Whether to hold out `validation_fraction` of the rows (for two classes, with the same proportions
        of the classes), stop when the score on them stops improving, and return to the weights with the
        best score. Not used by "lbfgs".
    validation_fraction : float, default 0.1
        Fraction of the rows that `early_stopping` holds out.
    beta_1, beta_2, epsilon : float, default 0.9, 0.999 and 1e-8
        Parameters of "adam".
    n_iter_no_change : int or inf, default 10
        Training stops after more than this number of epochs in a row without improvement.
    max_fun : int, default 15000
        Maximum number of loss evaluations by lbfgs.
    loss : str, cnet.Loss or callable, default "log_loss"
        log_loss is the cross-entropy. Others are the losses for sigmoid outputs or, for more than two
        classes, for softmax outputs.
    class_weight : dict, "balanced", list of dict or None, default None
        Factors of the rows' weights by class, as in scikit-learn's ``compute_sample_weight``.
    l1 : float, default 0
        L1 penalty on the weights, divided in the same way as `alpha`.
    max_norm : float or None, default None
        Maximum norm of the incoming weights of each hidden neuron, applied after each step.
    dropout : float or list of float, default 0
        Fraction of the outputs of the hidden layers that training drops at random, one number for all or
        one for each.
    scoring : str, callable or None, default None
        Score on held-out rows: a scorer of scikit-learn by name, a function (estimator, X, y), "loss",
        or a metric of cnet. If lower is better, it is negated. None: accuracy, or for a regressor R².
    callbacks : iterable of cnet.Callback or callable, or None, default None
        Callbacks during training, called with `network_`; see `cnet.NeuralNetwork.train`.
    batch_norm, layer_norm : bool, default False
        Whether to normalize the inputs of each hidden activation, by a `cnet.BatchNorm` or a
        `cnet.LayerNorm` between the product and the activation. Only one of them can be True. Batch
        statistics are those of each batch, in which each row counts once. `batch_norm` requires a
        `batch_size` of at least 2 and cannot be used with "lbfgs". A batch of a single row uses the
        running statistics, as predictions do.

    Attributes
    ----------
    network_ : cnet.NeuralNetwork
        The trained network, with its `activations`, `input_gradient`, `predictor` and other methods.
        If a layer's `trainable`, `learning_rate_factor` or `bias_learning_rate_factor` is set, the next
        `partial_fit`, or `fit` with `warm_start`, follows it. "lbfgs" follows `trainable` and factors
        of 0.
    coefs_, intercepts_ : list of ndarray
        Views of the weights and biases of the dense layers, without those of normalization layers.
        Assigned values are copied into them.
    classes_ : ndarray of shape (n_classes,), or for several columns of labels a list of them
    loss_, best_loss_ : float
        The last and the lowest loss. `best_loss_` is None with early stopping.
    loss_curve_ : list of float
        The loss of each epoch, or iteration of lbfgs, including the penalty.
    validation_scores_ : list of float, or None
        The score of each epoch, if there are validation data.
    best_validation_score_ : float or None
    n_iter_ : int
        Number of epochs, or iterations, in the last call of `fit`.
    t_ : int
        Number of rows seen in all epochs.
    n_layers_, n_outputs_ : int
        Number of layers, including the input layer and without normalization layers, and of outputs.
    out_activation_ : str
        Activation of the output layer.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of X, if all of them are strings.

    Examples
    --------
    >>> from cnet.estimators import MLPClassifier
    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], ["no", "yes", "yes", "no"]
    >>> MLPClassifier((8,), solver="lbfgs", random_state=0).fit(X, y).predict(X)
    array(['no', 'yes', 'yes', 'no'], dtype='<U3')
    """

    classes_: Any
    _y_is_numeric = False

    def __init__(
        self,
        hidden_layer_sizes: int | Iterable[int] = (100,),
        activation: HiddenActivation | Sequence[HiddenActivation] = "relu",
        *,
        solver: Solver | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: LearningRate = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: RandomState = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: Literal["log_loss"] | LossName | Loss | LossFunction = "log_loss",
        class_weight: Weights | Sequence[Weights] | Literal["balanced"] | None = None,
        l1: float = 0.0,
        max_norm: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        scoring: Scoring = None,
        callbacks: Callbacks = None,
        batch_norm: bool = False,
        layer_norm: bool = False,
    ) -> None:
        self._keep(locals())

    def fit(
        self,
        X: Matrix,  # noqa: N803
        y: Matrix,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Matrix | None = None,  # noqa: N803
        y_val: Matrix | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train the network, from new weights or, with `warm_start`, from the present ones.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)
            Computation is in float32 if X is float32, and in float64 otherwise. A sparse matrix that
            would take more than 64 MB as an array is converted some batches at a time.
        y : array-like of shape (n,) or (n, n_outputs), or sparse matrix
            One class for each row, one column of 0 and 1 for each class, or several columns of classes,
            each of which has its own softmax.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows, 0 or more.
        X_val, y_val, sample_weight_val : array-like, optional
            Validation data to compute the score on after each epoch, instead of the rows that
            `early_stopping` holds out.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid, or training diverges.
        """
        held_out = (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, held_out=held_out)

    @available_if(is_stochastic)
    def partial_fit(
        self,
        X: Matrix,  # noqa: N803
        y: Matrix,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | Sequence[ArrayLike] | None = None,
    ) -> Self:
        """Train the network for one epoch, from the present weights.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like of shape (n_classes,), or for several columns of labels a list of them
            All classes of this and later calls. Required in the first call.

        Returns
        -------
        MLPClassifier
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def predict(self, X: Matrix) -> NDArray[Any] | csr_matrix:  # noqa: N803
        """Return the class of each row, or for any number of labels per row a 0 or 1 for each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs), or a sparse matrix if y was one
        """
        outputs = self._outputs(X)
        return self._coding.decode(outputs)

    def predict_proba(self, X: Matrix) -> NDArray[Any] | list[NDArray[Any]]:  # noqa: N803
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), or for several columns of classes a list of them
        """
        outputs = self._outputs(X)
        return self._labels.probabilities(outputs)

    def predict_log_proba(self, X: Matrix) -> NDArray[Any] | list[NDArray[Any]]:  # noqa: N803
        """Return the logarithm of the probability of each class.

        It is finite even if the probability is too small for its dtype.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), or for several columns of classes a list of them
        """
        plan = self._plan()
        x = self._checked(X, plan)
        probabilities = self._labels.probabilities(forward(plan, x))
        parts = probabilities if isinstance(probabilities, list) else [probabilities]
        with np.errstate(divide="ignore"):
            found = [np.log(part) for part in parts]
        # The logarithms of probabilities that have underflowed.
        lost = [part < np.finfo(part.dtype).tiny for part in parts]
        if any(map(np.any, lost)):
            *hidden, last = plan.model.layers
            logits = forward(plan, x, [*hidden, changed(last, activation="linear")])
            exact = self._labels.log_probabilities(logits)
            exact = exact if isinstance(exact, list) else [exact]
            for logarithms, where, from_logits in zip(found, lost, exact, strict=True):
                np.copyto(logarithms, from_logits, where=where)
        return found if isinstance(probabilities, list) else found[0]

    def score(
        self,
        X: Matrix,  # noqa: N803
        y: Matrix,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Return the fraction of rows whose class, or all of whose labels, are predicted correctly.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)
        y : array-like of shape (n,) or (n, n_outputs)
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        float
        """
        if isinstance(self.__dict__.get("_coding"), Multioutput):
            correct = (self.predict(X) == np.asarray(y)).all(axis=1)
            weights = None if sample_weight is None else np.asarray(sample_weight)
            return float(np.average(correct, weights=weights))
        score: float = super().score(X, y, sample_weight)
        return score

    def _as_coding(self, y: Any, classes: Any, *, first: bool, incremental: bool) -> Coding:
        if incremental:
            coding = self._coding_of_classes(y, classes)
        elif first or not hasattr(self, "classes_"):
            coding = labels_of(y)
        else:
            coding = self._given_coding()
            found = labels_of(y)
            if type(found) is not type(coding) or not _equal(found.classes, coding.classes):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous "
                    f"call to fit. Previously got {coding.classes}, `y` has {found.classes}"
                )
        return coding

    def _coding_of_classes(self, y: Any, classes: Any) -> Labels:
        """Return the kind of labels for `partial_fit`, whose rows need not include every class."""
        known = hasattr(self, "classes_")
        if classes is None:
            if not known:
                raise ValueError("classes must be given in the first call of partial_fit")
            return self._given_coding()
        columns = isinstance(classes, (list, tuple)) and classes and np.ndim(classes[0]) == 1
        given: Any = (
            [np.unique(column) for column in classes] if columns else unique_labels(classes)
        )
        if not len(given):
            raise ValueError("classes must have at least one class, got none")
        if known:
            if not _equal(given, self.classes_):
                raise ValueError(
                    f"classes must be those of the first call of partial_fit, {self.classes_}, "
                    f"got {classes}"
                )
            return self._given_coding()
        if columns:
            return Multioutput(given)
        found = labels_of(y)
        return found if isinstance(found, Multilabel) else labels_from(given)

    def _given_coding(self) -> Labels:
        if "_coding" in self.__dict__:
            return self._labels
        return labels_from(np.asarray(self.classes_))

    def _adopt(self, network: NeuralNetwork, coding: Coding) -> None:
        super()._adopt(network, coding)
        self.classes_ = self._labels.classes

    def _as_loss(self, coding: Coding) -> Loss:
        assert isinstance(coding, Labels)
        if isinstance(self.loss, str) and self.loss == "log_loss":
            return coding.log_loss()
        if coding.weighs_targets:
            raise ValueError(
                f"loss must be 'log_loss' where y has several columns of classes, got {self.loss!r}"
            )
        return resolve_loss(self.loss, coding.activation)

    def _with_class_weight(
        self, y: Any, coding: Coding, sample_weight: NDArray[Any] | None, *, incremental: bool
    ) -> NDArray[Any] | None:
        if self.class_weight is None:
            return sample_weight
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight must be a dict for partial_fit, which does not have all rows, "
                f"got {self.class_weight!r}"
            )
        weights: NDArray[Any]
        assert isinstance(coding, Labels)
        if isinstance(self.class_weight, dict) and coding.one_class_each:
            # For all classes, since the rows of `partial_fit` need not include every one.
            of_classes = compute_class_weight(
                self.class_weight, classes=coding.classes, y=coding.classes
            )
            weights = of_classes[places_of(y, coding.classes)]
        else:
            weights = compute_sample_weight(self.class_weight, y)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(
                f"class_weight must have finite weights of at least 0, got {self.class_weight!r}"
            )
        if sample_weight is not None:
            weights = weights * sample_weight
        if not incremental and not weights.any():
            raise ValueError(
                f"class_weight must leave some row a weight above zero, got {self.class_weight!r}"
            )
        return weights

    def _default_score(
        self, outputs: NDArray[Any], y: Any, sample_weight: NDArray[Any] | None
    ) -> float:
        correct: Any = self._coding.decode(outputs) == y
        if correct.ndim == 2:
            correct = (correct.toarray() if issparse(correct) else correct).all(axis=1)
        return float(np.average(correct, weights=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @property
    def _labels(self) -> Labels:
        assert isinstance(self._coding, Labels)
        return self._coding


def _equal(classes: Any, others: Any) -> bool:
    """Whether classes, or lists of them, are the same."""
    if isinstance(classes, list) or isinstance(others, list):
        return len(classes) == len(others) and all(map(_equal, classes, others))
    return np.array_equal(classes, others)
