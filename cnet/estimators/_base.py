"""What the classifier and the regressor have in common: fitting, from checks to the trained network."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from cnet._arrays import Data
from cnet._program import Program
from cnet.callbacks import check_monitors
from cnet.estimators import _lbfgs, _stochastic
from cnet.estimators._coding import Binary, Coding, GroupedCrossEntropy
from cnet.estimators._network import Plan, Views
from cnet.estimators._parameters import Parameters, as_parameters, sklearn_name
from cnet.estimators._rows import SparseRun, as_rows, forward
from cnet.estimators._stochastic import Course, Descent, Shuffling
from cnet.estimators._validation import Validation, split
from cnet.losses import Loss, LossFunction
from cnet.network import NeuralNetwork
from cnet.training import History, Run, Settings

# Rows of a batch where batch_size is "auto", scikit-learn's.
_AUTO_BATCH_SIZE = 200

# What scikit-learn's checks learn of X.
_OF_FEATURES = ("n_features_in_", "feature_names_in_")

_DTYPES = (np.float64, np.float32)


def _checked_weights(name: str, sample_weight: Any, X: Any) -> NDArray[Any]:  # noqa: N803
    """Return a weight for each row, none negative and not all of them 0."""
    weights: NDArray[Any] = _check_sample_weight(sample_weight, X)
    if weights.min() < 0:
        raise ValueError(f"{name} must not be negative, got {weights.min():g}")
    if not weights.any():
        raise ValueError(f"{name} must have a weight above zero, got only zeros")
    return weights


def _as_data(
    x: Any, y: Any, weights: NDArray[Any], coding: Coding, loss: Loss | LossFunction
) -> Data:
    """Return rows, targets and weights as the engine reads them."""
    targets, labels = coding.encode(y, x.dtype, loss)
    if isinstance(loss, GroupedCrossEntropy) and weights.size:
        targets = targets * weights[:, np.newaxis]
    return Data(x, targets, labels, weights, False)


class Task(NamedTuple):
    """What a call of `fit` or `partial_fit` is to do, all of it checked.

    Attributes
    ----------
    first : bool
        Whether the network is a new one.
    coding, loss, plan, network
        What is learnt, by which loss, and by what.
    data : Data
        ``data.x`` may be a matrix in compressed rows.
    rows : ndarray of intp, or None
        The rows to train on; None: all.
    batch_size : int
    scorer : callable or None
        Returns the score on held-out rows.
    random_state : numpy.random.RandomState
    """

    first: bool
    coding: Coding
    loss: Loss | LossFunction
    plan: Plan
    network: NeuralNetwork
    data: Data
    rows: NDArray[np.intp] | None
    batch_size: int
    scorer: Callable[[], float] | None
    random_state: np.random.RandomState

    @property
    def n(self) -> int:
        """How many rows are trained on."""
        n: int = self.data.x.shape[0] if self.rows is None else len(self.rows)
        return n


class BaseMLP(BaseEstimator, ABC):
    """Base of `MLPClassifier` and `MLPRegressor`."""

    network_: NeuralNetwork
    n_features_in_: int
    n_iter_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    _plan: Plan
    _coding: Coding
    _y_is_numeric: bool

    # What the two differ in

    @abstractmethod
    def _as_coding(self, y: Any, classes: Any, *, first: bool, incremental: bool) -> Coding:
        """Return what kind of targets y has, or check that it has the kind that was learnt."""

    @abstractmethod
    def _given_coding(self) -> Coding:
        """Return the kind of targets where weights were given and none has been learnt."""

    @abstractmethod
    def _as_loss(self, coding: Coding) -> Loss | LossFunction:
        """Return the loss to train by."""

    @abstractmethod
    def _default_score(
        self, outputs: NDArray[Any], y: Any, sample_weight: NDArray[Any] | None
    ) -> float:
        """Return the score by which early stopping goes if no other is asked for."""

    def _with_class_weight(
        self, y: Any, coding: Coding, sample_weight: NDArray[Any] | None, *, incremental: bool
    ) -> NDArray[Any] | None:
        """Return the rows' weights with those of their classes."""
        return sample_weight

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Keep what the constructor was called with, as it is; `fit` checks it."""
        for name in arguments:
            if name not in ("self", "__class__"):
                setattr(self, name, arguments[name])

    def _recorded_scale(self, loss: Loss | LossFunction, n_outputs: int) -> float:
        """Return what scikit-learn multiplies the rows' losses by where it records them."""
        return 1.0

    def _constant(self, data: Data, loss: Loss | LossFunction) -> float:
        """Return what scikit-learn's loss has beside cnet's, whatever the weights."""
        return 0.0

    def _recorded_by_batches(self, run: Run) -> Callable[[float], float] | None:
        """Return what turns the loss of the epoch just ended into scikit-learn's, if it is another."""
        return None

    def _recorded_by_lbfgs(
        self, data: Data, loss: Loss | LossFunction
    ) -> Callable[[float], float] | None:
        """Return what turns the loss with the weights there are into scikit-learn's."""
        return None

    # Weights, as scikit-learn shows them

    @property
    def coefs_(self) -> list[NDArray[Any]]:
        """Weights of each layer, of shape (n_inputs, n_neurons).

        Views of ``network_.layers[i].weights``; what is assigned to the list or one of its items is
        copied into them.
        """
        return self._views("coefs_", "weights")

    @coefs_.setter
    def coefs_(self, values: Any) -> None:
        self._assign("coefs_", "weights", values)

    @property
    def intercepts_(self) -> list[NDArray[Any]]:
        """Biases of each layer, of shape (n_neurons,), as `coefs_`."""
        return self._views("intercepts_", "biases")

    @intercepts_.setter
    def intercepts_(self, values: Any) -> None:
        self._assign("intercepts_", "biases", values)

    def _views(self, name: str, attribute: str) -> list[NDArray[Any]]:
        network = self.__dict__.get("network_")
        if network is not None:
            return Views(name, [getattr(layer, attribute) for layer in network.layers])
        if f"_{name}given" in self.__dict__:
            given: list[NDArray[Any]] = self.__dict__[f"_{name}given"]
            return given
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r} before fit")

    def _assign(self, name: str, attribute: str, values: Any) -> None:
        if "network_" in self.__dict__:
            Views(name, [getattr(layer, attribute) for layer in self.network_.layers]).fill(values)
        else:
            # Until there is a network, which takes them over.
            self.__dict__[f"_{name}given"] = values

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_") and hasattr(self, "intercepts_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        return tags

    def _is_stochastic(self) -> bool:
        """Whether the solver goes batch by batch; otherwise there is no `partial_fit`."""
        if isinstance(self.solver, str) and self.solver == "lbfgs":
            raise AttributeError("partial_fit wants a solver that goes batch by batch, not 'lbfgs'")
        return True

    # Fitting

    def _fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        *,
        incremental: bool = False,
        classes: Any = None,
        held_out: tuple[Any, Any, Any] = (None, None, None),
    ) -> Self:
        """Check everything, and train from new weights or from those there are.

        `incremental`: a single epoch, with the optimizer as it was left. `classes` is `partial_fit`'s,
        `held_out` what `fit` has for validation.
        """
        parameters = as_parameters(self)
        if incremental and parameters.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        learnt = {name: self.__dict__[name] for name in _OF_FEATURES if name in self.__dict__}
        try:
            task = self._prepare(parameters, X, y, sample_weight, incremental, classes, held_out)
        except BaseException:
            # scikit-learn's checks have put down what they saw; it is to go with the network there is.
            for name in _OF_FEATURES:
                self.__dict__.pop(name, None)
            self.__dict__.update(learnt)
            raise
        # All is checked: from here on the estimator changes.
        if not task.network._lock.acquire(blocking=False):
            raise RuntimeError(
                "the network is being trained already, by another thread or from a callback"
            )
        try:
            self._adopt(task.network, task.plan, task.coding, task.loss)
            self._start_records(parameters, task.scorer is not None, anew=task.first)
            if parameters.optimizer is None:
                self._fit_lbfgs(parameters, task)
            else:
                self._fit_stochastic(parameters, task, incremental=incremental)
        finally:
            task.network._lock.release()
        return self

    def _prepare(
        self,
        parameters: Parameters,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        incremental: bool,
        classes: Any,
        held_out: tuple[Any, Any, Any],
    ) -> Task:
        """Check what is to be learnt, and draw what is to be drawn before the first epoch."""
        first = not hasattr(self, "coefs_") or not (parameters.warm_start or incremental)
        dtype = _DTYPES if first else self._dtype()
        X, y = self._validated(X, y, reset=first, dtype=dtype)  # noqa: N806
        drawn_dtype = X.dtype
        if parameters.optimizer is None:
            # A line search wants the digits.
            X = X.astype(np.float64, copy=False)  # noqa: N806
        coding = self._as_coding(y, classes, first=first, incremental=incremental)
        loss = self._as_loss(coding)
        weights = self._as_weights(X, y, coding, sample_weight, loss, incremental=incremental)
        data = _as_data(as_rows(X), y, weights, coding, loss)
        n, n_inputs = data.x.shape
        validation = self._as_validation(held_out, coding, loss, data.x.dtype)
        plan = Plan.of(parameters, n_inputs, coding)
        if not first:
            self._check_sizes(plan)
        random_state = check_random_state(self.random_state)
        drawn = plan.drawn(random_state, drawn_dtype) if first else []
        rows = np.arange(n) if issparse(data.x) else None
        if parameters.early_stopping and parameters.optimizer is not None and validation is None:
            rows, validation = self._hold_out(parameters, y, data, coding, random_state)
        batch_size = self._as_batch_size(parameters, n if rows is None else len(rows))
        network = plan.build(data.x.dtype, drawn) if first else self._continued(plan, data.x.dtype)
        if any(plan.dropout) and network is not self.__dict__.get("network_"):
            # One that goes on must not drop what it dropped in the call before.
            network._rng = np.random.default_rng(random_state.randint(2**31 - 1))
        scorer = None if validation is None else validation.scorer(self)
        check_monitors(
            parameters.callbacks,
            ["loss"] if scorer is None else ["loss", "validation_score"],
            {"validation_score": "X_val and y_val, or early_stopping"},
        )
        return Task(
            first, coding, loss, plan, network, data, rows, batch_size, scorer, random_state
        )

    # What is checked

    def _validated(
        self,
        X: Any,  # noqa: N803
        y: Any,
        *,
        reset: bool,
        dtype: Any,
    ) -> tuple[Any, Any]:
        """Return X and y as scikit-learn checks them, and learn the features where `reset`."""
        X, y = validate_data(  # noqa: N806
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=self._y_is_numeric,
            dtype=dtype,
            order="C",
            reset=reset,
        )
        if issparse(y) and (self._y_is_numeric or y.shape[1] == 1):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _dtype(self) -> np.dtype[Any]:
        """Return the dtype of the weights there are."""
        return np.result_type(np.float32, *(np.asarray(coef).dtype for coef in self.coefs_))

    def _as_weights(
        self,
        X: Any,  # noqa: N803
        y: Any,
        coding: Coding,
        sample_weight: Any,
        loss: Loss | LossFunction,
        *,
        incremental: bool,
    ) -> NDArray[Any]:
        """Return the rows' weights with those of their classes, or an empty array."""
        weights = None
        if sample_weight is not None:
            weights = _checked_weights("sample_weight", sample_weight, X)
        weights = self._with_class_weight(y, coding, weights, incremental=incremental)
        if weights is None:
            return np.empty(0, X.dtype)
        if not isinstance(loss, Loss) and loss is self.loss:
            raise ValueError(
                "sample_weight and class_weight must be None with a function as loss, which weighs "
                "its rows itself"
            )
        return np.ascontiguousarray(weights, X.dtype)

    def _as_batch_size(self, parameters: Parameters, n: int) -> int:
        """Return the rows of a batch, of `n` in all."""
        if parameters.optimizer is None:
            return n
        if parameters.batch_size is None:
            return min(_AUTO_BATCH_SIZE, n)
        if parameters.batch_size > n:
            warnings.warn(
                f"batch_size={parameters.batch_size} is more than the {n} rows to train on, which make "
                "one batch",
                stacklevel=5,
            )
        return min(parameters.batch_size, n)

    def _as_validation(
        self,
        held_out: tuple[Any, Any, Any],
        coding: Coding,
        loss: Loss | LossFunction,
        dtype: np.dtype[Any],
    ) -> Validation | None:
        """Return the validation data that `fit` was given."""
        x, y, sample_weight = held_out
        if x is None and y is None and sample_weight is None:
            return None
        if x is None or y is None:
            raise ValueError("X_val and y_val must be given together")
        x, y = self._validated(x, y, reset=False, dtype=dtype)
        weights = np.empty(0, dtype)
        if sample_weight is not None:
            checked = _checked_weights("sample_weight_val", sample_weight, x)
            weights = np.ascontiguousarray(checked, dtype)
        return Validation(y, _as_data(as_rows(x), y, weights, coding, loss))

    def _hold_out(
        self,
        parameters: Parameters,
        y: Any,
        data: Data,
        coding: Coding,
        random_state: np.random.RandomState,
    ) -> tuple[NDArray[np.intp], Validation]:
        """Return which rows to train on, and the others as validation data."""
        # scikit-learn keeps the shares of two classes, and not of more.
        stratify = None
        if isinstance(coding, Binary):
            stratify = np.where(data.targets[:, 0] > 0, "True", "False")
        rows, others = split(
            data.x.shape[0], parameters.validation_fraction, stratify, random_state
        )
        held_out = data.of_rows(others)
        if held_out.sample_weight.size and not held_out.sample_weight.any():
            raise ValueError(
                "sample_weight must have a weight above zero among the rows that are held out; "
                "another random_state holds out others, and X_val is what you choose"
            )
        return rows, Validation(y[others], held_out)

    def _check_sizes(self, plan: Plan) -> None:
        """Refuse to go on with a network of another shape."""
        if "network_" in self.__dict__ and self._plan.sizes != plan.sizes:
            raise ValueError(
                f"hidden_layer_sizes and the outputs must be those of the network there is, "
                f"{self._plan.sizes[1:]}, got {plan.sizes[1:]}; clone the estimator to start anew"
            )

    # The network

    def _continued(self, plan: Plan, dtype: np.dtype[Any]) -> NeuralNetwork:
        """Return the network to go on with, made anew where the plan has changed."""
        if "network_" in self.__dict__ and self._plan == plan and self.network_.dtype == dtype:
            return self.network_
        return plan.build(
            dtype, chain.from_iterable(zip(self.coefs_, self.intercepts_, strict=True))
        )

    def _adopt(
        self, network: NeuralNetwork, plan: Plan, coding: Coding, loss: Loss | LossFunction
    ) -> None:
        """Make a network this estimator's."""
        self.__dict__.pop("_coefs_given", None)
        self.__dict__.pop("_intercepts_given", None)
        self.network_ = network
        self._plan = plan
        self._coding = coding
        network._loss = loss
        network._row_step = None
        self.n_layers_ = len(plan.sizes)
        self.n_outputs_ = coding.n_outputs
        self.out_activation_ = sklearn_name(coding.activation)

    def _start_records(self, parameters: Parameters, scored: bool, *, anew: bool) -> None:
        """Set up what an estimator shows of its training; kept from the last one unless `anew`."""
        records: dict[str, Any] = {
            "t_": 0,
            "loss_curve_": [],
            "best_loss_": np.inf,
            "validation_scores_": None,
            "best_validation_score_": None,
            "_no_improvement_count": 0,
        }
        for name, value in records.items():
            if anew or name not in self.__dict__:
                setattr(self, name, value)
        if scored and self.validation_scores_ is None:
            self.validation_scores_ = []
            self.best_validation_score_ = -np.inf
        if parameters.early_stopping and parameters.optimizer is not None:
            self.best_loss_ = None
        elif self.best_loss_ is None:
            self.best_loss_ = np.inf
        self.n_iter_ = 0

    # Training

    def _observe_score(self, score: float) -> float:
        """Record the score of an epoch on the validation data."""
        assert self.validation_scores_ is not None
        assert self.best_validation_score_ is not None
        self.validation_scores_.append(score)
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
        return score

    def _fit_lbfgs(self, parameters: Parameters, task: Task) -> None:
        network, loss, scorer = task.network, task.loss, task.scorer
        program = network._ready()
        recorded = self._recorded_by_lbfgs(task.data, loss)
        constant = self._constant(task.data, loss)
        objective = _lbfgs.objective(program, task.plan, task.data, loss, constant)
        callbacks = parameters.callbacks
        history = network.history = History(loss=[])
        for callback in callbacks:
            callback.on_train_begin(network)

        def observe(iteration: int, value: float) -> bool:
            self.n_iter_ = iteration + 1
            self.loss_ = recorded(value) if recorded else value
            self.loss_curve_.append(self.loss_)
            history["loss"].append(self.loss_)
            if parameters.verbose:
                print(f"Iteration {iteration + 1}, loss = {self.loss_:.8f}")
            logs = {"loss": self.loss_}
            if scorer is not None:
                logs["validation_score"] = self._observe_score(scorer())
            stop = False
            for callback in callbacks:
                stop = bool(callback.on_epoch_end(network, iteration, logs)) or stop
            return stop

        loss_, self.n_iter_ = _lbfgs.fit(parameters, program.parameters, objective, observe)
        self.loss_ = recorded(loss_) if recorded else loss_
        self.best_loss_ = min(self.loss_, self.best_loss_ or np.inf)
        for callback in callbacks:
            callback.on_train_end(network, history)

    def _fit_stochastic(self, parameters: Parameters, task: Task, *, incremental: bool) -> None:
        network, data, rows = task.network, task.data, task.rows
        program = network._ready()
        descent = self.__dict__.get("_optimizer") if incremental else None
        if descent is None or not descent.goes_with(parameters, program):
            descent = Descent.start(parameters, program)
        descent.follow(parameters)
        self._optimizer = descent
        network._state = descent.state
        settings = Settings(
            task.loss,
            "weighted_mean",
            descent.learning_rate,
            1 if incremental else parameters.max_iter,
            task.batch_size,
            parameters.shuffle,
            divide_penalties=True,
            recorded_scale=self._recorded_scale(task.loss, task.coding.n_outputs),
            order=Shuffling(task.n, task.random_state) if parameters.shuffle else None,
        )
        run = (
            SparseRun(program, data, descent.state, settings, network._rng, rows)
            if issparse(data.x) and rows is not None
            else Run(program, data, descent.state, settings, network._rng, rows)
        )
        recorded = self._recorded_by_batches(run)
        course = Course(self, parameters, descent, run, recorded, task.scorer)
        _stochastic.fit(network, course, warn=not incremental)

    # Prediction

    def _program(self) -> Program:
        """Return the network's program, of given weights too."""
        check_is_fitted(self)
        if "network_" not in self.__dict__:
            # Weights that were given to an estimator that has not been trained.
            coding = self._given_coding()
            parameters = as_parameters(self)
            plan = Plan.of(parameters, len(self.coefs_[0]), coding)
            self._adopt(self._continued(plan, self._dtype()), plan, coding, self._as_loss(coding))
        return self.network_._ready()

    def _checked(self, X: Any, program: Program) -> Any:  # noqa: N803
        """Return rows to predict for."""
        x = validate_data(self, X, accept_sparse="csr", dtype=program.dtype, order="C", reset=False)
        return x if issparse(x) else as_rows(x)

    def _outputs(self, X: Any) -> NDArray[Any]:  # noqa: N803
        program = self._program()
        return forward(program, self._plan, self._checked(X, program))
