"""What happens around epochs: evaluation, history, progress and callbacks."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnet._epochs import Epochs
from cnet._plan import Plan
from cnet.callbacks import Callback, check_monitors
from cnet.data import Data, Source
from cnet.history import History
from cnet.metrics import METRICS, Metric, Truth, values_of
from cnet.progress import Progress
from cnet.schedules import Scheduler

# The arguments that make training record these values.
_REQUIREMENTS = {
    "val_loss": "validation_data or validation_split",
    **{f"{prefix}{name}": f"metrics={name!r}" for name in METRICS for prefix in ("", "val_")},
}

# Rows that are copied at a time to compute metrics.
_METRIC_ROWS = 8192


@dataclass(frozen=True, eq=False, repr=False)
class Evaluator:
    """What is computed after each epoch: metrics, and the loss on validation data.

    Attributes
    ----------
    metrics : sequence of Metric
    validation : Data or None
    """

    metrics: Sequence[Metric] = ()
    validation: Data | None = None

    @property
    def names(self) -> list[str]:
        """Names of the values, except the loss on the training data."""
        names = [metric.name for metric in self.metrics]
        if self.validation is not None:
            names += ["val_loss"] + [f"val_{name}" for name in names]
        return names

    def values(self, epochs: Epochs) -> dict[str, float]:
        """Return all values by name."""
        return {**self._of_training(epochs), **self._of_validation(epochs)}

    def try_out(self, epochs: Epochs) -> None:
        """Compute some of the values, so that what would fail after the first epoch fails before it."""
        if not self._of_validation(epochs):
            self._of_training(epochs)

    def _of_training(self, epochs: Epochs) -> dict[str, float]:
        if not self.metrics:
            return {}
        return values_of(self.metrics, *_truth_and_outputs(epochs.plan, epochs.source))

    def _of_validation(self, epochs: Epochs) -> dict[str, float]:
        data, plan, settings = self.validation, epochs.plan, epochs.settings
        if data is None:
            return {}
        outputs = np.empty((len(data.x), plan.n_outputs), plan.dtype)
        loss = plan.loss(
            data,
            settings.loss,
            reduction=settings.reduction,
            divide_penalties=settings.divide_penalties,
            outputs=outputs,
        )
        values = values_of(self.metrics, Truth(data.targets, data.labels), outputs)
        return {"val_loss": loss, **{f"val_{name}": value for name, value in values.items()}}


def _truth_and_outputs(plan: Plan, source: Source) -> tuple[Truth, NDArray[Any]]:
    """Return the targets and the outputs for all rows of a source."""
    targets, labels, outputs = [], [], []
    for data, rows in source.parts(None, 1):
        if rows is None:
            targets.append(data.targets)
            labels.append(data.labels)
            outputs.append(plan.forward(data.x))
        else:
            targets.append(data.targets[rows] if data.targets.size else data.targets)
            labels.append(data.labels[rows] if data.labels.size else data.labels)
            outputs += [
                plan.forward(data.x[rows[start : start + _METRIC_ROWS]])
                for start in range(0, len(rows), _METRIC_ROWS)
            ]
    return Truth(_joined(targets), _joined(labels)), _joined(outputs)


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class Recorder:
    """Records epochs in a history, shows them, and calls the callbacks.

    Parameters
    ----------
    network : NeuralNetwork
        The network that callbacks get.
    names : sequence of str
        Names of the values that are recorded.
    callbacks : sequence of Callback
    progress : Progress, optional
        What shows the epochs.
    scheduler : Scheduler, optional
        What sets the learning rate according to the recorded values.
    logged : sequence of str
        Names of values that callbacks add to the logs.

    Attributes
    ----------
    callbacks : sequence of Callback
    history : History
        That of the current training.

    Raises
    ------
    ValueError
        If a callback or the scheduler monitors something that is not recorded.
    """

    def __init__(
        self,
        network: Any,
        names: Sequence[str],
        callbacks: Sequence[Callback],
        *,
        progress: Progress | None = None,
        scheduler: Scheduler | None = None,
        logged: Sequence[str] = (),
    ) -> None:
        check_monitors((scheduler, *callbacks), [*names, *logged], _REQUIREMENTS)
        self.callbacks = callbacks
        self.history = History()
        self._network = network
        self._names = names
        self._progress = progress or Progress(False, 0, 0, 1.0)
        self._scheduler = scheduler

    @contextmanager
    def training(self, history: History) -> Iterator[None]:
        """Context manager: a training that is recorded in `history`."""
        history.update({name: [] for name in self._names})
        self.history = history
        with self._progress:
            for callback in self.callbacks:
                callback.on_train_begin(self._network)
            yield
            for callback in self.callbacks:
                callback.on_train_end(self._network, history)

    @property
    def epochs_at_once(self) -> int:
        """Number of epochs that may run before the next call of `end_epochs`."""
        return min((callback.epochs_at_once for callback in self.callbacks), default=sys.maxsize)

    def begin_epoch(self, epoch: int) -> None:
        """Call the callbacks before an epoch."""
        for callback in self.callbacks:
            callback.on_epoch_begin(self._network, epoch)

    def end_epochs(
        self,
        first: int,
        recorded: Mapping[str, list[float]],
        totals: NDArray[np.float64] | None = None,
    ) -> bool:
        """Record epochs; return whether a callback stops training.

        Parameters
        ----------
        first : int
            Number of the first of the epochs, from 0.
        recorded : mapping of str to list of float
            The values of each epoch, by name.
        totals : ndarray, optional
            The total loss of each epoch, as shown by `progress`.
        """
        # Name by name, because an epoch of a tiny network takes less time than a line of Python.
        for name, values in recorded.items():
            self.history[name] += values
        if totals is not None:
            self._progress.epochs(first, totals, recorded)
        scheduler = self._scheduler
        if scheduler is not None and scheduler.epochs_known > 1 and not self.callbacks:
            scheduler = None
        stop = False
        if self.callbacks or scheduler is not None:
            for i in range(len(recorded["loss"])):
                logs = {name: values[i] for name, values in recorded.items()}
                if scheduler is not None:
                    scheduler.observe(logs)
                for callback in self.callbacks:
                    stop = bool(callback.on_epoch_end(self._network, first + i, logs)) or stop
        return stop
