"""NeuralNetwork: the class that users build and train."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnet._arrays import DType, as_dtype
from cnet._checks import as_flag, as_integer, as_number
from cnet._epochs import Reduction, TrainingSettings
from cnet._pickling import trainer_from_dict, trainer_to_dict
from cnet.building import Building
from cnet.callbacks import Callbacks, as_callbacks
from cnet.data import ClassWeight, Data, DenseRows, validation_rows, with_class_weight
from cnet.history import DivergenceError, History
from cnet.inference import AnyLoss, Inference
from cnet.layers import BaseLayer
from cnet.losses import Loss
from cnet.metrics import Metrics, resolve_metrics
from cnet.optimizers import Optimizer, OptimizerName
from cnet.progress import Verbose, as_verbose
from cnet.recording import Evaluator
from cnet.schedules import RateFunction, Schedule, ScheduleName, resolve_schedule
from cnet.training import Trainer

Seed: TypeAlias = (
    int
    | Sequence[int]
    | np.random.SeedSequence
    | np.random.BitGenerator
    | np.random.Generator
    | None
)
ValidationData: TypeAlias = (
    tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike] | None
)
AnyOptimizer: TypeAlias = OptimizerName | Optimizer


class NeuralNetwork(Building, Inference):
    """A fully connected network.

    Parameters
    ----------
    *layers : Layer
        The layers, unless they are added one by one with `add_layer`. Each has as many inputs as the
        layer before it has neurons.
    seed : int, numpy.random.Generator or similar, optional
        Source of initial weights, shuffling and dropout: anything that ``numpy.random.default_rng``
        takes. On the same machine, the same seed gives bit-for-bit the same network.
    dtype : {"float32", "float64"}, default "float32"
        The dtype of weights and computations.

    Attributes
    ----------
    trainer : Trainer
        Everything that training changes.

    Raises
    ------
    ValueError
        If the layers do not fit together, or the dtype or seed is invalid.

    Examples
    --------
    >>> import cnet
    >>> net = cnet.NeuralNetwork(seed=0)
    >>> net.add_layer(2, input_layer=True).add_layer(3, "tanh").add_layer(1)
    NeuralNetwork(2, 3 tanh, 1 sigmoid; 13 parameters, float32)
    """

    def __init__(self, *layers: BaseLayer, seed: Seed = None, dtype: DType = "float32") -> None:
        try:
            rng = np.random.default_rng(seed)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"seed must be None, an integer of at least 0 or a numpy.random.Generator, "
                f"got {seed!r}"
            ) from error
        self.trainer = Trainer(as_dtype(dtype), rng)
        self.add(*layers)

    # Training

    def train(
        self,
        x: ArrayLike,
        y: ArrayLike,
        learning_rate: float | None = None,
        epochs: int = 100,
        *,
        batch_size: int | None = 1,
        optimizer: AnyOptimizer | None = None,
        loss: AnyLoss | None = None,
        reduction: Reduction = "mean",
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        validation_data: ValidationData = None,
        validation_split: float = 0.0,
        metrics: Metrics = (),
        schedule: ScheduleName | Schedule | RateFunction | None = None,
        verbose: Verbose = True,
        callbacks: Callbacks = (),
    ) -> History:
        """Train the network.

        A further call continues from the current weights, and also from the optimizer's state unless
        another optimizer is passed. The optimizer and the loss are kept for later calls; the other
        arguments are not.

        Parameters
        ----------
        x : array-like of shape (n, n_inputs)
        y : array-like of shape (n, n_outputs), or (n,)
            Targets. One dimension means the targets of a single output, or integer labels from 0.
        learning_rate : float, optional
            Step size; by default the optimizer's, even if an earlier call was given another. For Rprop
            it is the size of the first step.
        epochs : int, default 100
            Number of passes through all rows.
        batch_size : int or None, default 1
            Number of rows per update; None: all rows. At least 2 with a trainable `BatchNorm`.
        optimizer : str or Optimizer, optional
            sgd, adam, adamw, rmsprop, adagrad, rprop, or an object such as ``cnet.SGD(momentum=0.9)``.
            By default that of the last training, or sgd before the first one.
        loss : str, Loss or callable, optional
            squared_error, absolute_error, huber, "quantile(q)", binary_cross_entropy, cross_entropy,
            poisson, an object such as ``cnet.Huber(0.5)``, or "auto": cross_entropy after softmax and
            squared_error otherwise. By default that of the last training, or "auto" at first. A
            function ``loss(y_true, y_pred) -> (value, gradient)`` is called for every batch with arrays
            of shape (rows, n_outputs). It returns a number, and its gradient with respect to y_pred. It
            does its own reduction over the rows.
        reduction : {"mean", "sum", "weighted_mean"}, default "mean"
            How the losses of a batch's rows are combined: "mean" divides their weighted sum by the
            number of rows, "sum" does not divide it, and "weighted_mean" divides it by the sum of the
            sample weights. The penalties of the layers, l1 and l2, are added to the result.
        shuffle : bool, default True
            Whether each epoch goes through the rows in a new random order.
        sample_weight : array-like of shape (n,), optional
            Factor of each row's loss, 0 or more.
        class_weight : dict of int to float, or "balanced", optional
            Factor of the losses of each class's rows, in addition to `sample_weight`. Classes that are
            not in the dict have the factor 1. "balanced" gives all classes the same total weight, with
            the factors n / (n_classes * number of rows). It requires labels, one-hot targets, or a
            single output with targets of 0 and 1.
        validation_data : tuple (x, y) or (x, y, sample_weight), optional
            Rows on which ``history["val_loss"]`` and the metrics are computed after each epoch.
        validation_split : float, default 0
            Alternatively, the fraction of x, above 0 and below 1, to hold out for validation: chosen at
            random, or the last rows if `shuffle` is False.
        metrics : str, callable, iterable or dict of them, default ()
            What to compute after each epoch, on the training and the validation data: accuracy, mae,
            mse, rmse; with scikit-learn also auc, balanced_accuracy, f1, log_loss, precision, r2 and
            recall (the mean over the classes if there are more than two); or functions
            ``metric(y_true, y_pred) -> float``. These get labels or targets, and the outputs, both of
            shape (n,) for a single output. A dict gives them other names.
        schedule : str, Schedule or callable, optional
            How the learning rate changes: constant, "step(every, factor)", "exponential(factor)",
            "cosine(warmup)", one_cycle, reduce_on_plateau, an object such as ``cnet.Cosine(warmup=5)``,
            or a function of the epoch, from 0, or of the epoch and the last rate, that returns the rate.
        verbose : bool or "bar", default True
            True, 1 or 2: print a line after each epoch, with its number, its total error (for
            squared_error the sum of squared differences, otherwise the sum of the rows' losses, each
            before the update of its batch), and everything else that is recorded. "bar": a progress bar
            from tqdm, with the loss, the metrics and the rows per second.
        callbacks : iterable of Callback or callable, default ()
            What to call during training. A function is called after each epoch with the network, the
            number of the epoch and its logs, and stops training by returning True.

        Returns
        -------
        History
            ``history["loss"]`` has a number for each epoch; see `History` for all values.

        Raises
        ------
        ValueError, TypeError
            If an argument is invalid. The network is unchanged.
        ImportError
            If scikit-learn or tqdm, which a metric or the progress bar requires, is not installed.
        RuntimeError
            If the network is being trained already.
        DivergenceError
            If the loss, a weight or the optimizer's state is no longer finite. The network then has
            the weights of the last finished epoch, as it does after Ctrl-C and after an exception in a
            loss, metric or callback. Errors on the validation data are raised before training starts.
        """
        trainer = self.trainer
        used_optimizer, rate = trainer.resolve_optimizer(optimizer, learning_rate)
        epochs = as_integer("epochs", epochs, 0)
        batch_size = None if batch_size is None else as_integer("batch_size", batch_size, 1)
        shuffle = as_flag("shuffle", shuffle)
        verbose = as_verbose(verbose)
        found_schedule = resolve_schedule(schedule)
        found_callbacks = as_callbacks(callbacks)
        found_metrics = resolve_metrics(metrics)
        split = as_number("validation_split", validation_split, 0, 1, open_high=True)
        if split and validation_data is not None:
            raise ValueError("validation_data and validation_split cannot be used together")
        plan, used_loss, data = self._objective(x, y, loss, reduction, sample_weight)
        if class_weight is not None and used_loss.in_python:
            raise ValueError(
                "class_weight must be None with a function as loss, which weights its rows itself"
            )
        plan.model.check_trainable()
        validation = self._as_validation(validation_data, used_loss)
        settings = TrainingSettings(
            used_loss,
            used_optimizer,
            rate,
            epochs,
            batch_size,
            reduction,
            shuffle,
            found_schedule,
        )
        with trainer.exclusive(plan) as transaction:
            rows = None
            if split:
                rng = transaction.rng
                rows, held_out = validation_rows(split, len(data.x), rng, shuffle=shuffle)
                validation = data.of_rows(held_out)
            if class_weight is not None:
                data = with_class_weight(data, class_weight, plan.n_outputs, rows)
            return transaction.train(
                self,
                DenseRows(data, rows),
                settings,
                callbacks=found_callbacks,
                evaluator=Evaluator(found_metrics, validation),
                verbose=verbose,
            )

    def train_one(
        self,
        x: ArrayLike,
        y: ArrayLike,
        learning_rate: float | None = None,
        *,
        optimizer: AnyOptimizer | None = None,
        loss: AnyLoss | None = None,
    ) -> float:
        """Train on one row: a single step of `train`, for data that arrive row by row.

        The step is the same as ``train([x], [y], epochs=1)``. For a small network it takes about a
        microsecond if `x` and `y` are NumPy arrays of floats (or `y` is a label or a number) and the
        optimizer and the loss are the objects of the last call. Otherwise the checks take about 40
        microseconds.

        Parameters
        ----------
        x : array-like of shape (n_inputs,)
        y : array-like of shape (n_outputs,), or a label, or a number for a single output
        learning_rate : float, optional
            By default that of the optimizer, as in `train`.
        optimizer, loss
            As in `train`: by default those of the last training; "sgd" and "auto" before the first one.

        Returns
        -------
        float
            The loss of the row before the step.

        Raises
        ------
        ValueError, TypeError
            If an argument is invalid. The network is unchanged.
        RuntimeError
            If the network is being trained already.
        DivergenceError
            If the loss, a weight or the optimizer's state would not be finite. The weights are
            unchanged.
        """
        return self.trainer.train_one(x, y, learning_rate, optimizer, loss)

    def backward_propagate(
        self, inputs: ArrayLike, expected_outputs: ArrayLike, learning_rate: float
    ) -> NDArray[Any]:
        """Train on one row by one step of plain gradient descent, as in the tutorial.

        The loss is that of the last training, or "auto" before the first one. There is no dropout.

        Parameters
        ----------
        inputs : array-like of shape (n_inputs,)
        expected_outputs : array-like of shape (n_outputs,), or a label
        learning_rate : float

        Returns
        -------
        ndarray of shape (n_outputs,)
            The outputs before the step.

        Raises
        ------
        ValueError, TypeError
            If an argument is invalid.
        DivergenceError
            If the step would make a weight infinite or NaN. The weights are unchanged.
        """
        rate = as_number("learning_rate", learning_rate, 0)
        names = ("inputs", "expected_outputs", "")
        plan, loss, data = self._objective(inputs, expected_outputs, None, "mean", None, names)
        if len(data.x) != 1:
            raise ValueError(f"inputs must be a single row, got {len(data.x)}")
        outputs = plan.forward(data.x)
        if not plan.descend(data, loss, rate):
            raise DivergenceError(
                f"a step with learning rate {rate:g} would make a weight infinite or NaN",
                0,
                History(loss=[]),
            )
        return outputs.reshape(-1)

    def _as_validation(self, given: Any, loss: Loss) -> Data | None:
        if given is None:
            return None
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError(
                f"validation_data must be a tuple (x, y) or (x, y, sample_weight), "
                f"got {type(given).__name__}"
            )
        x, y, *weights = given
        names = ("validation_data[0]", "validation_data[1]", "validation_data[2]")
        return self.trainer.objective(x, y, loss, weights[0] if weights else None, names)[2]

    # Copies

    def copy(self) -> Self:
        """Return an independent copy with the same weights, optimizer's state and random numbers.

        Pickling copies all of this as well, except custom initialisers and a function as loss.
        """
        twin = object.__new__(type(self))
        twin.__dict__.update(copy.deepcopy({**self.__dict__, "trainer": None}))
        twin.trainer = self.trainer.copy()
        return twin

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trainer": trainer_to_dict(self.trainer)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        trainer = trainer_from_dict(state.get("trainer"))
        self.__dict__.update(state)
        self.trainer = trainer
