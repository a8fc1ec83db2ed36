"""Inference: the methods of a network that do not change it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnet import _describe
from cnet import metrics as metric_functions
from cnet._checks import as_choice
from cnet._epochs import REDUCTIONS, Reduction
from cnet._plan import Plan, Predictor
from cnet.activations import ACTIVATIONS
from cnet.data import Data, as_inputs
from cnet.history import History
from cnet.losses import Loss, LossFunction, LossName
from cnet.metrics import Metrics
from cnet.model import Model
from cnet.training import Trainer

AnyLoss: TypeAlias = LossName | Loss | LossFunction


class Inference:
    """Base class of `NeuralNetwork`: predictions, losses, gradients and descriptions.

    Attributes
    ----------
    trainer : Trainer
        Owns the model and everything else that training changes.
    """

    trainer: Trainer

    @property
    def layers(self) -> tuple[Any, ...]:
        """The layers with weights: all except the input layer."""
        plan = self.trainer.committed.plan
        return plan.model.layers if plan is not None else ()

    @property
    def model(self) -> Model:
        """The layers and their values, as an object that can be written to a dict."""
        return self.trainer.plan.model

    @property
    def parameters(self) -> NDArray[Any]:
        """All weights and biases as one writable array.

        They are in the order of the layers; for each layer, the weights row by row and then the biases.

        ``layers[i].weights`` and ``.biases`` are views of it.
        """
        return self.trainer.plan.parameters

    @property
    def buffers(self) -> NDArray[Any]:
        """All values that are not trained, such as running averages: one writable array."""
        return self.trainer.plan.model.buffers

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of weights and computations, float32 or float64."""
        return self.trainer.dtype

    @property
    def history(self) -> History | None:
        """The values recorded by the last call of `train`, even if it ended with an exception."""
        return self.trainer.history

    # Prediction

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """Return the outputs of the network.

        Parameters
        ----------
        x : array-like of shape (n, n_inputs), or (n_inputs,)

        Returns
        -------
        ndarray of shape (n, n_outputs), or (n_outputs,) for a single row
            A single output is a column, too: (n, 1).

        Raises
        ------
        ValueError
            If x has the wrong shape, no rows, or values that are not finite numbers.
        """
        predictor = self.trainer.row_predictor
        if predictor is not None:
            row = predictor.row(x)
            if row is not None:
                return row
        outputs = self._predict(x, "x")
        if outputs.ndim == 1 and predictor is None:
            self.trainer.prepare_row()
        return outputs

    def forward_propagate(self, inputs: ArrayLike) -> NDArray[Any]:
        """Return the outputs for one row of inputs: the tutorial's name for `predict`."""
        return self._predict(inputs, "inputs")

    def predictor(self) -> Predictor:
        """Return a function that predicts with the current weights as fast as possible.

        The function has a copy of the weights, which training does not change, and its own memory, so
        that a call with `out` allocates nothing. It checks only dtype, shape and layout. For a small
        network, a row takes half a microsecond. Creating a predictor takes about 20 microseconds.

        Returns
        -------
        Predictor
            Called as ``predictor(x, out=None)``. `x` is a C-contiguous array of the network's dtype, of
            shape (n_inputs,) or (n, n_inputs). `out`, if given, has the shape (n_outputs,) or (n,
            n_outputs), and is filled and returned. NaN and infinite values are not detected. Each
            thread requires its own predictor.

        Raises
        ------
        ValueError
            If the network has no layers.
        """
        return self.trainer.plan.predictor(frozen=True)

    def _predict(self, x: ArrayLike, name: str) -> NDArray[Any]:
        outputs, is_row = self._outputs(x, name)
        return outputs.reshape(-1) if is_row else outputs

    def _outputs(self, x: ArrayLike, name: str) -> tuple[NDArray[Any], bool]:
        """Return the outputs, of shape (n, n_outputs), and whether x was given as a single row."""
        plan = self.trainer.plan
        # The engine looks for values that are not finite, which saves a pass over memory.
        rows, is_row = as_inputs(x, plan.n_inputs, self.dtype, name, check=False)
        outputs = plan.forward_of_finite(rows)
        if outputs is None:
            rows, is_row = as_inputs(x, plan.n_inputs, self.dtype, name)
            # Another thread has changed the values: all of them are finite now.
            outputs = plan.forward(rows)
        return outputs, is_row

    def predict_class(self, x: ArrayLike) -> NDArray[np.intp] | np.intp:
        """Return the class of each row: the largest output, or whether a single output is above 0.5.

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

    def activations(self, x: ArrayLike) -> list[NDArray[Any]]:
        """Return the outputs of every layer.

        Parameters
        ----------
        x : array-like of shape (n, n_inputs), or (n_inputs,)

        Returns
        -------
        list of ndarray of shape (n, n_neurons), or (n_neurons,) for a single row
            One for each of `layers`.
        """
        plan = self.trainer.plan
        rows, is_row = as_inputs(x, plan.n_inputs, self.dtype)
        found = []
        for of_layer in plan.of_layers():
            rows = of_layer.forward(rows)
            found.append(rows[0] if is_row else rows)
        return found

    # Loss and gradients

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        loss: AnyLoss | None = None,
        reduction: Reduction = "mean",
        sample_weight: ArrayLike | None = None,
        metrics: Metrics = (),
    ) -> dict[str, float]:
        """Return the loss, the metrics and, after sigmoid or softmax, the accuracy.

        Parameters
        ----------
        x, y, sample_weight
            As in `train`.
        loss : str, Loss or callable, optional
            By default the loss of the last training; "auto" before the first one.
        reduction : {"mean", "sum", "weighted_mean"}, default "mean"
            As in `train`, over all rows.
        metrics : str, callable, iterable or dict of them, default ()
            As in `train`.

        Returns
        -------
        dict
            "loss", which includes the layers' penalties; the metrics by name; and "accuracy", if the
            output activation is sigmoid or softmax: the fraction of rows whose `predict_class` is right,
            or, if rows of y have several 1s or none, whose labels are all right.
        """
        found_metrics = metric_functions.resolve_metrics(metrics)
        plan, used_loss, data = self._objective(x, y, loss, reduction, sample_weight)
        outputs = np.empty((len(data.x), plan.n_outputs), self.dtype)
        result = {"loss": plan.loss(data, used_loss, reduction=reduction, outputs=outputs)}
        truth = metric_functions.Truth(data.targets, data.labels)
        if ACTIVATIONS[plan.model.layers[-1].activation].is_probability:
            result["accuracy"] = metric_functions.accuracy(truth, outputs)
        result.update(metric_functions.values_of(found_metrics, truth, outputs))
        return result

    def loss_and_gradient(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        loss: AnyLoss | None = None,
        reduction: Reduction = "mean",
        sample_weight: ArrayLike | None = None,
    ) -> tuple[float, NDArray[Any]]:
        """Return the loss, and its gradient with respect to the parameters.

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
        plan, used_loss, data = self._objective(x, y, loss, reduction, sample_weight)
        gradient = np.empty_like(plan.parameters)
        return plan.loss(data, used_loss, reduction=reduction, gradient=gradient), gradient

    def input_gradient(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        loss: AnyLoss | None = None,
        reduction: Reduction = "mean",
        sample_weight: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """Return the gradient of the loss with respect to the inputs.

        Parameters
        ----------
        x, y, loss, reduction, sample_weight
            As in `evaluate`. With ``reduction="sum"`` each row is the gradient of its own loss.

        Returns
        -------
        ndarray of the shape of x
        """
        plan, used_loss, data = self._objective(x, y, loss, reduction, sample_weight)
        gradient = np.empty_like(data.x)
        plan.loss(data, used_loss, reduction=reduction, input_gradient=gradient)
        return gradient.reshape(-1) if data.is_row else gradient

    def _objective(
        self,
        x: ArrayLike,
        y: ArrayLike,
        loss: AnyLoss | None,
        reduction: Reduction,
        sample_weight: ArrayLike | None,
        names: tuple[str, str, str] = ("x", "y", "sample_weight"),
    ) -> tuple[Plan, Loss, Data]:
        """Check the arguments that the methods with a loss have in common."""
        as_choice("reduction", reduction, REDUCTIONS)
        return self.trainer.objective(x, y, loss, sample_weight, names)

    def print_weights(self) -> None:
        """Print the weights and biases of every layer."""
        for line in _describe.weights(self.layers):
            print(line)

    def summary(self) -> None:
        """Print a table of the layers: names, shapes, activations, parameters and regularization."""
        print(_describe.summary(self.layers, self.dtype))

    def __repr__(self) -> str:
        return _describe.represent(self.layers, self.trainer.n_inputs, self.dtype)
