"""Transaction: a change of a network that is committed by one assignment, and the loop over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from cnet._epochs import Epochs, TrainingSettings
from cnet._plan import Learner, Plan
from cnet.callbacks import Callback
from cnet.data import Source
from cnet.history import DivergenceError, History
from cnet.losses import Loss, LossFunction, LossName
from cnet.optimizers import Optimizer, OptimizerName, OptimizerState
from cnet.progress import Progress, Verbose
from cnet.recording import Evaluator, Recorder
from cnet.schedules import Scheduler


@dataclass(frozen=True, eq=False, repr=False)
class RowStep:
    """The step of the last call of `Trainer.train_one`, ready to be made again.

    Attributes
    ----------
    learner : Learner
    optimizer, loss
        The arguments of that call.
    has_default_rate : bool
        Whether that call left out the learning rate.
    layer_settings : object
        Identifies the settings of the layers at that call.
    """

    learner: Learner
    optimizer: OptimizerName | Optimizer | None
    loss: LossName | Loss | LossFunction | None
    has_default_rate: bool
    layer_settings: object


@dataclass(frozen=True, eq=False, repr=False)
class Committed:
    """What a network is at one moment. A change replaces the whole object by one assignment.

    Attributes
    ----------
    plan : Plan or None
        The plan of the network's model; None: there are no layers yet.
    state : OptimizerState or None
        State of the optimizer of the last training.
    loss : Loss or None
        Loss of the last training.
    history : History or None
        What the last training recorded.
    row_step : RowStep or None
        The last step on a single row, if nothing has changed since then.
    """

    plan: Plan | None = None
    state: OptimizerState | None = None
    loss: Loss | None = None
    history: History | None = None
    row_step: RowStep | None = None

    def state_for(self, optimizer: Optimizer, rate: float) -> OptimizerState:
        """Return the state if it is one of this optimizer, or else a new one."""
        assert self.plan is not None
        if self.state is None or self.state.optimizer != optimizer:
            plan = self.plan
            return optimizer.start(len(plan.parameters), plan.dtype, plan.learning_rates(rate))
        if self.state.optimizer is optimizer:
            return self.state
        # An equal optimizer may have another learning rate.
        return replace(self.state, optimizer=optimizer)


class Owner(Protocol):
    """What a transaction changes: a trainer."""

    committed: Committed
    rng: np.random.Generator

    @property
    def plan(self) -> Plan:
        """The plan of the model."""


class Transaction:
    """Exclusive access to a network. Made by `Trainer.exclusive`, and valid within its block."""

    def __init__(self, trainer: Owner) -> None:
        self._trainer = trainer
        self._before = trainer.committed
        self._random_state: Mapping[str, Any] | None = None

    @property
    def rng(self) -> np.random.Generator:
        """The network's random numbers.

        Draws are undone if an exception ends the block before something is committed.
        """
        rng = self._trainer.rng
        if self._random_state is None:
            self._random_state = rng.bit_generator.state
        return rng

    def undo_draws(self) -> None:
        """Restore the random numbers, unless something was committed."""
        if self._random_state is not None and self._trainer.committed is self._before:
            self._trainer.rng.bit_generator.state = self._random_state

    def set_loss(self, loss: Loss) -> None:
        """Make a loss that of the last training, for networks whose weights were trained elsewhere."""
        self._trainer.committed = replace(self._trainer.committed, loss=loss, row_step=None)

    def begin(self, loss: Loss, state: OptimizerState | None = None) -> History:
        """Commit the loss and the optimizer's state of a new training; return its empty history.

        Without `state`, the current one is kept.
        """
        now = self._trainer.committed
        history = History(loss=[])
        self._trainer.committed = Committed(now.plan, state or now.state, loss, history)
        return history

    def train(
        self,
        network: Any,
        source: Source,
        settings: TrainingSettings,
        *,
        callbacks: Sequence[Callback] = (),
        evaluator: Evaluator | None = None,
        verbose: Verbose = False,
        logged: Sequence[str] = (),
        state: OptimizerState | None = None,
        scheduler: Scheduler | None = None,
    ) -> History:
        """Train the network.

        Parameters
        ----------
        network : NeuralNetwork
            The network that callbacks get.
        source : Source
            The rows to train on.
        settings : TrainingSettings
        callbacks : sequence of Callback
        evaluator : Evaluator, optional
            What to compute after each epoch.
        verbose : bool or "bar"
        logged : sequence of str
            Names of values that callbacks add to the logs, so that the callbacks after them can monitor
            them.
        state : OptimizerState, optional
            By default the current one, or a new one if `settings` has another optimizer.
        scheduler : Scheduler, optional
            By default a new one for the schedule of `settings`.

        Returns
        -------
        History

        Raises
        ------
        ValueError
            If a callback or the schedule monitors something that is not recorded.
        ImportError
            If a progress bar is requested and tqdm is not installed.
        DivergenceError
            If the loss, a weight or the optimizer's state stops being finite.
        """
        trainer = self._trainer
        last_loss = trainer.committed.loss
        plan = trainer.plan
        plan.model.check_trainable()
        if state is None:
            state = trainer.committed.state_for(settings.optimizer, settings.learning_rate)
        evaluator = evaluator or Evaluator()
        epochs = Epochs(plan, source, state, settings, trainer.rng)
        names = ["loss", *evaluator.names]
        if settings.schedule is not None:
            names.append("learning_rate")
            scheduler = scheduler or Scheduler(settings.schedule, settings.learning_rate, state)
        if scheduler is not None:
            scheduler.begin(epochs.n, epochs.n_steps, settings.epochs, names)
        progress = Progress(verbose, settings.epochs, epochs.n, settings.loss.printed_scale)
        recorder = Recorder(
            network, names, callbacks, progress=progress, scheduler=scheduler, logged=logged
        )
        evaluator.try_out(epochs)
        # Everything is checked and allocated: from here on the network changes.
        history = self.begin(settings.loss, state)
        try:
            with recorder.training(history):
                _run(network, epochs, recorder, evaluator, scheduler)
        except BaseException:
            # A function that failed at once is not the loss that the network was trained with.
            if settings.loss.in_python and not history["loss"]:
                trainer.committed = replace(trainer.committed, loss=last_loss)
            raise
        return history


def _run(
    network: Any,
    epochs: Epochs,
    recorder: Recorder,
    evaluator: Evaluator,
    scheduler: Scheduler | None,
) -> None:
    """Go through all epochs, or until a callback stops training."""
    settings = epochs.settings
    batch_callbacks = [callback for callback in recorder.callbacks if callback.watches_batches]
    one_by_one = bool(evaluator.names or (scheduler and scheduler.epochs_known == 1))
    most = 1 if one_by_one else epochs.per_call
    epoch = 0
    stop = False
    while epoch < settings.epochs and not stop:
        recorder.begin_epoch(epoch)
        count = max(1, min(most, settings.epochs - epoch, recorder.epochs_at_once))
        if scheduler:
            epochs.rates = scheduler.rates(epoch, count)
        totals, error = epochs.run(count, batch_callbacks, network)
        losses = totals if settings.reduction == "sum" else totals / epochs.n
        recorded = {"loss": losses.tolist()}
        if settings.schedule is not None:
            first_rates = epochs.rates[:: epochs.n_steps].tolist()
            recorded["learning_rate"] = (
                first_rates * len(totals) if len(epochs.rates) == 1 else first_rates[: len(totals)]
            )
        if evaluator.names and len(totals):
            try:
                values = evaluator.values(epochs)
            except BaseException:
                epochs.undo()
                raise
            recorded.update({name: [value] for name, value in values.items()})
        stop = recorder.end_epochs(epoch, recorded, totals)
        epoch += len(totals)
        if error is not None:
            raise error
        if len(totals) < count:
            raise DivergenceError(
                "the loss, a weight or the optimizer's state stopped being a finite number in "
                f"epoch {epoch}; the network has the weights from before it. "
                f"A learning rate below {settings.learning_rate:g}, "
                "inputs scaled to about ±1, or an optimizer with clip_norm may help",
                epoch,
                recorder.history,
            )
