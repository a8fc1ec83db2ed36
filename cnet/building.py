"""Building: the ways to add layers to a network."""

from __future__ import annotations

from typing import Any, Self

from cnet._checks import as_flag, as_integer
from cnet.activations import ActivationName
from cnet.initializers import Initializer, InitializerName
from cnet.layers import MAX_NEURONS, BaseLayer, BatchNorm, Layer, LayerNorm
from cnet.training import Trainer


class Building:
    """Base class of `NeuralNetwork`: adds layers."""

    trainer: Trainer

    def add_layer(
        self,
        num_neurons: int,
        activation: ActivationName = "sigmoid",
        input_layer: bool = False,
        *,
        bias: bool = True,
        init: InitializerName | Initializer = "auto",
        name: str | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        dropout: float = 0.0,
        trainable: bool = True,
        learning_rate_factor: float = 1.0,
        bias_learning_rate_factor: float | None = None,
    ) -> Self:
        """Add a layer after the others. The first call only sets the number of inputs.

        The weights of the layer are initialized immediately. `parameters` becomes a new, longer array,
        and the optimizer's state is reset.

        Parameters
        ----------
        num_neurons : int
            Number of neurons, or number of inputs for the input layer.
        activation : str, default "sigmoid"
            See `Layer`. The input layer has no activation.
        input_layer : bool, default False
            Must be True for the first layer, and only for it.
        bias, init, name, l1, l2, max_norm, dropout, trainable, …
            See `Layer`. l1, l2, max_norm and dropout must not be set for the input layer.

        Returns
        -------
        NeuralNetwork
            The network itself, so that calls can be chained.

        Raises
        ------
        ValueError
            If the first layer is not an input layer or a later one is, if the layer before it has
            softmax, if a number is out of range, or if a name is unknown.
        MemoryError
            If there is not enough memory for the weights.
        """
        num_neurons = as_integer("num_neurons", num_neurons, 1, MAX_NEURONS)
        n_inputs = self.trainer.n_outputs or 1
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
            trainable=trainable,
            learning_rate_factor=learning_rate_factor,
            bias_learning_rate_factor=bias_learning_rate_factor,
        )
        if as_flag("input_layer", input_layer):
            for setting, value in layer.regularization.items():
                raise ValueError(
                    f"{setting} must not be set for the input layer, which has no weights and passes "
                    f"on its inputs unchanged, got {value:g}"
                )
            if self.trainer.n_inputs is not None:
                raise ValueError(
                    f"input_layer must be True for the first layer only; this network has "
                    f"{self.trainer.n_inputs} inputs already"
                )
            self.trainer.n_inputs = num_neurons
            return self
        if self.trainer.n_inputs is None:
            raise ValueError(
                "input_layer must be True for the first layer: start with "
                "add_layer(n_inputs, input_layer=True)"
            )
        self.trainer.extend([layer])
        return self

    def add(self, *layers: BaseLayer) -> Self:
        """Add layer objects after the others, such as ``cnet.Residual(...)``.

        Parameters
        ----------
        *layers : Layer, LayerNorm, BatchNorm or Residual
            Layers that are not part of a network. The first must have as many inputs as the last layer
            of the network, or its input layer, has outputs.

        Returns
        -------
        NeuralNetwork
            The network itself, so that calls can be chained.

        Raises
        ------
        ValueError, TypeError
            If a layer does not fit, is part of a network, or is not a layer.
        """
        for layer in layers:
            if not isinstance(layer, BaseLayer):
                raise TypeError(f"layers must be cnet layers, passed one by one, got {layer!r}")
        if layers:
            self.trainer.extend(layers)
        return self

    def add_layer_norm(self, activation: ActivationName = "linear", **settings: Any) -> Self:
        """Add a `LayerNorm` after the last layer, with the arguments of `LayerNorm` except `n_neurons`.

        Returns
        -------
        NeuralNetwork
            The network itself, so that calls can be chained.
        """
        return self.add(LayerNorm(self._n_outputs(), activation, **settings))

    def add_batch_norm(self, activation: ActivationName = "linear", **settings: Any) -> Self:
        """Add a `BatchNorm` after the last layer, with the arguments of `BatchNorm` except `n_neurons`.

        Returns
        -------
        NeuralNetwork
            The network itself, so that calls can be chained.
        """
        return self.add(BatchNorm(self._n_outputs(), activation, **settings))

    def _n_outputs(self) -> int:
        """Return the number of outputs so far, which is the number of inputs of the next layer."""
        if self.trainer.n_outputs is None:
            raise ValueError(
                "the network has no inputs; start with add_layer(n_inputs, input_layer=True)"
            )
        return self.trainer.n_outputs
