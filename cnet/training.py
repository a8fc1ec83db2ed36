"""The loop above the engine: epochs, their order and losses, callbacks, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._arrays import Data, aligned_empty
from cnet._core import engine
from cnet._program import NO_ROWS, Program
from cnet.losses import CrossEntropy, Loss, LossFunction, SquaredError, call_loss
from cnet.optimizers import OptimizerState
from cnet.threads import get_num_threads

# Multiplications of one call of the engine, where an epoch takes fewer: about 1 ms, in which the cost
# of a call is lost, and which nobody notices between an epoch and its line of output.
_CALL_WORK = 3_000_000


class DivergenceError(ArithmeticError):
    """Training stopped: the loss, a weight or the optimizer's state was no longer a finite number.

    The network has the weights of the last epoch that ended with finite ones.

    Attributes
    ----------
    epoch : int
        The epoch that failed, from 0.
    history : History
        The epochs before it.
    """

    def __init__(self, message: str, epoch: int, history: History) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.history = history

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.epoch, self.history)


class History(dict[str, list[float]]):
    """What training recorded: a dict of lists with one number for each epoch.

    ``history["loss"]`` is the loss over the epoch's rows, each taken before the update that its batch
    made: their mean, or with ``reduction="sum"`` their sum.
    """


class Callback:
    """Base of objects that training calls; each method does nothing unless overridden.

    An exception raised in one ends the training and leaves the network as the last epoch left it.
    """

    def on_train_begin(self, network: Any) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, network: Any, epoch: int) -> None:
        """Before an epoch, counted from 0."""

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> bool | None:
        """After an epoch. Return True to end the training.

        Parameters
        ----------
        network : NeuralNetwork
        epoch : int
            Counted from 0.
        logs : dict of str to float
            What `History` records of the epoch.
        """
        return None

    def on_train_end(self, network: Any, history: History) -> None:
        """After the last epoch, but not where training ended in an exception."""


EpochFunction: TypeAlias = Callable[[Any, int, dict[str, float]], "bool | None"]


class _FunctionCallback(Callback):
    """A plain function, called as `on_epoch_end` is."""

    def __init__(self, function: EpochFunction) -> None:
        self._function = function

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> bool | None:
        return self._function(network, epoch, logs)


def as_callbacks(callbacks: Any) -> list[Callback]:
    """Return a list of Callback objects, functions among `callbacks` wrapped into one."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        callbacks = (callbacks,)
    found = []
    for callback in callbacks:
        if isinstance(callback, Callback):
            found.append(callback)
        elif callable(callback) and not isinstance(callback, type):
            found.append(_FunctionCallback(callback))
        else:
            raise TypeError(
                "callbacks must be cnet.Callback objects or functions (network, epoch, logs), "
                f"got {callback!r}"
            )
    return found


@dataclass(frozen=True)
class Settings:
    """How to train; every value already checked.

    Attributes
    ----------
    loss : Loss or callable
    mean : bool
        Whether the loss of a batch is its rows' mean, or else their sum.
    learning_rate : float
    epochs : int
    batch_size : int or None
        None: all rows at once.
    shuffle : bool
    """

    loss: Loss | LossFunction
    mean: bool
    learning_rate: float
    epochs: int
    batch_size: int | None
    shuffle: bool


class Run:
    """The arrays of one training run, and the two ways of taking epochs through them.

    Parameters
    ----------
    program, data, state, settings, rng
        What is trained, on what, from which state of the optimizer, how, and whence the order of rows
        comes.

    Raises
    ------
    MemoryError
        Where there is no room for the arrays.
    """

    def __init__(
        self,
        program: Program,
        data: Data,
        state: OptimizerState,
        settings: Settings,
        rng: np.random.Generator,
    ) -> None:
        n = len(data.x)
        self.program = program
        self.data = data
        self.state = state
        self.settings = settings
        self.rng = rng
        self.n = n
        self.batch_size = min(settings.batch_size or n, n)
        n_parameters = len(program.parameters)
        self.block = program.block_rows(self.batch_size)
        # A function must see a batch as a whole, whose outputs then wait for their gradient.
        self.capacity = self.block if isinstance(settings.loss, Loss) else self.batch_size
        self.threads = get_num_threads()
        self.workspace = program.workspace(self.capacity, self.threads)
        # Where a batch is one block, a layer is updated as soon as a piece of its gradient is there,
        # unless the norm of all of it is wanted first.
        whole = self.batch_size > self.capacity or state.optimizer.clip_norm is not None
        whole = whole or not isinstance(settings.loss, Loss)
        self.gradient = aligned_empty(n_parameters if whole else 0, program.dtype)
        self.finished = aligned_empty(n_parameters, program.dtype)
        self.optimizer_settings = state.optimizer.settings(settings.learning_rate)
        # A step has a cost of its own, and the optimizer's for each parameter.
        n_steps = -(-n // self.batch_size)
        work = n * program.row_work + n_steps * (100 + 10 * n_parameters)
        self.epochs_per_call = max(1, _CALL_WORK // work) if isinstance(settings.loss, Loss) else 1

    def epochs(self, count: int) -> tuple[NDArray[np.float64], BaseException | None]:
        """Train `count` epochs; return the totals of those that finished, and what ended them early.

        Whatever does, the parameters are those of the last finished epoch, and the optimizer starts
        anew, for its state belongs to weights that are gone.
        """
        totals = np.full(count, np.nan)
        error: BaseException | None = None
        try:
            if isinstance(self.settings.loss, Loss):
                finished = self._compiled_epochs(self.settings.loss, totals)
            else:
                finished = self._called_epoch(self.settings.loss, totals)
        except BaseException as raised:  # Ctrl-C too: what came before it is to be recorded
            error = raised
            finished = int(np.count_nonzero(~np.isnan(totals)))
        if finished < count:
            self.state.restart(self.settings.learning_rate)
        return totals[:finished], error

    def _order(self, count: int) -> NDArray[np.intp]:
        """Rows in the order in which each of `count` epochs takes them; empty: as they are."""
        if not self.settings.shuffle:
            return np.empty((0, 0), np.intp)
        order = np.empty((count, self.n), np.intp)
        # Not NumPy's permuted, which takes three times as long: a quarter of a tiny network's epoch.
        engine.shuffle(self.rng.bit_generator, order)
        return order

    def _compiled_epochs(self, loss: Loss, totals: NDArray[np.float64]) -> int:
        return engine.train(
            self.program.rows,
            self.program.parameters,
            self.data.x,
            self.data.targets,
            self.data.labels,
            self.data.sample_weight,
            loss.code,
            loss.setting,
            self.settings.mean,
            self._order(len(totals)),
            self.batch_size,
            self.state.optimizer.code,
            self.optimizer_settings,
            self.state.steps,
            self.state.moments,
            self.gradient,
            self.finished,
            self.workspace,
            self.capacity,
            totals,
            self.threads,
        )

    def _called_epoch(self, loss: LossFunction, totals: NDArray[np.float64]) -> int:
        """One epoch with a loss in Python, which sees every batch."""
        program, parameters = self.program, self.program.parameters
        order = self._order(1)
        complete = False
        total = 0.0
        np.copyto(self.finished, parameters)
        try:
            for start in range(0, self.n, self.batch_size):
                batch = slice(start, min(start + self.batch_size, self.n))
                rows = order[0, batch] if self.settings.shuffle else batch
                x, targets = self.data.x[rows], self.data.targets[rows]
                outputs = np.empty((len(x), program.n_outputs), program.dtype)
                engine.forward(
                    program.rows,
                    parameters,
                    x,
                    outputs,
                    self.workspace,
                    self.capacity,
                    self.block,
                    self.threads,
                )
                value, gradient = call_loss(loss, targets, outputs)
                # A user's value is its batch's mean or sum already.
                total += value * len(x) if self.settings.mean else value
                if not math.isfinite(total):
                    break
                engine.backward(
                    program.rows,
                    parameters,
                    x,
                    gradient,
                    self.workspace,
                    self.capacity,
                    self.block,
                    self.gradient,
                    NO_ROWS[program.dtype],
                    self.threads,
                )
                self.state.steps += 1
                engine.apply_update(
                    self.state.optimizer.code,
                    self.optimizer_settings,
                    int(self.state.steps[0]),
                    parameters,
                    self.gradient,
                    self.state.moments,
                    self.threads,
                )
            else:
                complete = all(map(engine.all_finite, (parameters, *self.state.moments)))
        finally:
            if not complete:
                np.copyto(parameters, self.finished)
        totals[0] = total
        return int(complete)


def learner(
    program: Program, loss: Loss, state: OptimizerState, learning_rate: float
) -> engine.Learner:
    """Return what takes steps of the optimizer, each by one row.

    Raises
    ------
    MemoryError
        Where there is no room for its arrays.
    """
    n_parameters = len(program.parameters)
    # The norm of a gradient wants all of it.
    n_gradient = n_parameters if state.optimizer.clip_norm is not None else 0
    return engine.Learner(
        program.rows,
        program.parameters,
        aligned_empty(program.n_inputs + program.n_outputs, program.dtype),
        loss.code,
        loss.setting,
        isinstance(loss, CrossEntropy),
        loss.low,
        loss.high,
        state.optimizer.code,
        state.optimizer.settings(learning_rate),
        state.steps,
        state.moments,
        aligned_empty(n_gradient, program.dtype),
        aligned_empty(n_parameters, program.dtype),
        program.workspace(1, 1),
    )


def train(
    network: Any,
    run: Run,
    history: History,
    *,
    verbose: bool,
    callbacks: list[Callback],
) -> None:
    """Train the run's parameters, recording into `history` as epochs finish.

    Parameters
    ----------
    network : NeuralNetwork
        What callbacks are given.
    run : Run
    history : History
    verbose : bool
        Print a line after each epoch.
    callbacks : list of Callback

    Raises
    ------
    DivergenceError
        Where the loss, a weight or the optimizer's state stops being finite.
    """
    settings, n = run.settings, run.n
    # The tutorial's total error leaves out the half that makes the gradient neat.
    printed = 2.0 if isinstance(settings.loss, SquaredError) else 1.0
    for callback in callbacks:
        callback.on_train_begin(network)
    epoch = 0
    stop = False
    while epoch < settings.epochs and not stop:
        for callback in callbacks:
            callback.on_epoch_begin(network, epoch)
        # A callback wants to see the network after every epoch.
        count = 1 if callbacks else min(run.epochs_per_call, settings.epochs - epoch)
        totals, error = run.epochs(count)
        losses = (totals / n if settings.mean else totals).tolist()
        # All at once: an epoch of a tiny network takes less time than a line of Python.
        history["loss"] += losses
        if verbose or callbacks:
            for i, loss in enumerate(losses):
                if verbose:
                    print(f"Epoch: {epoch + i}, Total Error: {printed * totals[i]:.3f}")
                for callback in callbacks:
                    stop = bool(callback.on_epoch_end(network, epoch + i, {"loss": loss})) or stop
        epoch += len(losses)
        if error is not None:
            raise error
        if len(totals) < count:
            raise DivergenceError(
                "the loss, a weight or the optimizer's state stopped being a finite number in epoch "
                f"{epoch}; the network has the weights from before it. "
                f"A learning rate below {settings.learning_rate:g}, "
                "inputs scaled to about ±1, or an optimizer with clip_norm may help",
                epoch,
                history,
            )
    for callback in callbacks:
        callback.on_train_end(network, history)
