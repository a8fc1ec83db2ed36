"""The loop above the engine: epochs, their order and losses, validation, callbacks, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnet._arrays import Data, aligned_empty
from cnet._core import engine
from cnet._program import NO_ROWS, Program
from cnet.callbacks import Callback, check_monitors
from cnet.losses import CrossEntropy, Loss, LossFunction, SquaredError, call_loss
from cnet.metrics import METRICS, Metric, Truth, values_of
from cnet.optimizers import OptimizerState
from cnet.progress import Progress
from cnet.schedules import Schedule, Scheduler
from cnet.threads import get_num_threads

# Multiplications of one call of the engine, where an epoch takes fewer: about 1 ms, in which the cost
# of a call is lost, and which nobody notices between an epoch and its line of output.
_CALL_WORK = 3_000_000

_NO_SEEDS = np.empty(0, np.uint64)

# What has to be asked for to be recorded, and how.
_WANTS = {
    "val_loss": "validation_data or validation_split",
    **{f"{prefix}{name}": f"metrics={name!r}" for name in METRICS for prefix in ("", "val_")},
}

# Rows that are brought together at a time to have metrics computed.
_METRIC_ROWS = 8192


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
    made: their mean, or with ``reduction="sum"`` their sum, and the layers' penalties. Where they were
    asked for there are ``"val_loss"`` and, by their names, metrics, with ``"val_"`` before those of the
    validation data, all from after the epoch, and ``"learning_rate"``, that of its first step.
    """

    def to_pandas(self) -> Any:
        """Return a pandas.DataFrame with a column for each list and a row for each epoch.

        Raises
        ------
        ImportError
            Where pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_pandas wants pandas: pip install pandas") from error
        return pd.DataFrame(dict(self)).rename_axis("epoch")


@dataclass(frozen=True)
class Settings:
    """How to train; every value already checked.

    Attributes
    ----------
    loss : Loss or callable
    reduction : {"mean", "sum", "weighted_mean"}
        How the loss of a batch comes from its rows': a weighted mean is over the sum of their weights.
    learning_rate : float
    epochs : int
    batch_size : int or None
        None: all rows at once.
    shuffle : bool
    schedule : Schedule, callable or None
        What becomes of the learning rate.
    divide_penalties : bool
        Whether a batch's penalties are divided by what the sum over its rows is divided by, with a
        function as loss by their number.
    recorded_scale : float
        What the rows' losses are multiplied by where they are recorded, unlike the penalties and the
        gradient; not those of a function.
    order : callable or None
        ``order(n)`` returns the order in which an epoch takes its n rows; None: it is drawn.
    """

    loss: Loss | LossFunction
    reduction: str
    learning_rate: float
    epochs: int
    batch_size: int | None
    shuffle: bool
    schedule: Schedule | None = None
    divide_penalties: bool = False
    recorded_scale: float = 1.0
    order: Callable[[int], NDArray[np.intp]] | None = None


class Run:
    """The arrays of one training run, and the ways of taking epochs through them.

    Parameters
    ----------
    program, data, state, settings, rng
        What is trained, on what, from which state of the optimizer, how, and whence the order of rows
        and what is dropped come.
    rows : ndarray of shape (n,), intp, optional
        Which rows of the data to train on; by default all.

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
        rows: NDArray[np.intp] | None = None,
    ) -> None:
        n = len(data.x) if rows is None else len(rows)
        self.program = program
        self.data = data
        self.state = state
        self.settings = settings
        self.rng = rng
        self.rows = rows
        self.n = n
        self.batch_size = min(settings.batch_size or n, n)
        self.n_steps = -(-n // self.batch_size)
        self.first_batch = 0  # its number to callbacks
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
        self.optimizer_settings = state.optimizer.settings()
        self.set_learning_rate(settings.learning_rate)
        # A step has a cost of its own, and the optimizer's for each parameter.
        work = n * program.row_work + self.n_steps * (100 + 10 * n_parameters)
        self.epochs_per_call = max(1, _CALL_WORK // work) if isinstance(settings.loss, Loss) else 1

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the epochs to come."""
        self.rates = np.array([rate])

    def epochs(
        self, count: int, callbacks: list[Callback] | None = None, network: Any = None
    ) -> tuple[NDArray[np.float64], BaseException | None]:
        """Train `count` epochs; return the totals of those that finished, and what ended them early.

        Whatever does, the parameters are those of the last finished epoch, and the optimizer starts
        anew, for its state belongs to weights that are gone. With `callbacks`, one epoch, whose batches
        they are told of.
        """
        totals = np.full(count, np.nan)
        error: BaseException | None = None
        try:
            if isinstance(self.settings.loss, Loss) and not callbacks:
                order, seeds = self._drawn(count)
                finished = self._train(
                    self.settings.loss, order, seeds, self.rates, totals, self.finished
                )
            else:
                finished = self._epoch_by_batches(totals, callbacks or [], network)
        except BaseException as raised:  # Ctrl-C too: what came before it is to be recorded
            error = raised
            finished = int(np.count_nonzero(~np.isnan(totals)))
        if finished < count:
            self.state.restart(self.settings.learning_rate)
        return totals[:finished], error

    def assessed(self, assessment: Assessment) -> dict[str, list[float]]:
        """Return what an epoch's assessment says; where it fails, so does the epoch."""
        try:
            values = {**assessment.of_training(self), **assessment.of_validation(self)}
        except BaseException:
            np.copyto(self.program.parameters, self.finished)
            self.state.restart(self.settings.learning_rate)
            raise
        return {name: [value] for name, value in values.items()}

    def _drawn(self, count: int) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
        """Return the rows' order and the seed of dropout of each of `count` epochs."""
        if self.program.drops and count > 1:
            # One after the other from the one stream, as they would be if each were a call.
            orders, seeds = zip(*(self._drawn(1) for _ in range(count)), strict=True)
            return np.concatenate(orders), np.concatenate(seeds)
        return self._order(count), self._seeds(count)

    def _order(self, count: int) -> NDArray[np.intp]:
        """Rows in the order in which each of `count` epochs takes them; empty: as they are."""
        if self.settings.order is not None:
            order = np.empty((count, self.n), np.intp)
            for epoch in range(count):
                order[epoch] = self.settings.order(self.n)
        elif self.settings.shuffle:
            order = np.empty((count, self.n), np.intp)
            # Not NumPy's permuted, which takes three times as long: a quarter of a tiny network's epoch.
            engine.shuffle(self.rng.bit_generator, order)
        elif self.rows is not None:
            return np.tile(self.rows, (count, 1))
        else:
            return np.empty((0, 0), np.intp)
        return order if self.rows is None else self.rows[order]

    def _seeds(self, count: int) -> NDArray[np.uint64]:
        """Return what each epoch's dropout is drawn from; empty: there is none."""
        if not self.program.drops:
            return _NO_SEEDS
        return self.rng.integers(1, 2**63, count, np.uint64)

    def _train(
        self,
        loss: Loss,
        order: NDArray[np.intp],
        seeds: NDArray[np.uint64],
        rates: NDArray[np.float64],
        totals: NDArray[np.float64],
        finished: NDArray[Any],
    ) -> int:
        return engine.train(
            self.program.rows,
            self.program.parameters,
            self.data.x,
            self.data.targets,
            self.data.labels,
            self.data.sample_weight,
            loss.code,
            loss.setting,
            engine.REDUCTIONS[self.settings.reduction],
            self.settings.divide_penalties,
            self.settings.recorded_scale,
            order,
            seeds,
            self.batch_size,
            self.state.optimizer.code,
            self.optimizer_settings,
            rates,
            self.state.steps,
            self.state.moments,
            self.gradient,
            finished,
            self.workspace,
            self.capacity,
            totals,
            self.threads,
        )

    def _epoch_by_batches(
        self, totals: NDArray[np.float64], callbacks: list[Callback], network: Any
    ) -> int:
        """One epoch, batch by batch, for a loss in Python or callbacks that are told of each."""
        parameters = self.program.parameters
        loss = self.settings.loss
        order, seeds = self._drawn(1)
        rows = order[0] if order.size else np.arange(self.n)
        complete = False
        total = 0.0
        np.copyto(self.finished, parameters)
        before = aligned_empty(len(parameters) if isinstance(loss, Loss) else 0, self.program.dtype)
        try:
            for batch, start in enumerate(range(0, self.n, self.batch_size)):
                chosen = rows[start : start + self.batch_size]
                rate = self.rates[batch : batch + 1] if len(self.rates) > 1 else self.rates
                for callback in callbacks:
                    callback.on_batch_begin(network, self.first_batch + batch)
                if isinstance(loss, Loss):
                    one = np.full(1, np.nan)
                    made = self._train(loss, chosen[np.newaxis], seeds, rate, one, before)
                    # A step that the engine has taken back, for weights that overflow.
                    value = float(one[0]) if made else math.nan
                else:
                    value = self._called_batch(loss, chosen, float(rate[0]), batch, seeds)
                total += value
                if not math.isfinite(total):
                    break
                if callbacks:
                    size = len(chosen)
                    shown = value if self.settings.reduction == "sum" else value / size
                    for callback in callbacks:
                        callback.on_batch_end(
                            network, self.first_batch + batch, {"loss": shown, "size": size}
                        )
            else:
                complete = all(map(engine.all_finite, (parameters, *self.state.moments)))
        finally:
            if not complete:
                np.copyto(parameters, self.finished)
        totals[0] = total
        return int(complete)

    def _called_batch(
        self,
        loss: LossFunction,
        rows: NDArray[np.intp],
        rate: float,
        batch: int,
        seeds: NDArray[np.uint64],
    ) -> float:
        """One step by a loss in Python; returns what the batch adds to the epoch's total."""
        program, parameters = self.program, self.program.parameters
        x, targets = self.data.x[rows], self.data.targets[rows]
        outputs = np.empty((len(x), program.n_outputs), program.dtype)
        key = (int(seeds[0]) + batch) | 1 << 63 if seeds.size else 0
        engine.forward(
            program.rows,
            parameters,
            x,
            outputs,
            self.workspace,
            self.capacity,
            self.block,
            self.threads,
            False,
            key,
        )
        value, gradient = call_loss(loss, targets, outputs)
        penalty_scale = 1 / len(x) if self.settings.divide_penalties else 1.0
        value += penalty_scale * engine.penalty(program.rows, parameters)
        if not math.isfinite(value):
            return value
        engine.backward(
            program.rows,
            parameters,
            x,
            gradient,
            penalty_scale,
            self.workspace,
            self.capacity,
            self.block,
            self.gradient,
            NO_ROWS[program.dtype],
            self.threads,
            key != 0,
        )
        self.state.steps += 1
        engine.apply_update(
            program.rows,
            self.state.optimizer.code,
            self.optimizer_settings,
            rate,
            int(self.state.steps[0]),
            parameters,
            self.gradient,
            self.state.moments,
            self.threads,
        )
        # A user's value is its batch's mean or sum already.
        return value if self.settings.reduction == "sum" else value * len(x)


def learner(
    program: Program,
    loss: Loss,
    state: OptimizerState,
    learning_rate: float,
    rng: np.random.Generator,
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
        state.optimizer.settings(),
        learning_rate,
        int(rng.integers(1, 2**63)) if program.drops else 0,
        state.steps,
        state.moments,
        aligned_empty(n_gradient, program.dtype),
        aligned_empty(n_parameters, program.dtype),
        program.workspace(1, 1),
    )


@dataclass(frozen=True)
class Assessment:
    """What is computed after each epoch: metrics, and the loss on validation data.

    Attributes
    ----------
    metrics : list of Metric
    validation : Data or None
    """

    metrics: list[Metric]
    validation: Data | None

    @property
    def names(self) -> list[str]:
        """What is recorded of an epoch beside its loss."""
        names = [metric.name for metric in self.metrics]
        if self.validation is not None:
            names += ["val_loss"] + [f"val_{name}" for name in names]
        return names

    def of_training(self, run: Run) -> dict[str, float]:
        """Return the metrics on the rows that are trained on."""
        if not self.metrics:
            return {}
        x, rows = run.data.x, run.rows
        if rows is None:
            outputs = run.program.forward(x)
            truth = Truth(run.data.targets, run.data.labels)
        else:
            parts = [rows[i : i + _METRIC_ROWS] for i in range(0, len(rows), _METRIC_ROWS)]
            outputs = np.concatenate([run.program.forward(x[part]) for part in parts])
            labels = run.data.labels
            truth = Truth(
                run.data.targets if labels.size else run.data.targets[rows],
                labels[rows] if labels.size else labels,
            )
        return values_of(self.metrics, truth, outputs)

    def of_validation(self, run: Run) -> dict[str, float]:
        """Return the loss and the metrics on the validation data."""
        data = self.validation
        if data is None:
            return {}
        settings = run.settings
        outputs = np.empty((len(data.x), run.program.n_outputs), run.program.dtype)
        loss = run.program.loss(
            data,
            settings.loss,
            reduction=settings.reduction,
            divide_penalties=settings.divide_penalties,
            outputs=outputs,
        )
        values = values_of(self.metrics, Truth(data.targets, data.labels), outputs)
        return {"val_loss": loss, **{f"val_{name}": value for name, value in values.items()}}


class Training:
    """A run with all that goes with it, ready to start.

    Parameters
    ----------
    run : Run
    verbose : bool or "bar"
        Print a line after each epoch, or show a bar.
    callbacks : list of Callback
    assessment : Assessment
        What to compute after each epoch.
    logged : iterable of str
        What a callback adds to the logs, for those after it to monitor.

    Raises
    ------
    ValueError
        Where a callback or the schedule monitors what is not recorded; and what the loss on the
        validation data or a metric raises, which are computed once.
    ImportError
        Where a bar is wanted and tqdm is not installed.
    """

    def __init__(
        self,
        run: Run,
        *,
        verbose: bool | str,
        callbacks: list[Callback],
        assessment: Assessment,
        logged: Iterable[str] = (),
    ) -> None:
        settings = run.settings
        self.run = run
        self.callbacks = callbacks
        self.assessment = assessment
        self.names = ["loss", *assessment.names]
        self.pace: Scheduler | None = None
        if settings.schedule is not None:
            self.names.append("learning_rate")
            self.pace = Scheduler(settings.schedule, settings.learning_rate, run.state)
            self.pace.begin(run.n, run.n_steps, settings.epochs, self.names)
        check_monitors((self.pace, *callbacks), [*self.names, *logged], _WANTS)
        # The tutorial's total error leaves out the half that makes the gradient neat.
        printed = 2.0 if isinstance(settings.loss, SquaredError) else 1.0
        self.progress = Progress(verbose, settings.epochs, run.n, printed)
        # What would fail after the first epoch fails before it.
        if not assessment.of_validation(run):
            assessment.of_training(run)

    def start(self, network: Any, history: History) -> None:
        """Train the run's parameters, recording into `history` as epochs finish.

        Parameters
        ----------
        network : NeuralNetwork
            What callbacks are given.
        history : History

        Raises
        ------
        DivergenceError
            Where the loss, a weight or the optimizer's state stops being finite.
        """
        run, settings, pace = self.run, self.run.settings, self.pace
        history.update({name: [] for name in self.names})
        batch_callbacks = [callback for callback in self.callbacks if callback.watches_batches]
        one_by_one = bool(self.assessment.names or (pace and pace.epochs_known == 1))
        most = 1 if one_by_one else run.epochs_per_call
        with self.progress as progress:
            for callback in self.callbacks:
                callback.on_train_begin(network)
            epoch = 0
            stop = False
            while epoch < settings.epochs and not stop:
                for callback in self.callbacks:
                    callback.on_epoch_begin(network, epoch)
                patience = (callback.epochs_at_once for callback in self.callbacks)
                count = max(1, min(most, settings.epochs - epoch, *patience))
                if pace:
                    run.rates = pace.rates(epoch, count)
                totals, error = run.epochs(count, batch_callbacks, network)
                losses = totals if settings.reduction == "sum" else totals / run.n
                recorded = {"loss": losses.tolist()}
                if pace:
                    recorded["learning_rate"] = np.resize(
                        run.rates[:: run.n_steps], len(totals)
                    ).tolist()
                if one_by_one and len(totals):
                    recorded.update(run.assessed(self.assessment))
                # All at once: an epoch of a tiny network takes less time than a line of Python.
                for name, values in recorded.items():
                    history[name] += values
                progress.epochs(epoch, totals, recorded)
                for i in range(len(totals) if one_by_one or self.callbacks else 0):
                    logs = {name: values[i] for name, values in recorded.items()}
                    if pace:
                        pace.observe(logs)
                    for callback in self.callbacks:
                        stop = bool(callback.on_epoch_end(network, epoch + i, logs)) or stop
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
                        history,
                    )
            for callback in self.callbacks:
                callback.on_train_end(network, history)
