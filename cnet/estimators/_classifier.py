"""MLPClassifier: classes from a network."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import unique_labels

from cnet.estimators._base import BaseMLP
from cnet.estimators._coding import (
    Binary,
    Coding,
    GroupedCrossEntropy,
    Labels,
    Multiclass,
    Multilabel,
    Multioutput,
    labels_from,
    labels_of,
    places_of,
)
from cnet.estimators._parameters import classification_loss
from cnet.estimators._rows import forward
from cnet.losses import Loss, LossFunction


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Classification by a fully connected network: scikit-learn's MLPClassifier, and more.

    With the same parameters and `random_state` it starts from scikit-learn's weights, sees its batches
    and gives its predictions, but for rounding.

    Parameters
    ----------
    hidden_layer_sizes : int or iterable of int, default (100,)
        Neurons of each hidden layer.
    activation : str or list of str, default "relu"
        Of the hidden layers, for all or for each: identity, logistic, tanh, relu, or any of
        `cnet.Layer`'s but softmax.
    solver : str or cnet.Optimizer, default "adam"
        lbfgs (all rows at once, in float64; no `l1`, `max_norm` or `dropout`), sgd (with `momentum`
        and `nesterovs_momentum`), adam (with `beta_1`, `beta_2` and `epsilon`), or another optimizer of
        cnet's by name or as an object such as ``cnet.AdamW(weight_decay=0.01)``, whose own
        learning_rate, if it has one, goes before `learning_rate_init`.
    alpha : float, default 0.0001
        L2 penalty on the weights; half of it times the sum of their squares is added to the sum over a
        batch's rows before that is divided by their number, or by the sum of their weights.
    batch_size : int or "auto", default "auto"
        Rows from one update to the next; "auto": 200, or all where there are fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        Schedule: invscaling divides `learning_rate_init` by t ** `power_t`, t being 1 and the rows seen
        so far; adaptive divides the learning rate by 5 where otherwise training would end, until it is
        1e-6. Not for solvers "adam" and "lbfgs".
    learning_rate_init : float, default 0.001
        Step size. Not for lbfgs.
    power_t : float, default 0.5
    max_iter : int, default 200
        Most epochs of a call of `fit`, or iterations of lbfgs.
    shuffle : bool, default True
        Whether each epoch takes the rows in an order of its own.
    random_state : int, numpy.random.RandomState or None, default None
        Where the starting weights, the rows held out, and the order of rows come from.
    tol : float, default 1e-4
        An epoch that lowers the loss, or with `early_stopping` raises the score, by less has not
        improved it. For lbfgs, the largest element of the gradient at which it ends.
    verbose : bool or int, default False
        Print the loss after each epoch.
    warm_start : bool, default False
        Whether `fit` goes on from the weights there are.
    momentum : float, default 0.9
    nesterovs_momentum : bool, default True
    early_stopping : bool, default False
        Whether to hold out `validation_fraction` of the rows (of two classes with the shares they
        have), to end where the score on them stops improving, and to go back to the weights of the best
        score. Not for lbfgs.
    validation_fraction : float, default 0.1
    beta_1, beta_2, epsilon : float, default 0.9, 0.999 and 1e-8
    n_iter_no_change : int or inf, default 10
        Training ends after more than this many epochs one after the other without improvement.
    max_fun : int, default 15000
        Most evaluations of the loss by lbfgs.
    loss : str, cnet.Loss or callable, default "log_loss"
        log_loss is the cross-entropy; any loss that goes with sigmoid, or for more than two classes
        softmax, outputs will do.
    class_weight : dict, "balanced", list of dict or None, default None
        What the weights of each class's rows are multiplied by, as scikit-learn's
        ``compute_sample_weight`` has it.
    l1 : float, default 0
        L1 penalty on the weights, divided as `alpha` is.
    max_norm : float or None, default None
        After each step, the incoming weights of each hidden neuron are shrunk to at most this norm.
    dropout : float or list of float, default 0
        Share of the hidden layers' outputs that is dropped at random in training, for all or for each.
    scoring : str, callable or None, default None
        The score on held-out rows: any scorer of scikit-learn by name, a function (estimator, X, y),
        "loss" for the loss there, or one of cnet's metrics; what is better if less is negated. None:
        accuracy, for a regressor R².
    callbacks : iterable of cnet.Callback or callable, or None, default None
        What to call as training goes on, with `network_`; see `cnet.NeuralNetwork.train`.

    Attributes
    ----------
    network_ : cnet.NeuralNetwork
        The trained network, for its `activations`, `input_gradient`, `predictor` and so on.
    coefs_, intercepts_ : list of ndarray
        Views of its layers' weights and biases; what is assigned is copied into them.
    classes_ : ndarray of shape (n_classes,), or list of such for several columns of labels
    loss_, best_loss_ : float
        The last and the least loss; the latter None with early stopping.
    loss_curve_ : list of float
        The loss of each epoch, or iteration of lbfgs, the penalty included.
    validation_scores_ : list of float, or None
        The score of each epoch, where rows are held out.
    best_validation_score_ : float or None
    n_iter_ : int
        Epochs, or iterations, of the last call of `fit`.
    t_ : int
        Rows seen in all.
    n_layers_, n_outputs_ : int
        Layers, the input included, and outputs of the network.
    out_activation_ : str
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where X has names of columns that are all text.

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
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        loss: Any = "log_loss",
        class_weight: Any = None,
        l1: float = 0.0,
        max_norm: float | None = None,
        dropout: Any = 0.0,
        scoring: Any = None,
        callbacks: Any = None,
    ) -> None:
        self._keep(locals())

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,  # noqa: N803
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train the network, from new weights unless there are some and `warm_start` is True.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)
            float32 is computed in float32, all else in float64. A sparse matrix is made dense some
            batches at a time where all of it would take more than 64 MB.
        y : array-like of shape (n,) or (n, n_outputs), or sparse matrix
            A class for each row; a column of 0 and 1 for each class; or several columns of classes, each
            of which gets a softmax of its own.
        sample_weight : array-like of shape (n,), optional
            What each row counts; 0 or more.
        X_val, y_val, sample_weight_val : array-like, optional
            Rows to score on after each epoch, instead of some that `early_stopping` holds out.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            Where X, y or a parameter is not what it should be, or training diverges.
        """
        held_out = (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, held_out=held_out)

    @available_if(BaseMLP._is_stochastic)
    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
    ) -> Self:
        """Go through some rows once, starting where the network stands.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like of shape (n_classes,), or list of such for several columns of labels
            All classes that there will be; wanted at the first call.

        Returns
        -------
        MLPClassifier
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Return the class of each row, or for several labels a row a 0 or 1 for each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs), or a sparse matrix if y was one
        """
        outputs = self._outputs(X)
        return self._coding.decode(outputs)

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), or for several columns of classes a list of such
        """
        outputs = self._outputs(X)
        return self._labels.probabilities(outputs)

    def predict_log_proba(self, X: Any) -> Any:  # noqa: N803
        """Return the logarithm of the probability of each class, finite where that is too small.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), or for several columns of classes a list of such
        """
        program = self._program()
        x = self._checked(X, program)
        probabilities = self._labels.probabilities(forward(program, self._plan, x))
        parts = probabilities if isinstance(probabilities, list) else [probabilities]
        with np.errstate(divide="ignore"):
            found = [np.log(part) for part in parts]
        # What has underflowed has a logarithm all the same.
        lost = [part < np.finfo(part.dtype).tiny for part in parts]
        if any(map(np.any, lost)):
            linear = self._plan._replace(activations=(*self._plan.activations[:-1], "linear"))
            exact = self._labels.log_probabilities(forward(linear.program(program), linear, x))
            exact = exact if isinstance(exact, list) else [exact]
            for logarithms, where, from_logits in zip(found, lost, exact, strict=True):
                np.copyto(logarithms, from_logits, where=where)
        return found if isinstance(probabilities, list) else found[0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Return the share of rows whose class, or all of whose labels, are predicted right.

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
            right = (self.predict(X) == np.asarray(y)).all(axis=1)
            return float(np.average(right, weights=sample_weight))
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
        """Return the kind of labels for `partial_fit`, whose rows need not have every class."""
        known = hasattr(self, "classes_")
        if classes is None:
            if not known:
                raise ValueError("classes must be given in the first call of partial_fit")
            return self._given_coding()
        columns = isinstance(classes, (list, tuple)) and classes and np.ndim(classes[0]) == 1
        wanted: Any = (
            [np.unique(column) for column in classes] if columns else unique_labels(classes)
        )
        if not len(wanted):
            raise ValueError("classes must have at least one class, got none")
        if known:
            if not _equal(wanted, self.classes_):
                raise ValueError(
                    f"classes must be those of the first call of partial_fit, {self.classes_}, "
                    f"got {classes}"
                )
            return self._given_coding()
        if columns:
            return Multioutput(wanted)
        found = labels_of(y)
        return found if isinstance(found, Multilabel) else labels_from(wanted)

    def _given_coding(self) -> Labels:
        if "_coding" in self.__dict__:
            return self._labels
        return labels_from(np.asarray(self.classes_))

    def _adopt(self, network: Any, plan: Any, coding: Coding, loss: Loss | LossFunction) -> None:
        super()._adopt(network, plan, coding, loss)
        self.classes_ = self._labels.classes

    def _as_loss(self, coding: Coding) -> Loss | LossFunction:
        if isinstance(coding, Multioutput):
            if not isinstance(self.loss, str) or self.loss != "log_loss":
                raise ValueError(
                    f"loss must be 'log_loss' where y has several columns of classes, got {self.loss!r}"
                )
            return GroupedCrossEntropy(coding.groups)
        return classification_loss(self.loss, coding.activation)

    def _with_class_weight(
        self, y: Any, coding: Coding, sample_weight: NDArray[Any] | None, *, incremental: bool
    ) -> NDArray[Any] | None:
        if self.class_weight is None:
            return sample_weight
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight must be a dict for partial_fit, which does not see all rows, "
                f"got {self.class_weight!r}"
            )
        weights: NDArray[Any]
        if isinstance(self.class_weight, dict) and isinstance(coding, (Binary, Multiclass)):
            # Of all classes, for the rows of `partial_fit` need not have every one.
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
        right = self._coding.decode(outputs) == y
        if right.ndim == 2:
            right = (right.toarray() if issparse(right) else right).all(axis=1)
        return float(np.average(right, weights=sample_weight))

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
