"""The common part of the classifier and the regressor: from checks to a trained network."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from itertools import chain
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from cnet._plan import Plan
from cnet.callbacks import check_monitors
from cnet.data import DenseRows, Source
from cnet.estimators import _lbfgs, _stochastic
from cnet.estimators._coding import Coding
from cnet.estimators._network import (
    build,
    check_shape,
    dense_layers,
    draw,
    has_layers,
    layer_arguments,
    rebuilt,
    trained_parameters,
)
from cnet.estimators._parameters import Parameters, as_parameters, sklearn_name
from cnet.estimators._recorded import constant, recorded_by_batches, recorded_by_lbfgs
from cnet.estimators._rows import Matrix, SparseRows, as_rows, forward
from cnet.estimators._stochastic import FitMonitor, FitRecords, Shuffling, scheduler_for
from cnet.estimators._task import (
    Task,
    as_data,
    batch_size_of,
    checked_weights,
    random_state_of,
)
from cnet.estimators._validation import Validation, hold_out
from cnet.estimators._weights import WeightsMixin
from cnet.losses import Loss
from cnet.network import NeuralNetwork
from cnet.optimizers import Optimizer
from cnet.recording import Recorder
from cnet.schedules import Scheduler
from cnet.training import TrainingSettings, Transaction

# Attributes that scikit-learn's checks of X set.
_OF_FEATURES = ("n_features_in_", "feature_names_in_")

_DTYPES = (np.float64, np.float32)


class BaseMLP(WeightsMixin, BaseEstimator, ABC):
    """Base class of `MLPClassifier` and `MLPRegressor`."""

    n_features_in_: int
    n_iter_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    _coding: Coding
    _scheduler: Scheduler | None = None
    _no_improvement_count: int
    _y_is_numeric: ClassVar[bool]
    # Whether the squared error is recorded as the mean over the outputs.
    _averages_outputs: ClassVar[bool] = False

    # Differences between the two

    @abstractmethod
    def _as_coding(self, y: Any, classes: Any, *, first: bool, incremental: bool) -> Coding:
        """Return the kind of y, or check that it is the kind of the last fit."""

    @abstractmethod
    def _given_coding(self) -> Coding:
        """Return the kind of y for an estimator with given weights that has not been fitted."""

    @abstractmethod
    def _as_loss(self, coding: Coding) -> Loss:
        """Return the loss to minimise."""

    @abstractmethod
    def _default_score(
        self, outputs: NDArray[Any], y: Any, sample_weight: NDArray[Any] | None
    ) -> float:
        """Return the score for early stopping if `scoring` is None."""

    def _with_class_weight(
        self, y: Any, coding: Coding, sample_weight: NDArray[Any] | None, *, incremental: bool
    ) -> NDArray[Any] | None:
        """Return the rows' weights, multiplied by those of their classes."""
        return sample_weight

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Keep the constructor's arguments as they are; `fit` checks them."""
        for name in arguments:
            if name not in ("self", "__class__"):
                setattr(self, name, arguments[name])

    # scikit-learn's conventions

    def __sklearn_is_fitted__(self) -> bool:
        return self._has_weights()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__()}
        if self._shares_state():
            # The network has the optimizer's state; a copy of each would be two states.
            scheduler = state["_scheduler"] = copy.copy(self._scheduler)
            assert scheduler is not None
            scheduler.state = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        scheduler = self._scheduler
        if scheduler is not None and scheduler.state is None:
            scheduler.state = self.network_.trainer.state

    def _shares_state(self) -> bool:
        """Return whether the scheduler and the network have the same optimizer's state."""
        scheduler, network = self._scheduler, self.__dict__.get("network_")
        if scheduler is None or scheduler.state is None or network is None:
            return False
        state = network.trainer.state
        return state is not None and state.moments is scheduler.state.moments

    @property
    def _optimizer(self) -> Scheduler | None:
        """The scheduler; scikit-learn's tests read its learning_rate under this name."""
        return self._scheduler

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
        """Check everything, and train the network.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        incremental : bool
            Whether to train for one epoch, and to continue with the optimizer's state.
        classes
            As in `partial_fit`.
        held_out : tuple
            Rows, targets and weights of validation data.
        """
        parameters = as_parameters(self)
        if incremental and parameters.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        with random_state_of(self.random_state) as random_state:
            learnt = {name: self.__dict__[name] for name in _OF_FEATURES if name in self.__dict__}
            try:
                task = self._prepare(
                    parameters, X, y, sample_weight, incremental, classes, held_out, random_state
                )
            except BaseException:
                # scikit-learn's checks have set them, but they belong to the last fit.
                for name in _OF_FEATURES:
                    self.__dict__.pop(name, None)
                self.__dict__.update(learnt)
                raise
            # Everything is checked: from here on the estimator changes.
            with task.network.trainer.exclusive(task.plan) as transaction:
                self._adopt(task.network, task.coding)
                self._start_records(parameters, task.scorer is not None, reset=task.first)
                if parameters.optimizer is None:
                    self._fit_lbfgs(parameters, task, transaction)
                else:
                    self._fit_stochastic(
                        parameters, parameters.optimizer, task, transaction, incremental=incremental
                    )
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
        random_state: np.random.RandomState,
    ) -> Task:
        """Check everything, and draw the starting weights and the held-out rows."""
        first = not self._has_coefs() or not (parameters.warm_start or incremental)
        dtype = _DTYPES if first else self._dtype()
        X, y = self._validated(X, y, reset=first, dtype=dtype)  # noqa: N806
        drawn_dtype = X.dtype
        if parameters.optimizer is None:
            # A line search needs the precision.
            X = X.astype(np.float64, copy=False)  # noqa: N806
        coding = self._as_coding(y, classes, first=first, incremental=incremental)
        loss = self._as_loss(coding)
        weights = self._as_weights(X, y, coding, sample_weight, loss, incremental=incremental)
        data = as_data(as_rows(X), y, weights, coding, loss)
        n, n_inputs = data.x.shape
        validation = self._as_validation(held_out, coding, loss, data.x.dtype)
        layers = layer_arguments(parameters, n_inputs, coding)
        present = None if first else self.__dict__.get("network_")
        continues = present is not None and has_layers(present, layers)
        if present is not None and not continues:
            check_shape(present, layers)
        arrays = (
            draw(parameters, n_inputs, coding.n_outputs, random_state, drawn_dtype) if first else []
        )
        rows = np.arange(n) if issparse(data.x) else None
        if parameters.early_stopping and parameters.optimizer is not None and validation is None:
            rows, validation = hold_out(parameters, y, data, coding, random_state)
        batch_size = batch_size_of(parameters, n if rows is None else len(rows))
        if present is not None and continues and present.dtype == data.x.dtype:
            network = present
        else:
            # Each fit has other dropout, also with the weights of the last one.
            seed = random_state.randint(2**31 - 1) if any(parameters.dropout) else 0
            if present is not None:
                network = rebuilt(present, layers, data.x.dtype, seed)
            else:
                network = build(layers, data.x.dtype, arrays if first else self._arrays(), seed)
        scorer = None
        if validation is not None:
            scorer = validation.scorer(self, self.scoring, network, loss, self._default_score)
        check_monitors(
            parameters.callbacks,
            ["loss"] if scorer is None else ["loss", "validation_score"],
            {"validation_score": "X_val and y_val, or early_stopping"},
        )
        plan = network.trainer.plan
        return Task(
            first, coding, loss, network, plan, data, rows, batch_size, scorer, random_state
        )

    # Checks

    def _validated(
        self,
        X: Any,  # noqa: N803
        y: Any,
        *,
        reset: bool,
        dtype: Any,
    ) -> tuple[Any, Any]:
        """Return X and y, checked by scikit-learn.

        With `reset`, the number and the names of the features are stored.
        """
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
        """Return the dtype of the present weights."""
        if self._has_network():
            return self.network_.dtype
        return np.result_type(np.float32, *(np.asarray(coef).dtype for coef in self.coefs_))

    def _as_weights(
        self,
        X: Any,  # noqa: N803
        y: Any,
        coding: Coding,
        sample_weight: Any,
        loss: Loss,
        *,
        incremental: bool,
    ) -> NDArray[Any]:
        """Return the rows' weights, multiplied by those of their classes, or an empty array."""
        weights = None
        if sample_weight is not None:
            weights = checked_weights("sample_weight", sample_weight, X)
        weights = self._with_class_weight(y, coding, weights, incremental=incremental)
        if weights is None:
            return np.empty(0, X.dtype)
        if loss.in_python and not coding.weighs_targets:
            raise ValueError(
                "sample_weight and class_weight must be None with a function as loss, which weights "
                "its rows itself"
            )
        return np.ascontiguousarray(weights, X.dtype)

    def _as_validation(
        self,
        held_out: tuple[Any, Any, Any],
        coding: Coding,
        loss: Loss,
        dtype: np.dtype[Any],
    ) -> Validation | None:
        """Return the validation data of a call of `fit`."""
        x, y, sample_weight = held_out
        if x is None and y is None and sample_weight is None:
            return None
        if x is None or y is None:
            raise ValueError("X_val and y_val must be given together")
        x, y = self._validated(x, y, reset=False, dtype=dtype)
        weights = np.empty(0, dtype)
        if sample_weight is not None:
            checked = checked_weights("sample_weight_val", sample_weight, x)
            weights = np.ascontiguousarray(checked, dtype)
        return Validation(y, as_data(as_rows(x), y, weights, coding, loss))

    # The network

    def _arrays(self) -> list[NDArray[Any]]:
        """Return the present weights and biases, layer by layer."""
        return list(chain.from_iterable(zip(self.coefs_, self.intercepts_, strict=True)))

    def _adopt(self, network: NeuralNetwork, coding: Coding) -> None:
        """Make a network this estimator's."""
        self._forget_given_weights()
        self.network_ = network
        self._coding = coding
        self.n_layers_ = len(dense_layers(network)) + 1
        self.n_outputs_ = coding.n_outputs
        self.out_activation_ = sklearn_name(coding.activation)

    def _start_records(self, parameters: Parameters, scored: bool, *, reset: bool) -> None:
        """Set the attributes that describe the training; without `reset` most keep their values."""
        records: dict[str, Any] = {
            "t_": 0,
            "loss_curve_": [],
            "best_loss_": np.inf,
            "validation_scores_": None,
            "best_validation_score_": None,
            "_no_improvement_count": 0,
        }
        for name, value in records.items():
            if reset or name not in self.__dict__:
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

    def _fit_lbfgs(self, parameters: Parameters, task: Task, transaction: Transaction) -> None:
        network, plan, data, loss = task.network, task.plan, task.data, task.loss
        n_outputs = task.coding.n_outputs if self._averages_outputs else 1
        recorded = recorded_by_lbfgs(loss, data, n_outputs, plan.penalty)
        callbacks = [FitRecords(self, task.scorer, parameters.verbose), *parameters.callbacks]
        logged = ["validation_score"] if task.scorer is not None else []
        recorder = Recorder(network, ["loss"], callbacks, logged=logged)

        def observe(iteration: int, value: float) -> bool:
            shown = recorded(value) if recorded else value
            return recorder.end_epochs(iteration, {"loss": [shown]})

        trained = trained_parameters(plan.model)
        objective = _lbfgs.objective(
            plan, data, loss, parameters.alpha, constant(loss, data), trained
        )
        with recorder.training(transaction.begin(loss)):
            value, self.n_iter_ = _lbfgs.minimize(
                objective, plan.parameters, trained, parameters, observe
            )
            self.loss_ = recorded(value) if recorded else value
            self.best_loss_ = min(self.loss_, self.best_loss_ or np.inf)

    def _fit_stochastic(
        self,
        parameters: Parameters,
        optimizer: Optimizer,
        task: Task,
        transaction: Transaction,
        *,
        incremental: bool,
    ) -> None:
        network, data, rows, loss = task.network, task.data, task.rows, task.loss
        last = self._scheduler if incremental else None
        scheduler = self._scheduler = scheduler_for(parameters, optimizer, task.plan.model, last)
        scheduler.n_rows = self.t_
        source: Source = DenseRows(data, rows)
        if issparse(data.x) and rows is not None:
            source = SparseRows(data, rows)
        shuffling = Shuffling(source.n, task.random_state) if parameters.shuffle else None
        settings = TrainingSettings(
            loss,
            optimizer,
            scheduler.learning_rate,
            epochs=1 if incremental else parameters.max_iter,
            batch_size=task.batch_size,
            reduction="weighted_mean",
            shuffle=False,
            schedule=parameters.schedule,
            divide_penalties=True,
            recorded_scale=loss.recorded_scale(
                task.coding.n_outputs if self._averages_outputs else 1
            ),
            order=shuffling,
        )
        recorded = recorded_by_batches(loss, data, rows, shuffling, task.batch_size)
        monitor = FitMonitor(
            self, parameters, scheduler, recorded, task.scorer, self._no_improvement_count
        )
        logged = ["validation_score"] if task.scorer is not None else []

        def train() -> None:
            transaction.train(
                network,
                source,
                settings,
                callbacks=[monitor, *parameters.callbacks],
                logged=logged,
                state=scheduler.state,
                scheduler=scheduler,
            )

        try:
            _stochastic.fit(train, network, monitor, warn=not incremental)
        finally:
            self._no_improvement_count = monitor.improvement.epochs_without

    # Prediction

    def _plan(self) -> Plan:
        """Return the plan to predict with. Given weights become a network in the first call."""
        check_is_fitted(self)
        if not self._has_network():
            coding = self._given_coding()
            layers = layer_arguments(as_parameters(self), len(self.coefs_[0]), coding)
            network = build(layers, self._dtype(), self._arrays(), 0)
            with network.trainer.exclusive() as transaction:
                transaction.set_loss(self._as_loss(coding))
            self._adopt(network, coding)
        return self.network_.trainer.plan

    def _checked(self, X: Matrix, plan: Plan) -> Any:  # noqa: N803
        """Return the checked rows to predict for."""
        x = validate_data(self, X, accept_sparse="csr", dtype=plan.dtype, order="C", reset=False)
        return x if issparse(x) else as_rows(x)

    def _outputs(self, X: Matrix) -> NDArray[Any]:  # noqa: N803
        plan = self._plan()
        return forward(plan, self._checked(X, plan))
