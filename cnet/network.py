"""NeuralNetwork: layers, training, prediction and what can be asked of a network."""

from __future__ import annotations

import copy
import math
import threading
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnet import metrics as metric_functions
from cnet import training
from cnet._arrays import (
    Data,
    aligned_empty,
    as_data,
    as_inputs,
    validation_rows,
    with_class_weight,
)
from cnet._checks import as_choice, as_flag, as_integer, as_number
from cnet._core.engine import Learner, Predictor
from cnet._program import Program
from cnet.callbacks import as_callbacks
from cnet.layers import MAX_NEURONS, Layer
from cnet.losses import Loss, LossFunction, resolve_loss
from cnet.optimizers import SGD, Optimizer, OptimizerState, resolve_optimizer
from cnet.schedules import RateFunction, Schedule, resolve_schedule

DTYPES = ("float32", "float64")
REDUCTIONS = ("mean", "sum", "weighted_mean")

_BOOLS = (bool, np.bool_)

# Rows that a predictor takes at a time, at most.
_PREDICTOR_ROWS = 128


class _RowStep(NamedTuple):
    """What `train_one` needs to make the same step again, and what it was called with."""

    learner: Learner
    learning_rate: float | None
    optimizer: str | Optimizer | None
    loss: str | Loss | LossFunction | None
    rate: float


class NeuralNetwork:
    """A fully connected network.

    Parameters
    ----------
    *layers : Layer
        The layers, if they are not added one by one with `add_layer`. Each takes as many inputs as the
        one before it has neurons.
    seed : int, numpy.random.Generator or the like, optional
        Whatever ``numpy.random.default_rng`` takes: where the starting weights and the order of rows
        come from. The same seed gives the same network, bit for bit, on the same machine.
    dtype : {"float32", "float64"}, default "float32"
        What the network computes in.

    Attributes
    ----------
    layers : tuple of Layer
        The layers with weights: all but the input layer.
    history : History or None
        What the last call of `train` recorded, also where it ended in an exception.

    Raises
    ------
    ValueError
        Where the layers do not fit together, or the dtype or seed is unknown.

    Examples
    --------
    >>> import cnet
    >>> net = cnet.NeuralNetwork(seed=0)
    >>> net.add_layer(2, input_layer=True).add_layer(3, "tanh").add_layer(1)
    NeuralNetwork(2, 3 tanh, 1 sigmoid; 13 parameters, float32)
    """

    def __init__(self, *layers: Layer, seed: Any = None, dtype: DTypeLike = "float32") -> None:
        self._dtype = _as_dtype(dtype)
        try:
            self._rng = np.random.default_rng(seed)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"seed must be None, an integer of at least 0 or a numpy.random.Generator, "
                f"got {seed!r}"
            ) from error
        self._n_inputs: int | None = None
        self._layers: list[Layer] = []
        self._program: Program | None = None
        self._state: OptimizerState | None = None
        self._loss: Loss | LossFunction | None = None
        self._lock = threading.Lock()  # held while it trains
        # For single rows, once there has been one: what they need, ready to be called.
        self._row_predictor: Predictor | None = None
        self._row_step: _RowStep | None = None
        self.history: training.History | None = None
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers must be cnet.Layer objects, got {layer!r}")
        if layers:
            self._extend(list(layers))

    # Layers

    def add_layer(
        self,
        num_neurons: int,
        activation: str = "sigmoid",
        input_layer: bool = False,
        *,
        bias: bool = True,
        init: Any = "auto",
        name: str | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        dropout: float = 0.0,
    ) -> Self:
        """Add a layer after those there are; the first says only how many inputs there are.

        The layer's weights are drawn at once. `parameters` becomes a new, longer array, and the state
        of an optimizer that has trained the shorter one is given up.

        Parameters
        ----------
        num_neurons : int
            How many neurons, or how many inputs for the input layer.
        activation : str, default "sigmoid"
            See `Layer`. The input layer has none.
        input_layer : bool, default False
            True for the first layer, and only there.
        bias, init, name, l1, l2, max_norm, dropout
            See `Layer`. The input layer has none of the last four.

        Returns
        -------
        NeuralNetwork
            The network itself, so that calls can be chained.

        Raises
        ------
        ValueError
            Where the first layer is not an input layer or a later one is, a layer would follow a
            softmax, a number is out of range or a name unknown.
        MemoryError
            Where there is no room for the weights.
        """
        num_neurons = as_integer("num_neurons", num_neurons, 1, MAX_NEURONS)
        n_inputs = self._layers[-1].n_neurons if self._layers else (self._n_inputs or 1)
        layer = Layer(
            n_inputs,
            num_neurons,
            activation,
            bias=bias,
            init=init,
            name=name,
            l1=l1,
            l2=l2,
            max_norm=max_norm,
            dropout=dropout,
        )
        if as_flag("input_layer", input_layer):
            for setting, value in layer.regularization.items():
                raise ValueError(
                    f"{setting} must be left out for the input layer, which has no weights and "
                    f"passes its inputs on as they are, got {value:g}"
                )
            if self._n_inputs is not None:
                raise ValueError(
                    f"input_layer must be True for the first layer only; this network has "
                    f"{self._n_inputs} inputs already"
                )
            self._n_inputs = num_neurons
            return self
        if self._n_inputs is None:
            raise ValueError(
                "input_layer must be True for the first layer: start with "
                "add_layer(n_inputs, input_layer=True)"
            )
        self._extend([layer])
        return self

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers with weights: all but the input layer."""
        return tuple(self._layers)

    @property
    def parameters(self) -> NDArray[Any]:
        """All weights and biases: one writable array, layer by layer, weights row by row, then biases.

        ``layers[i].weights`` and ``.biases`` are views of it.
        """
        return self._ready().parameters

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the network computes in, float32 or float64."""
        return self._dtype

    def _extend(self, added: list[Layer]) -> None:
        """Append layers: check all, then allocate, then draw; nothing is changed by a refusal."""
        if self._lock.locked():
            raise RuntimeError("layers cannot be added while the network is being trained")
        layers = [*self._layers, *added]
        names = set[str]()
        for i, layer in enumerate(layers):
            before = layers[i - 1] if i > 0 else None
            if before is not None and layer.n_inputs != before.n_neurons:
                raise ValueError(
                    f"layer {i + 1} must take {before.n_neurons} inputs, as many as layer {i} has "
                    f"neurons, got {layer.n_inputs}"
                )
            if before is not None and before.activation == "softmax":
                raise ValueError("softmax must be the last layer's activation; no layer can follow")
            name = layer.name or f"layer_{i + 1}"
            if name in names:
                raise ValueError(f"name must be of one layer only, got {name!r} twice")
            names.add(name)
        for i, layer in enumerate(added):
            if layer.attached or layer in added[:i]:
                raise ValueError(f"layers must not be part of a network already, got {layer!r}")
        program = Program(layers, self._dtype)
        # A user's initialiser may raise, or draw what is no set of weights.
        state = self._rng.bit_generator.state
        try:
            drawn = [layer.draw(self._rng, self._dtype) for layer in added]
        except BaseException:
            self._rng.bit_generator.state = state
            raise
        kept = len(self._program.parameters) if self._program is not None else 0
        if self._program is not None:
            program.parameters[:kept] = self._program.parameters
        program.parameters[kept:] = 0
        self._adopt(layers, program)
        for i, layer in enumerate(layers):
            layer.name = layer.name or f"layer_{i + 1}"
        for layer, weights in zip(added, drawn, strict=True):
            layer.weights = weights
        self._n_inputs = layers[0].n_inputs
        # Both belong to the outputs of before.
        self._state = None
        self._loss = None

    def _adopt(self, layers: list[Layer], program: Program) -> None:
        """Make `layers` views of the program's parameters, and both this network's."""
        start = 0
        for layer in layers:
            layer.bind(program.parameters, start)
            start += layer.n_parameters
        self._layers = layers
        self._program = program
        self._row_predictor = None
        self._row_step = None

    def _ready(self) -> Program:
        """Return the program, or say what is missing."""
        if self._program is None:
            missing = (
                "add_layer(n_inputs, input_layer=True) and then add_layer(n_neurons)"
                if self._n_inputs is None
                else "add_layer(n_neurons) after the input layer"
            )
            raise ValueError(f"the network has no layers; call {missing}")
        return self._program

    # Training

    def train(
        self,
        x: Any,
        y: Any,
        learning_rate: float | None = None,
        epochs: int = 100,
        *,
        batch_size: int | None = 1,
        optimizer: str | Optimizer | None = None,
        loss: str | Loss | LossFunction | None = None,
        reduction: str = "mean",
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Any = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        metrics: Any = (),
        schedule: str | Schedule | RateFunction | None = None,
        verbose: bool | int | str = True,
        callbacks: Any = (),
    ) -> training.History:
        """Train the network.

        Called again, it goes on from where it stands, the optimizer's state included, unless another
        optimizer is given. Optimizer and loss are remembered, the other arguments are not.

        Parameters
        ----------
        x : array-like of shape (n, n_inputs)
        y : array-like of shape (n, n_outputs), or (n,)
            Targets; in one dimension the targets of a single output, or integer labels from 0.
        learning_rate : float, optional
            Step size; by default the optimizer's own or usual one, whatever earlier calls were given.
            Rprop takes it for its very first step only.
        epochs : int, default 100
            How often to go through all rows.
        batch_size : int or None, default 1
            Rows from one update to the next; None: all of them.
        optimizer : str or Optimizer, optional
            sgd, adam, adamw, rmsprop, adagrad, rprop, or an object such as
            ``cnet.SGD(momentum=0.9)``. By default the one that the network was last trained with, and
            sgd at first.
        loss : str, Loss or callable, optional
            squared_error, absolute_error, huber, "quantile(q)", binary_cross_entropy, cross_entropy,
            poisson, an object such as ``cnet.Huber(0.5)``, or "auto": cross_entropy after softmax and
            squared_error otherwise. By default the one that the network was last trained with, and
            "auto" at first. A function ``loss(y_true, y_pred) -> (value, gradient)`` is called for every
            batch with arrays of shape (rows, n_outputs) and returns a number and its gradient by y_pred;
            reduction over the rows is its own affair.
        reduction : {"mean", "sum", "weighted_mean"}, default "mean"
            How a batch's loss, whose gradient is followed, comes from its rows': their mean, which is
            their sum over their number whatever the sample weights, their sum, or their sum over the sum
            of their weights. The layers' penalties, l1 and l2, are added to it as they are.
        shuffle : bool, default True
            Whether each epoch takes the rows in an order of its own.
        sample_weight : array-like of shape (n,), optional
            What each row's loss is multiplied by; 0 or more.
        class_weight : dict of int to float, or "balanced", optional
            What the losses of each class's rows are multiplied by, beside `sample_weight`; 1 for classes
            that a dict leaves out. "balanced" gives every class the same weight in all, by
            n / (n_classes * its number of rows). For labels, one-hot targets, and one output of 0 or 1.
        validation_data : tuple (x, y) or (x, y, sample_weight), optional
            Rows that are not trained on, for ``history["val_loss"]`` and the metrics after each epoch.
        validation_split : float, default 0
            Or the share of x, above 0 and below 1, that is held out for that: drawn at random or,
            without `shuffle`, the last rows.
        metrics : str, callable, iterable or dict of them, default ()
            What to compute after each epoch, on the rows trained on and on the validation data:
            accuracy, mae, mse, rmse, or with scikit-learn auc, balanced_accuracy, f1, log_loss,
            precision, r2 and recall (of more than two classes the mean over classes); or functions
            ``metric(y_true, y_pred) -> float``, which are given labels or targets and the outputs, of
            one output both of shape (n,). A dict gives them other names.
        schedule : str, Schedule or callable, optional
            What becomes of the learning rate: constant, "step(every, factor)", "exponential(factor)",
            "cosine(warmup)", one_cycle, reduce_on_plateau, an object such as ``cnet.Cosine(warmup=5)``,
            or a function of the epoch, from 0, or of the epoch and the rate before it, that returns the
            epoch's rate.
        verbose : bool or "bar", default True
            True, or 1 or 2: print a line after each epoch: its number and its total error, for
            squared_error the sum of squared differences, otherwise the sum of the rows' losses, each
            before the update that its batch made; then what else is recorded. "bar": a progress bar, by
            tqdm, with loss, metrics and rows per second.
        callbacks : iterable of Callback or callable, default ()
            What to call as training goes on; a plain function is called after each epoch with the
            network, the epoch's number and its logs, and ends the training by returning True.

        Returns
        -------
        History
            ``history["loss"]`` has a number for each epoch; see `History` for what else there may be.

        Raises
        ------
        ValueError, TypeError
            Where an argument is not what it should be; the network is as it was. What a function given
            as loss, a metric or a callback raises leaves the network as the last finished epoch did;
            what would fail on the validation data is seen before training starts.
        ImportError
            Where a metric wants scikit-learn or a bar tqdm, and it is not installed.
        RuntimeError
            Where the network is being trained already.
        DivergenceError
            Where the loss, a weight or the optimizer's state stops being finite; the network has the
            last finite weights.
        KeyboardInterrupt
            At Ctrl-C; the network has the weights of the last finished epoch.
        """
        program = self._ready()
        if optimizer is None:
            optimizer = self._state.optimizer if self._state is not None else SGD()
        used_optimizer, rate = resolve_optimizer(optimizer, learning_rate)
        epochs = as_integer("epochs", epochs, 0)
        batch_size = None if batch_size is None else as_integer("batch_size", batch_size, 1)
        shuffle = as_flag("shuffle", shuffle)
        verbose = _as_verbose(verbose)
        found_schedule = resolve_schedule(schedule)
        found_callbacks = as_callbacks(callbacks)
        found_metrics = metric_functions.resolve_metrics(metrics)
        split = as_number("validation_split", validation_split, 0, 1, open_high=True)
        if split and validation_data is not None:
            raise ValueError("validation_data and validation_split cannot be used together")
        _, used_loss, data = self._objective(x, y, loss, reduction, sample_weight)
        if class_weight is not None and not isinstance(used_loss, Loss):
            raise ValueError(
                "class_weight must be None with a function as loss, which weighs its rows itself"
            )
        self._check_trainable()
        validation = self._as_validation(validation_data, used_loss)
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "the network is being trained already, by another thread or from a callback"
            )
        try:
            state = self._state
            if state is None or state.optimizer != used_optimizer:
                state = used_optimizer.start(len(program.parameters), self._dtype, rate)
            settings = training.Settings(
                used_loss, reduction, rate, epochs, batch_size, shuffle, found_schedule
            )
            rows = None
            before = self._rng.bit_generator.state if split else None
            try:
                if split:
                    rows, held_out = validation_rows(split, len(data.x), self._rng, shuffle=shuffle)
                    validation = data.of_rows(held_out)
                if class_weight is not None:
                    data = with_class_weight(data, class_weight, program.n_outputs, rows)
                prepared = training.Training(
                    training.Run(program, data, state, settings, self._rng, rows),
                    verbose=verbose,
                    callbacks=found_callbacks,
                    assessment=training.Assessment(found_metrics, validation),
                )
            except BaseException:
                if before is not None:
                    self._rng.bit_generator.state = before
                raise
            # All memory is there, and all is checked: from here on the network changes.
            state.optimizer = used_optimizer  # an equal one may have another learning rate
            self._state = state
            self._row_step = None
            history = self.history = training.History(loss=[])
            last_loss, self._loss = self._loss, used_loss
            try:
                prepared.start(self, history)
            except BaseException:
                # A function that failed at once is not the loss that the network was trained with.
                if not isinstance(used_loss, Loss) and not history["loss"]:
                    self._loss = last_loss
                raise
        finally:
            self._lock.release()
        return history

    def forward_propagate(self, inputs: Any) -> NDArray[Any]:
        """Return the outputs for one row of inputs, as the tutorial calls it; the same as `predict`."""
        return self._predict(inputs, "inputs")

    def backward_propagate(
        self, inputs: Any, expected_outputs: Any, learning_rate: float
    ) -> NDArray[Any]:
        """Learn from one row by one step of plain gradient descent, as the tutorial does.

        The loss is the one that the network was last trained with, and "auto" at first. Nothing is
        dropped, whatever the layers' dropout.

        Parameters
        ----------
        inputs : array-like of shape (n_inputs,)
        expected_outputs : array-like of shape (n_outputs,), or a label
        learning_rate : float

        Returns
        -------
        ndarray of shape (n_outputs,)
            The outputs from before the step.

        Raises
        ------
        ValueError, TypeError
            Where an argument is not what it should be.
        DivergenceError
            Where the step would make a weight infinite or NaN; the weights are as they were.
        """
        rate = as_number("learning_rate", learning_rate, 0)
        program, loss, data = self._objective(
            inputs, expected_outputs, None, "mean", None, ("inputs", "expected_outputs", "")
        )
        if len(data.x) != 1:
            raise ValueError(f"inputs must be a single row, got {len(data.x)}")
        gradient = np.empty_like(program.parameters)
        outputs = np.empty((1, program.n_outputs), self._dtype)
        program.loss(data, loss, reduction="mean", gradient=gradient, outputs=outputs)
        stepped = program.descended(gradient, rate)
        if not np.isfinite(stepped).all():
            raise training.DivergenceError(
                f"a step with learning rate {rate:g} would make a weight infinite or NaN",
                0,
                training.History(loss=[]),
            )
        program.parameters[...] = stepped
        return outputs.reshape(-1)

    def train_one(
        self,
        x: Any,
        y: Any,
        learning_rate: float | None = None,
        *,
        optimizer: str | Optimizer | None = None,
        loss: str | Loss | LossFunction | None = None,
    ) -> float:
        """Learn from one row: a step of `train`, for data that come one by one.

        The step is the one that ``train([x], [y], epochs=1)`` makes, at a cost of about a microsecond
        for a small network. That is where `x` and `y` are NumPy arrays of floats (or `y` is a label or
        a number) and optimizer and loss are the objects of the last call; other sequences, and a call
        with others, take some 40 microseconds for the checks.

        Parameters
        ----------
        x : array-like of shape (n_inputs,)
        y : array-like of shape (n_outputs,), or a label, or a number where there is one output
        learning_rate : float, optional
            By default the optimizer's own or usual one, as in `train`.
        optimizer, loss
            As in `train`: by default those that the network was last trained with, and "sgd" and "auto"
            at first.

        Returns
        -------
        float
            The row's loss, from before the step.

        Raises
        ------
        ValueError, TypeError
            Where an argument is not what it should be; the network is as it was.
        RuntimeError
            Where the network is being trained already.
        DivergenceError
            Where the loss, a weight or the optimizer's state would not be finite; the weights are as
            they were.
        """
        last = self._row_step
        # The very objects of last time: settings that are merely equal are looked at below.
        if (
            last is not None
            and (optimizer is None or optimizer is last.optimizer)
            and (loss is None or loss is last.loss)
            and (learning_rate is None) == (last.learning_rate is None)
            and self._lock.acquire(blocking=False)
        ):
            try:
                # Another thread may have trained, or added a layer, before the lock was ours.
                if last is self._row_step:
                    # True == 1, but True is not a valid rate.
                    if learning_rate != last.learning_rate or type(learning_rate) in _BOOLS:
                        last = self._at_rate(last, as_number("learning_rate", learning_rate, 0))
                    value = last.learner(x, y)
                    if value is not None:
                        return self._learnt(value, last.rate)
            finally:
                self._lock.release()
        return self._train_one(x, y, learning_rate, optimizer, loss)

    def _train_one(
        self,
        x: Any,
        y: Any,
        learning_rate: float | None,
        optimizer: str | Optimizer | None,
        loss: str | Loss | LossFunction | None,
    ) -> float:
        """Check everything, make the step, and keep what makes the next one quick."""
        used = optimizer
        if used is None:
            used = self._state.optimizer if self._state is not None else SGD()
        used_optimizer, rate = resolve_optimizer(used, learning_rate)
        program, used_loss, data = self._objective(x, y, loss, "mean", None)
        self._check_trainable()
        if len(data.x) != 1:
            raise ValueError(f"x must be a single row, got {len(data.x)}")
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "the network is being trained already, by another thread or from a callback"
            )
        try:
            if program is not self._program:
                raise RuntimeError("layers were added by another thread while x and y were checked")
            state = self._state
            if state is None or state.optimizer != used_optimizer:
                state = used_optimizer.start(len(program.parameters), self._dtype, rate)
            step = None
            if isinstance(used_loss, Loss):
                learner = training.learner(program, used_loss, state, rate, self._rng)
                step = _RowStep(learner, learning_rate, optimizer, loss, rate)
            else:
                settings = training.Settings(used_loss, "mean", rate, 1, 1, False)
                run = training.Run(program, data, state, settings, self._rng)
            # All memory is there: from here on the network changes.
            state.optimizer = used_optimizer
            last_loss, self._loss = self._loss, used_loss
            self._state, self._row_step = state, step
            if step is not None:
                value = step.learner.learn_from(data.x, data.targets, data.labels)
            else:
                totals, error = run.epochs(1)
                if error is not None:
                    self._loss = last_loss
                    raise error
                value = float(totals[0]) if len(totals) else math.nan
            return self._learnt(value, rate)
        finally:
            self._lock.release()

    def _at_rate(self, step: _RowStep, rate: float) -> _RowStep:
        """Return the step with another learning rate, for the calls to come."""
        step.learner.rate = rate
        self._row_step = step._replace(learning_rate=rate, rate=rate)
        return self._row_step

    def _learnt(self, loss: float, rate: float) -> float:
        """Return the loss of a step, or raise where it was not made."""
        if loss == loss:
            return loss
        assert self._state is not None
        self._state.restart(rate)
        raise training.DivergenceError(
            f"a step with learning rate {rate:g} would make the loss, a weight or the "
            "optimizer's state infinite or NaN; the weights are as they were",
            0,
            training.History(loss=[]),
        )

    # Prediction

    def predict(self, x: Any) -> NDArray[Any]:
        """Return the network's outputs.

        Parameters
        ----------
        x : array-like of shape (n, n_inputs), or (n_inputs,)

        Returns
        -------
        ndarray of shape (n, n_outputs), or (n_outputs,) for a single row
            With one output too: a column, (n, 1).

        Raises
        ------
        ValueError
            Where x has the wrong width, no rows, or anything but finite numbers.
        """
        if self._row_predictor is not None:
            row = self._row_predictor.row(x)
            if row is not None:
                return row
        program = self._ready()
        outputs = self._predict(x, "x")
        if outputs.ndim == 1 and self._row_predictor is None and program is self._program:
            self._row_predictor = program.predictor(1)
        return outputs

    def predictor(self) -> Predictor:
        """Return a function that predicts with the network as it is now, at the least cost.

        It has weights of its own, which training the network does not change, and memory of its own,
        so that a call with `out` allocates nothing, and it checks no more than dtype, shape and layout:
        half a microsecond for a row through a small network. To make one takes some 20.

        Returns
        -------
        Predictor
            Called as ``predictor(x, out=None)``. `x` is a C-contiguous array of the network's dtype and
            of shape (n_inputs,) or (n, n_inputs); `out`, where given, one of shape (n_outputs,) or
            (n, n_outputs), and is filled and returned. NaN and infinite values are not looked for.
            Each thread wants a predictor of its own.

        Raises
        ------
        ValueError
            Where the network has no layers.
        """
        program = copy.copy(self._ready())
        program.parameters = aligned_empty(len(program.parameters), self._dtype)
        program.parameters[...] = self._ready().parameters
        return program.predictor(program.block_rows(_PREDICTOR_ROWS))

    def _predict(self, x: Any, name: str) -> NDArray[Any]:
        outputs, is_row = self._outputs(x, name)
        return outputs.reshape(-1) if is_row else outputs

    def _outputs(self, x: Any, name: str) -> tuple[NDArray[Any], bool]:
        """Return the outputs, of shape (n, n_outputs), and whether x came as a single row."""
        program = self._ready()
        # Whether x is finite is seen as it is used, which saves a pass over memory.
        rows, is_row = as_inputs(x, program.n_inputs, self._dtype, name, check=False)
        outputs = program.forward_of_finite(rows)
        if outputs is None:
            rows, is_row = as_inputs(x, program.n_inputs, self._dtype, name)
            # It is by now: another thread has changed it.
            outputs = program.forward(rows)
        return outputs, is_row

    def predict_class(self, x: Any) -> NDArray[np.intp] | np.intp:
        """Return the class of each row: the largest of several outputs, or whether one is above 0.5.

        Parameters
        ----------
        x : array-like of shape (n, n_inputs), or (n_inputs,)

        Returns
        -------
        ndarray of shape (n,), or an integer for a single row
        """
        outputs, is_row = self._outputs(x, "x")
        labels = metric_functions.classes(outputs)
        return labels[0] if is_row else labels

    def activations(self, x: Any) -> list[NDArray[Any]]:
        """Return every layer's outputs, the hidden layers' too.

        Parameters
        ----------
        x : array-like of shape (n, n_inputs), or (n_inputs,)

        Returns
        -------
        list of ndarray of shape (n, n_neurons), or (n_neurons,) for a single row
            One for each of `layers`.
        """
        program = self._ready()
        rows, is_row = as_inputs(x, program.n_inputs, self._dtype)
        found = []
        for i in range(len(self._layers)):
            rows = program.only(i).forward(rows)
            found.append(rows[0] if is_row else rows)
        return found

    # Loss and gradients

    def evaluate(
        self,
        x: Any,
        y: Any,
        *,
        loss: str | Loss | LossFunction | None = None,
        reduction: str = "mean",
        sample_weight: Any = None,
        metrics: Any = (),
    ) -> dict[str, float]:
        """Return the loss, metrics and, after sigmoid or softmax, the accuracy.

        Parameters
        ----------
        x, y, sample_weight
            As in `train`.
        loss : str, Loss or callable, optional
            By default the one that the network was last trained with, and "auto" at first.
        reduction : {"mean", "sum", "weighted_mean"}, default "mean"
            As in `train`, over all rows.
        metrics : str, callable, iterable or dict of them, default ()
            As in `train`.

        Returns
        -------
        dict
            "loss", with the layers' penalties, the metrics by their names and, where the last layer's
            activation is sigmoid or softmax, "accuracy": the share of rows whose `predict_class` is that
            of y, or whose labels are all right where y has several 1s, or none, in some row.
        """
        found_metrics = metric_functions.resolve_metrics(metrics)
        program, used_loss, data = self._objective(x, y, loss, reduction, sample_weight)
        outputs = np.empty((len(data.x), program.n_outputs), self._dtype)
        result = {"loss": program.loss(data, used_loss, reduction=reduction, outputs=outputs)}
        truth = metric_functions.Truth(data.targets, data.labels)
        if self._layers[-1].activation in ("sigmoid", "softmax"):
            result["accuracy"] = metric_functions.accuracy(truth, outputs)
        result.update(metric_functions.values_of(found_metrics, truth, outputs))
        return result

    def loss_and_gradient(
        self,
        x: Any,
        y: Any,
        *,
        loss: str | Loss | LossFunction | None = None,
        reduction: str = "mean",
        sample_weight: Any = None,
    ) -> tuple[float, NDArray[Any]]:
        """Return the loss and its gradient by the parameters, without changing them.

        Parameters
        ----------
        x, y, loss, reduction, sample_weight
            As in `evaluate`.

        Returns
        -------
        loss : float
        gradient : ndarray of shape (n_parameters,)
            In the order of `parameters`.
        """
        program, used_loss, data = self._objective(x, y, loss, reduction, sample_weight)
        gradient = np.empty_like(program.parameters)
        return program.loss(data, used_loss, reduction=reduction, gradient=gradient), gradient

    def input_gradient(
        self,
        x: Any,
        y: Any,
        *,
        loss: str | Loss | LossFunction | None = None,
        reduction: str = "mean",
        sample_weight: Any = None,
    ) -> NDArray[Any]:
        """Return the gradient of the loss by the inputs.

        Parameters
        ----------
        x, y, loss, reduction, sample_weight
            As in `evaluate`. With ``reduction="sum"`` each row's gradient is that of its own loss.

        Returns
        -------
        ndarray of the shape of x
        """
        program, used_loss, data = self._objective(x, y, loss, reduction, sample_weight)
        gradient = np.empty_like(data.x)
        program.loss(data, used_loss, reduction=reduction, input_gradient=gradient)
        return gradient.reshape(-1) if data.is_row else gradient

    def _objective(
        self,
        x: Any,
        y: Any,
        loss: str | Loss | LossFunction | None,
        reduction: str,
        sample_weight: Any,
        names: tuple[str, str, str] = ("x", "y", "sample_weight"),
    ) -> tuple[Program, Loss | LossFunction, Data]:
        """Check what the methods that compute a loss have in common."""
        program = self._ready()
        as_choice("reduction", reduction, REDUCTIONS)
        if loss is None:
            loss = self._loss if self._loss is not None else "auto"
        used_loss = resolve_loss(loss, self._layers[-1].activation)
        if sample_weight is not None and not isinstance(used_loss, Loss):
            raise ValueError(
                f"{names[2]} must be None with a function as loss, which weighs its rows itself"
            )
        data = as_data(
            x,
            y,
            sample_weight,
            n_inputs=program.n_inputs,
            n_outputs=program.n_outputs,
            dtype=self._dtype,
            loss=used_loss if isinstance(used_loss, Loss) else None,
            names=names,
        )
        # Inputs or targets that are the network's own weights must not move as it learns.
        own = [np.may_share_memory(array, program.parameters) for array in (data.x, data.targets)]
        if any(own):
            data = data._replace(x=data.x.copy(), targets=data.targets.copy())
        return program, used_loss, data

    def _check_trainable(self) -> None:
        """Say what is wrong with the layers that only training minds."""
        last = self._layers[-1]
        if last.dropout:
            raise ValueError(
                f"dropout must be 0 in the output layer, whose outputs are the network's, "
                f"got {last.dropout:g}"
            )

    def _as_validation(self, given: Any, loss: Loss | LossFunction) -> Data | None:
        """Return validation data as the engine reads them."""
        if given is None:
            return None
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError(
                f"validation_data must be a tuple (x, y) or (x, y, sample_weight), "
                f"got {type(given).__name__}"
            )
        x, y, *weights = given
        return self._objective(
            x,
            y,
            loss,
            "mean",
            weights[0] if weights else None,
            ("validation_data[0]", "validation_data[1]", "validation_data[2]"),
        )[2]

    # The network itself

    def copy(self) -> NeuralNetwork:
        """Return an independent copy: weights, optimizer state and random numbers included.

        So does pickling, but for a function given as loss, which is forgotten.
        """
        twin = copy.deepcopy(self)
        twin._loss = self._loss
        return twin

    def __copy__(self) -> NeuralNetwork:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_program"]
        del state["_lock"]
        del state["_row_predictor"]
        del state["_row_step"]
        state["_parameters"] = None if self._program is None else self._program.parameters
        # A function given as loss is the caller's, and seldom one that can be pickled.
        state["_loss"] = self._loss if isinstance(self._loss, Loss) else None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        parameters = state.pop("_parameters")
        self.__dict__.update(state)
        self._program = None
        self._row_predictor = None
        self._row_step = None
        self._lock = threading.Lock()
        if parameters is not None:
            program = Program(self._layers, self._dtype)
            program.parameters[...] = parameters
            self._adopt(self._layers, program)

    def print_weights(self) -> None:
        """Print the weights and biases of every layer."""
        for i, layer in enumerate(self._layers):
            neurons = f"{layer.n_neurons} neuron" + ("s, each" if layer.n_neurons > 1 else ",")
            inputs = f"{layer.n_inputs} input" + ("s" if layer.n_inputs > 1 else "")
            print(f"Layer {i + 1} ({neurons} with {inputs}):")
            print(layer.weights)
            if layer.biases is not None:
                print("Biases:")
                print(layer.biases)

    def summary(self) -> None:
        """Print a table of the layers: names, shapes, activations, parameters, what regularises them."""
        rows = [("layer", "inputs", "neurons", "activation", "parameters")]
        rows += [
            (
                str(layer.name),
                f"{layer.n_inputs:,}",
                f"{layer.n_neurons:,}",
                layer.activation,
                f"{layer.n_parameters:,}",
            )
            for layer in self._layers
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        held_back = [""] + [
            "".join(f"  {name}={value:g}" for name, value in layer.regularization.items())
            for layer in self._layers
        ]
        for (name, inputs, neurons, activation, parameters), more in zip(
            rows, held_back, strict=True
        ):
            print(
                f"{name:<{widths[0]}}  {inputs:>{widths[1]}}  {neurons:>{widths[2]}}  "
                f"{activation:<{widths[3]}}  {parameters:>{widths[4]}}{more}"
            )
        total = sum(layer.n_parameters for layer in self._layers)
        n_bytes = total * self._dtype.itemsize
        print(f"{total:,} parameters, {self._dtype}, {n_bytes:,} bytes")

    def __repr__(self) -> str:
        if self._n_inputs is None:
            return f"NeuralNetwork(no layers, {self._dtype})"
        sizes = [f"{self._n_inputs}"]
        sizes += [f"{layer.n_neurons} {layer.activation}" for layer in self._layers]
        total = sum(layer.n_parameters for layer in self._layers)
        return f"NeuralNetwork({', '.join(sizes)}; {total:,} parameters, {self._dtype})"


def _as_verbose(verbose: Any) -> bool | str:
    if isinstance(verbose, (bool, np.bool_)) or (type(verbose) is int and verbose in (0, 1, 2)):
        return bool(verbose)
    if isinstance(verbose, str) and verbose == "bar":
        return verbose
    raise TypeError(f"verbose must be True, False or 'bar', got {verbose!r}")


def _as_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if dtype is None or found.name not in DTYPES or not found.isnative:
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return found
