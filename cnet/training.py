"""Trainer: everything about a network that training changes, changed together.

`NeuralNetwork` and the estimators are built on it.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cnet._checks import as_number
from cnet._epochs import TrainingSettings
from cnet._plan import Plan, Predictor
from cnet.data import Data, as_data
from cnet.history import DivergenceError, History
from cnet.layers import BaseLayer, flat
from cnet.layers.base import Views
from cnet.losses import Loss, LossFunction, LossName, resolve_loss
from cnet.model import Model, check_names, default_name
from cnet.optimizers import SGD, Optimizer, OptimizerName, OptimizerState, resolve_optimizer
from cnet.transaction import Committed, RowStep, Transaction

__all__ = ["DivergenceError", "History", "Trainer", "TrainingSettings", "Transaction"]

_BOOLS = (bool, np.bool_)


class Trainer:
    """The model of a network, and everything that training it requires.

    A change is prepared completely and then committed by one assignment. If a call ends early, for
    example by Ctrl-C, the trainer is in the state before the call or after the last finished epoch.

    Parameters
    ----------
    dtype : numpy.dtype
        float32 or float64.
    rng : numpy.random.Generator
        Source of initial weights, shuffling and dropout.

    Attributes
    ----------
    committed : Committed
        The current state. Only the trainer and its transactions may replace it.
    n_inputs : int or None
        Number of inputs of the model, which is known before its first layer is added.
    row_predictor : Predictor or None
        Predicts for single rows, once `prepare_row` was called. It is not part of `committed`, which
        makes access to it faster.
    dtype, rng
        As above.
    """

    def __init__(self, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
        self.committed = Committed()
        self.n_inputs: int | None = None
        self.row_predictor: Predictor | None = None
        self.dtype = dtype
        self.rng = rng
        self._lock = threading.Lock()
        # Replaced when a setting of a layer changes.
        self._layer_settings = object()

    def __del__(self) -> None:
        # Layers have weak references to their trainer. Layers that live longer keep their arrays.
        plan = self.committed.plan
        if plan is not None:
            for layer in plan.model.all_layers():
                layer.outlive(plan.model.views(layer) or {})

    # The current state

    @property
    def plan(self) -> Plan:
        """The plan that computes the model."""
        plan = self.committed.plan
        if plan is None:
            missing = (
                "add_layer(n_inputs, input_layer=True) and then add_layer(n_neurons)"
                if self.n_inputs is None
                else "add_layer(n_neurons) after the input layer"
            )
            raise ValueError(f"the network has no layers; call {missing}")
        return plan

    @property
    def model(self) -> Model:
        """The model: layers and their values."""
        return self.plan.model

    @property
    def n_outputs(self) -> int | None:
        """Number of outputs of the last layer, or number of inputs if there are no layers yet."""
        plan = self.committed.plan
        return self.n_inputs if plan is None else plan.n_outputs

    @property
    def state(self) -> OptimizerState | None:
        """State of the optimizer of the last training."""
        return self.committed.state

    @property
    def loss(self) -> Loss | None:
        """Loss of the last training."""
        return self.committed.loss

    @property
    def history(self) -> History | None:
        """The values recorded by the last training, even if it ended with an exception."""
        return self.committed.history

    @property
    def is_training(self) -> bool:
        """Whether a transaction is under way."""
        return self._lock.locked()

    def prepare_row(self) -> None:
        """Make `row_predictor` ready for use."""
        plan = self.plan
        self.row_predictor = plan.predictor(1)
        if self.committed.plan is not plan:  # another thread has added layers
            self.row_predictor = None

    def views(self, layer: BaseLayer) -> Views | None:
        """Return the arrays of a layer by name, or None if it is not part of the model."""
        plan = self.committed.plan
        return plan.model.views(layer) if plan is not None else None

    def layer_changed(self) -> None:
        """Make the next step on a single row read the layers' settings again."""
        self._layer_settings = object()

    def check_name(self, layer: BaseLayer, name: str) -> None:
        """Raise ValueError if another layer of the model has this name."""
        check_names(self.model.layers, {layer: name})

    def objective(
        self,
        x: ArrayLike,
        y: ArrayLike,
        loss: LossName | Loss | LossFunction | None,
        sample_weight: ArrayLike | None = None,
        names: tuple[str, str, str] = ("x", "y", "sample_weight"),
    ) -> tuple[Plan, Loss, Data]:
        """Return the plan, and the validated loss and data for it.

        `loss` is by default that of the last training, or "auto" before the first one. `names` are the
        names of x, y and sample_weight in messages.
        """
        plan = self.plan
        if loss is None:
            loss = self.loss if self.loss is not None else "auto"
        used_loss = resolve_loss(loss, plan.model.layers[-1].activation)
        if sample_weight is not None and used_loss.in_python:
            raise ValueError(
                f"{names[2]} must be None with a function as loss, which weights its rows itself"
            )
        data = as_data(
            x,
            y,
            sample_weight,
            n_inputs=plan.n_inputs,
            n_outputs=plan.n_outputs,
            dtype=self.dtype,
            loss=used_loss,
            names=names,
        )
        # Arrays of the network are copied if they are inputs or targets, because training changes them.
        if any(
            np.may_share_memory(given, own)
            for given in (data.x, data.targets)
            for own in (plan.parameters, plan.buffers)
        ):
            data = data._replace(x=data.x.copy(), targets=data.targets.copy())
        return plan, used_loss, data

    # Changes

    @contextmanager
    def exclusive(self, plan: Plan | None = None) -> Iterator[Transaction]:
        """Context manager in which no other call can change the network.

        Parameters
        ----------
        plan : Plan, optional
            The plan for which the caller has prepared its data.

        Raises
        ------
        RuntimeError
            If the network is being trained already, or the plan is no longer that of the network.
        """
        if not self._lock.acquire(False):
            raise RuntimeError(
                "the network is being trained already, by another thread or from a callback; it cannot "
                "be trained or extended until that call has ended"
            )
        try:
            if plan is not None and plan is not self.committed.plan:
                raise RuntimeError(
                    "layers were added by another thread while the data were checked"
                )
            transaction = Transaction(self)
            try:
                yield transaction
            except BaseException:
                transaction.undo_draws()
                raise
        finally:
            self._lock.release()

    def adopt(
        self,
        model: Model,
        state: OptimizerState | None = None,
        loss: Loss | None = None,
        history: History | None = None,
    ) -> None:
        """Make `model` the model to train; its layers must not be part of another network."""
        plan = Plan(model)
        _attach(model.layers, self)
        self.n_inputs = model.n_inputs
        self.row_predictor = None
        self.committed = Committed(plan, state, loss, history)
        # Again, because another thread may have called `prepare_row`.
        self.row_predictor = None

    def use_plan(self, plan: Plan) -> None:
        """Compute the model with another plan, for example with another block size."""
        with self.exclusive():
            if plan.model is not self.model:
                raise ValueError("plan must be one of the network's model")
            self.committed = replace(self.committed, plan=plan, row_step=None)

    def extend(self, layers: Sequence[BaseLayer]) -> None:
        """Add layers, with initial weights, after the others.

        The optimizer's state and the loss of the last training are reset, because they belong to the
        previous outputs.

        Raises
        ------
        ValueError
            If a layer does not fit, or is part of a network.
        MemoryError
            If there is not enough memory.
        RuntimeError
            If the network is being trained.
        """
        with self.exclusive() as transaction:
            added = list(flat(layers))
            for i, layer in enumerate(added):
                if layer.attached or layer in added[:i]:
                    raise ValueError(
                        "layers must not be part of a network already, and each can be used only "
                        f"once; use copies, layer.copy(), got {layer!r}"
                    )
            plan = self.committed.plan
            if plan is None and self.n_inputs not in (None, layers[0].n_inputs):
                raise ValueError(
                    f"layer 1 must take {self.n_inputs} inputs, as many as the network has, "
                    f"got {layers[0].n_inputs}"
                )
            model = plan.model.extended(layers) if plan else Model(layers, self.dtype)
            for layer in added:
                views = model.views(layer) or {}
                for name, values in layer.draw(transaction.rng, self.dtype).items():
                    views[name][...] = values
            self.adopt(model, history=self.history)

    def train_one(
        self,
        x: ArrayLike,
        y: ArrayLike,
        learning_rate: float | None,
        optimizer: OptimizerName | Optimizer | None,
        loss: LossName | Loss | LossFunction | None,
    ) -> float:
        """Make one step on a single row; see `NeuralNetwork.train_one`."""
        step = self.committed.row_step
        # Compared by identity, which is fast; `_train_one` finds equal settings.
        if (
            step is not None
            and (optimizer is None or optimizer is step.optimizer)
            and (loss is None or loss is step.loss)
            and (learning_rate is None) is step.has_default_rate
            and self._lock.acquire(False)
        ):
            try:
                # Another thread may have changed the network before the lock was acquired.
                if self.committed.row_step is step and step.layer_settings is self._layer_settings:
                    learner = step.learner
                    # True == 1, but True is not a valid rate.
                    if learning_rate is not None and (
                        learning_rate != learner.rate or type(learning_rate) in _BOOLS
                    ):
                        learner.rate = as_number("learning_rate", learning_rate, 0)
                    value = learner(x, y)
                    if value is not None:
                        return value if value == value else self._diverged(learner.rate)
            finally:
                self._lock.release()
        return self._train_one(x, y, learning_rate, optimizer, loss)

    def _train_one(
        self,
        x: ArrayLike,
        y: ArrayLike,
        learning_rate: float | None,
        optimizer: OptimizerName | Optimizer | None,
        loss: LossName | Loss | LossFunction | None,
    ) -> float:
        """Check everything, make the step, and store it so that the next step is fast."""
        used_optimizer, rate = self.resolve_optimizer(optimizer, learning_rate)
        plan, used_loss, data = self.objective(x, y, loss)
        plan.model.check_trainable()
        if len(data.x) != 1:
            raise ValueError(f"x must be a single row, got {len(data.x)}")
        with self.exclusive(plan):
            before = self.committed
            state = before.state_for(used_optimizer, rate)
            seed = int(self.rng.integers(1, 2**63)) if plan.drops else 0
            learner = plan.learner(used_loss, state, rate, seed)
            step = RowStep(learner, optimizer, loss, learning_rate is None, self._layer_settings)
            # Everything is checked and allocated: from here on the network changes.
            self.committed = Committed(plan, state, used_loss, before.history, step)
            try:
                value = learner.learn_from(data.x, data.targets, data.labels)
            except BaseException:
                # A function that failed is not the loss that the network was trained with.
                self.committed = replace(self.committed, loss=before.loss, row_step=None)
                raise
            return value if value == value else self._diverged(rate)

    def _diverged(self, rate: float) -> float:
        """Raise DivergenceError for a step on a single row."""
        assert self.state is not None
        self.state.restart(self.plan.learning_rates(rate))
        raise DivergenceError(
            f"a step with learning rate {rate:g} would make the loss, a weight or the "
            "optimizer's state infinite or NaN; the weights are unchanged",
            0,
            History(loss=[]),
        )

    def resolve_optimizer(
        self, optimizer: OptimizerName | Optimizer | None, learning_rate: float | None
    ) -> tuple[Optimizer, float]:
        """Return the optimizer and the learning rate to use.

        `optimizer` is by default that of the last training, or SGD before the first one.
        """
        if optimizer is None:
            optimizer = self.state.optimizer if self.state is not None else SGD()
        return resolve_optimizer(optimizer, learning_rate)

    def copy(self) -> Trainer:
        """Return an independent copy, with the same loss and initialiser objects."""
        twin = Trainer(self.dtype, copy.deepcopy(self.rng))
        twin.n_inputs = self.n_inputs
        now = self.committed
        if now.plan is not None:
            state = None if now.state is None else now.state.copy()
            twin.adopt(now.plan.model.copy(), state, now.loss, copy.deepcopy(now.history))
        return twin

    # A copy of the attributes would have the same layers, which belong to one trainer.
    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Trainer:
        return self.copy()


def _attach(layers: Sequence[BaseLayer], trainer: Trainer) -> None:
    for i, layer in enumerate(layers):
        layer.attach(trainer, default_name(i))
        _attach(layer.children, trainer)
