"""BaseLayer: the interface of every kind of layer."""

from __future__ import annotations

import copy
import inspect
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnet._arrays import as_weights
from cnet._checks import as_choice, as_flag, as_integer, as_number, check_keys, guess, listed
from cnet.activations import ACTIVATIONS
from cnet.layers.operation import Learning, Operation, PlaceOf

# Large enough for any memory, and small enough that no product of two sizes overflows.
MAX_NEURONS = 2**31 - 1

Views: TypeAlias = Mapping[str, NDArray[Any]]


class Owner(Protocol):
    """The owner of a layer: the trainer of its network."""

    def views(self, layer: BaseLayer) -> Views | None:
        """Return the layer's arrays by name, or None if the layer is not part of the network."""

    def check_name(self, layer: BaseLayer, name: str) -> None:
        """Raise ValueError if another layer of the network has this name."""

    def layer_changed(self) -> None:
        """Take a changed setting of a layer into account."""


class _Legacy:
    """The owner of a layer whose network no longer exists."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def views(self, layer: BaseLayer) -> Views | None:
        return self._views

    def check_name(self, layer: BaseLayer, name: str) -> None:
        pass

    def layer_changed(self) -> None:
        pass


# Every class with a `kind` is listed here.
LAYER_KINDS: dict[str, type[BaseLayer]] = {}


class BaseLayer:
    """Base class of the layers.

    A subclass describes its tensors and buffers, its settings, and what the engine computes for it.
    The arrays of a layer belong to its network, and are looked up there.

    Parameters
    ----------
    n_inputs, n_neurons : int
        Number of inputs and outputs.
    activation : str, default "linear"
    dropout : float, default 0
    name : str, optional
    trainable : bool, default True
    learning_rate_factor, bias_learning_rate_factor : float
        As in `Layer`.

    Attributes
    ----------
    kind : str
        Identifies the class in the description of a layer.
    arguments : tuple of str
        The arguments of the constructor. Each of them is also an attribute.
    """

    __slots__ = (
        "__weakref__",
        "_activation",
        "_bias_learning_rate_factor",
        "_default_name",
        "_dropout",
        "_learning_rate_factor",
        "_n_inputs",
        "_n_neurons",
        "_name",
        "_owner",
        "_trainable",
    )

    kind: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int,
        *,
        activation: str = "linear",
        dropout: float = 0.0,
        name: str | None = None,
        trainable: bool = True,
        learning_rate_factor: float = 1.0,
        bias_learning_rate_factor: float | None = None,
    ) -> None:
        self._owner: Callable[[], Owner | None] | None = None
        self._default_name: str | None = None
        self._n_inputs = as_integer("n_inputs", n_inputs, 1, MAX_NEURONS)
        self._n_neurons = as_integer("n_neurons", n_neurons, 1, MAX_NEURONS)
        self._activation = as_choice("activation", activation, ACTIVATIONS)
        self._dropout = as_number("dropout", dropout, 0, 1, open_high=True)
        self._name = None if name is None else _as_name(name)
        self.trainable = trainable
        self.learning_rate_factor = learning_rate_factor
        self.bias_learning_rate_factor = bias_learning_rate_factor

    def __init_subclass__(cls) -> None:
        if "kind" in cls.__dict__:
            LAYER_KINDS[cls.kind] = cls
            # Without `self`, and without the layers of a `Residual`.
            _, *parameters = inspect.signature(cls.__init__).parameters.values()
            cls.arguments = tuple(p.name for p in parameters if p.kind is not p.VAR_POSITIONAL)

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            object.__setattr__(self, name, value)
        except AttributeError:
            if hasattr(type(self), name):
                raise
            public = [known for known in dir(type(self)) if not known.startswith("_")]
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}{guess(name, public)}"
            ) from None

    # Fixed settings

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return self._n_inputs

    @property
    def n_neurons(self) -> int:
        """Number of neurons, which is the number of outputs."""
        return self._n_neurons

    @property
    def activation(self) -> str:
        """Name of the activation."""
        return self._activation

    @property
    def dropout(self) -> float:
        """Fraction of the outputs that training drops."""
        return self._dropout

    # Settings that can be changed at any time

    @property
    def name(self) -> str | None:
        """Name of the layer, unique in its network; by default that of its position there."""
        return self._name or self._default_name

    @name.setter
    def name(self, name: str) -> None:
        name = _as_name(name)
        owner = self._owner() if self._owner is not None else None
        if owner is not None:
            owner.check_name(self, name)
        self._name = name

    @property
    def trainable(self) -> bool:
        """Whether training changes the layer."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = as_flag("trainable", value)
        self._changed()

    @property
    def learning_rate_factor(self) -> float:
        """Factor of the learning rate for this layer."""
        return self._learning_rate_factor

    @learning_rate_factor.setter
    def learning_rate_factor(self, value: float) -> None:
        self._learning_rate_factor = as_number("learning_rate_factor", value, 0)
        self._changed()

    @property
    def bias_learning_rate_factor(self) -> float | None:
        """Factor of the learning rate for the biases; None: the same as for the weights."""
        return self._bias_learning_rate_factor

    @bias_learning_rate_factor.setter
    def bias_learning_rate_factor(self, value: float | None) -> None:
        name = "bias_learning_rate_factor"
        self._bias_learning_rate_factor = None if value is None else as_number(name, value, 0)
        self._changed()

    def _changed(self) -> None:
        owner = self._owner() if self._owner is not None else None
        if owner is not None:
            owner.layer_changed()

    # Methods and properties that subclasses override

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the trained arrays, by name, in the order of the flat parameters."""
        raise NotImplementedError

    def buffers(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """Return the shapes and initial values of the arrays that are not trained, by name."""
        return {}

    def check_values(self, values: Views) -> None:
        """Raise ValueError if finite values of the arrays, by name, are invalid."""

    def operations(self, place_of: PlaceOf) -> Iterator[Operation]:
        """Yield what the engine computes for the layer; `place_of` says where a layer's values are."""
        raise NotImplementedError

    @property
    def needs_whole_batch(self) -> bool:
        """Whether training computes the layer for a whole batch at once."""
        return False

    @property
    def children(self) -> tuple[BaseLayer, ...]:
        """The layers that this layer consists of."""
        return ()

    @property
    def regularization(self) -> dict[str, float]:
        """The settings that regularize the layer in training, except those that are off."""
        return {"dropout": self.dropout} if self.dropout else {}

    @property
    def rates(self) -> dict[str, float]:
        """The factors of the learning rate, except those that have their default."""
        found = {}
        if self.learning_rate_factor != 1:
            found["learning_rate_factor"] = self.learning_rate_factor
        if self.bias_learning_rate_factor is not None:
            found["bias_learning_rate_factor"] = self.bias_learning_rate_factor
        return found

    @property
    def drops(self) -> bool:
        """Whether training drops some of the layer's outputs."""
        return self.dropout > 0

    def draw(self, rng: np.random.Generator, dtype: np.dtype[Any]) -> dict[str, NDArray[Any]]:
        """Return the initial values of the tensors that do not start at 0, by name."""
        return {}

    def _output_operations(self, place_of: PlaceOf) -> Iterator[Operation]:
        """Yield the operations after a layer's own: its activation and its dropout."""
        n, number = self.n_neurons, place_of(self).number
        if not ACTIVATIONS[self.activation].is_identity:
            yield Operation("activation", n, n, number, activation=self.activation)
        if self.drops:
            yield Operation("dropout", n, n, number, dropout=self.dropout)

    @property
    def learning(self) -> Learning:
        """Return whether and how fast the layer learns, with the current settings."""
        factor, bias_factor = self._learning_rate_factor, self._bias_learning_rate_factor
        return Learning(self._trainable, factor, factor if bias_factor is None else bias_factor)

    def check_as_output(self) -> None:
        """Raise ValueError if the layer cannot be the last one of a network that is trained."""
        if self.drops:
            raise ValueError(
                f"dropout must be 0 in the output layer, whose outputs are those of the network, "
                f"got {self.dropout:g}"
            )

    def config(self) -> dict[str, Any]:
        """Return the kind and all settings as plain values, which can be written as JSON."""
        values = {name: getattr(self, name) for name in self.arguments}
        return {"kind": self.kind, **values, "name": self._name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the layer that `config` describes.

        Raises
        ------
        ValueError, TypeError
            If a setting is unknown, missing or invalid.
        """
        check_keys("a layer", config, ("kind", *cls.arguments))
        return cls(**{name: config[name] for name in cls.arguments})

    def _shown(self) -> list[str]:
        """Return the settings that `repr` shows last, except those that have their default."""
        shown = [] if self._name is None else [f"name={self.name!r}"]
        numbers = {**self.regularization, **self.rates}
        shown += [f"{name}={value:g}" for name, value in numbers.items()]
        return shown if self.trainable else [*shown, "trainable=False"]

    # Arrays

    @property
    def n_parameters(self) -> int:
        """Number of trained parameters."""
        own = sum(math.prod(shape) for shape in self.tensors().values())
        return own + sum(child.n_parameters for child in self.children)

    @property
    def attached(self) -> bool:
        """Whether the layer is part of a network."""
        return self._views() is not None

    def values(self) -> Views:
        """Return the layer's arrays by name: writable views of those of its network."""
        views = self._views()
        if views is None:
            raise AttributeError("a layer has arrays once it is part of a NeuralNetwork")
        return views

    def attach(self, owner: Owner, name: str) -> None:
        """Make the layer part of a network; `name` is its name if it has none.

        The reference is weak, so that a network is freed as soon as it is no longer used.
        """
        self._default_name = name
        self._owner = weakref.ref(owner)

    def outlive(self, views: Views) -> None:
        """Keep the arrays when the network is deleted."""
        legacy = _Legacy(views)
        self._owner = lambda: legacy

    def _views(self) -> Views | None:
        owner = self._owner() if self._owner is not None else None
        return owner.views(self) if owner is not None else None

    def _view(self, name: str) -> NDArray[Any]:
        views = self._views()
        if views is None:
            raise AttributeError(f"a layer has {name} once it is part of a NeuralNetwork")
        return views[name]

    def _fill(self, name: str, values: ArrayLike) -> None:
        """Copy `values` into an array."""
        view = self._view(name)
        view[...] = as_weights(name, values, view.shape, view.dtype)

    # Copies have no arrays, because arrays belong to the network

    def copy(self) -> Self:
        """Return a copy that is not part of a network; it has the name only if it was given one."""
        return copy.copy(self)

    def __getstate__(self) -> dict[str, Any]:
        slots = (slot for cls in type(self).__mro__ for slot in getattr(cls, "__slots__", ()))
        return {slot: getattr(self, slot) for slot in slots if slot not in _NOT_COPIED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._owner = self._default_name = None
        for slot, value in state.items():
            setattr(self, slot, value)


def check_fit(layers: Sequence[BaseLayer]) -> None:
    """Raise ValueError if a layer does not fit the layer before it."""
    for i, (before, layer) in enumerate(pairwise(layers), 1):
        if layer.n_inputs != before.n_neurons:
            raise ValueError(
                f"layer {i + 1} must take {before.n_neurons} inputs, as many as layer {i} has "
                f"neurons, got {layer.n_inputs}"
            )
        if ACTIVATIONS[before.activation].last_only:
            raise ValueError(
                f"{before.activation} must be the last layer's activation; no layer can follow"
            )


def layer_from_config(config: Any) -> BaseLayer:
    """Return the layer that `BaseLayer.config` described.

    Raises
    ------
    ValueError, TypeError
        If the kind is unknown, or a setting is unknown, missing or invalid.
    """
    if not isinstance(config, dict):
        raise TypeError(f"a layer must be described by a dict, got {config!r}")
    kind = config.get("kind")
    if not isinstance(kind, str) or kind not in LAYER_KINDS:
        raise ValueError(
            f"kind must be one of {listed(LAYER_KINDS)}, got {kind!r}{guess(kind, LAYER_KINDS)}"
        )
    return LAYER_KINDS[kind].from_config(config)


def flat(layers: Iterable[BaseLayer]) -> Iterator[BaseLayer]:
    """Iterate over layers, each followed by the layers that it consists of."""
    for layer in layers:
        yield layer
        yield from flat(layer.children)


_NOT_COPIED = ("__weakref__", "_default_name", "_owner")


def _as_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name must be text, got {name!r}")
    return name
