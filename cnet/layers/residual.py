"""Residual: a skip connection around layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from cnet._checks import check_keys
from cnet.activations import ACTIVATIONS
from cnet.layers.base import BaseLayer, check_fit, layer_from_config
from cnet.layers.operation import Operation, PlaceOf


class Residual(BaseLayer):
    """A skip connection (He et al., 2016): outputs = x + f(x), where f is one or more layers.

    Parameters
    ----------
    *layers : Layer, LayerNorm, BatchNorm or Residual
        The layers of f, which must have as many outputs as inputs.
    name : str, optional
        As in `Layer`.
    trainable : bool, default True
        As in `Layer`. If it is False, all layers within are frozen.
    learning_rate_factor, bias_learning_rate_factor : float
        As in `Layer`. They multiply the factors of the layers within.

    Attributes
    ----------
    layers : tuple
        The layers of f.

    Raises
    ------
    ValueError, TypeError
        If the layers do not fit together, or there are none.

    Examples
    --------
    >>> import cnet
    >>> net = cnet.NeuralNetwork(
    ...     cnet.Layer(4, 8, "relu"),
    ...     cnet.Residual(cnet.LayerNorm(8), cnet.Layer(8, 8, "relu"), cnet.Layer(8, 8, "linear")),
    ...     cnet.Layer(8, 1, "linear"),
    ... )
    """

    __slots__ = ("_layers",)

    kind: ClassVar[str] = "residual"

    def __init__(
        self,
        *layers: BaseLayer,
        name: str | None = None,
        trainable: bool = True,
        learning_rate_factor: float = 1.0,
        bias_learning_rate_factor: float | None = None,
    ) -> None:
        for layer in layers:
            if not isinstance(layer, BaseLayer):
                raise TypeError(f"layers must be cnet layers, got {layer!r}")
        if not layers:
            raise ValueError("layers must be one or more layers, got none")
        check_fit(layers)
        if layers[0].n_inputs != layers[-1].n_neurons:
            raise ValueError(
                f"layers must have as many outputs as inputs, {layers[0].n_inputs}, "
                f"got {layers[-1].n_neurons}"
            )
        if ACTIVATIONS[layers[-1].activation].last_only:
            raise ValueError(
                f"{layers[-1].activation} must be the activation of the network's last layer; "
                "it cannot be inside a Residual"
            )
        super().__init__(
            layers[0].n_inputs,
            layers[-1].n_neurons,
            name=name,
            trainable=trainable,
            learning_rate_factor=learning_rate_factor,
            bias_learning_rate_factor=bias_learning_rate_factor,
        )
        self._layers = layers

    @property
    def layers(self) -> tuple[BaseLayer, ...]:
        """The layers of f."""
        return self._layers

    @property
    def children(self) -> tuple[BaseLayer, ...]:
        """The layers that this layer consists of."""
        return self._layers

    @property
    def needs_whole_batch(self) -> bool:
        """Whether training computes a layer of f for a whole batch at once."""
        return self.trainable and any(layer.needs_whole_batch for layer in self._layers)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return an empty dict, because all tensors belong to the layers within."""
        return {}

    def operations(self, place_of: PlaceOf) -> Iterator[Operation]:
        """Yield the operations of the layers within, between the two operations of the connection."""
        within = [
            self._with_own_rates(operation)
            for layer in self._layers
            for operation in layer.operations(place_of)
        ]
        n, number = self.n_neurons, place_of(self).number
        distance = len(within) + 1
        yield Operation("residual_begin", n, n, number, partner=distance)
        yield from within
        yield Operation("residual_end", n, n, number, partner=-distance)

    def _with_own_rates(self, operation: Operation) -> Operation:
        """Return an operation of a layer within, combined with this layer's learning settings."""
        own = self.learning
        return operation._replace(
            trainable=operation.trainable and own.trainable,
            learning_rate_factor=operation.learning_rate_factor * own.learning_rate_factor,
            bias_learning_rate_factor=(
                operation.bias_learning_rate_factor * own.bias_learning_rate_factor
            ),
        )

    def copy(self) -> Self:
        """Return a copy, with copies of the layers within, that is not part of a network."""
        twin = super().copy()
        twin._layers = tuple(layer.copy() for layer in self._layers)
        return twin

    def config(self) -> dict[str, Any]:
        """Return the kind and all settings as plain values, which can be written as JSON."""
        return {**super().config(), "layers": [layer.config() for layer in self._layers]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the layer that `config` describes."""
        check_keys("a layer", config, ("kind", *cls.arguments, "layers"))
        configs = config["layers"]
        if not isinstance(configs, (list, tuple)):
            raise TypeError(f"layers must be a list of layers, got {configs!r}")
        layers = [layer_from_config(each) for each in configs]
        return cls(*layers, **{name: config[name] for name in cls.arguments})

    def __repr__(self) -> str:
        settings = [repr(layer) for layer in self._layers]
        return f"Residual({', '.join(settings + self._shown())})"
