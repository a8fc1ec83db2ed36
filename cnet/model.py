"""Model: the layers and arrays of a network, which can be converted to a dict and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnet._arrays import aligned_empty, as_dtype
from cnet._checks import check_keys
from cnet.layers import BaseLayer, Place, check_fit, layer_from_config
from cnet.layers.base import Views

# Version of the format of `Model.to_dict`.
VERSION = 1

# With more parameters, addresses would overflow.
_MAX_PARAMETERS = 2**48

Shapes: TypeAlias = dict[str, tuple[int, ...]]

_KEYS = ("version", "dtype", "layers", "tensors", "buffers")


class Model:
    """Layers that fit together, and the arrays with their values.

    All trained values of a model are in one flat array, and all other values in a second one. The
    tensors and buffers of the layers are views of these arrays. The layers and arrays of a model are
    never replaced; only the values in the arrays change.

    Parameters
    ----------
    layers : iterable of BaseLayer
        One or more layers. Each has as many inputs as the layer before it has neurons.
    dtype : numpy.dtype
        float32 or float64.

    Attributes
    ----------
    layers : tuple of BaseLayer
    dtype : numpy.dtype
    n_inputs, n_outputs : int
    parameters : ndarray of shape (n_parameters,)
        Trained values, layer by layer, in the order of `BaseLayer.tensors`. They start at 0.
    buffers : ndarray
        Values that are not trained, in the order of `BaseLayer.buffers`.

    Raises
    ------
    ValueError
        If the layers do not fit together, or have more parameters than can be addressed.
    MemoryError
        If there is not enough memory.
    """

    def __init__(self, layers: Iterable[BaseLayer], dtype: np.dtype[Any]) -> None:
        self.layers = tuple(layers)
        self.dtype = dtype
        check_fit(self.layers)
        check_names(self.layers)
        self.n_inputs = self.layers[0].n_inputs
        self.n_outputs = self.layers[-1].n_neurons
        walked = [layer for _, layer in _walk(self.layers)]
        tensors = [layer.tensors() for layer in walked]
        buffers = [layer.buffers() for layer in walked]
        n_parameters = sum(math.prod(shape) for shapes in tensors for shape in shapes.values())
        n_buffered = sum(math.prod(shape) for found in buffers for shape, _ in found.values())
        self.parameters = _allocated(n_parameters, dtype)
        self.parameters[...] = 0
        self.buffers = aligned_empty(n_buffered, dtype)
        self._views: dict[BaseLayer, Views] = {}
        self._places: dict[BaseLayer, Place] = {}
        start = first = 0
        for number, (layer, shapes, found) in enumerate(zip(walked, tensors, buffers, strict=True)):
            self._places[layer] = Place(number, start, first)
            views = {}
            for name, shape in shapes.items():
                end = start + math.prod(shape)
                views[name] = self.parameters[start:end].reshape(shape)
                start = end
            for name, (shape, value) in found.items():
                end = first + math.prod(shape)
                views[name] = self.buffers[first:end].reshape(shape)
                views[name][...] = value
                first = end
            self._views[layer] = views

    def all_layers(self) -> Iterator[BaseLayer]:
        """Iterate over all layers, each followed by the layers that it consists of."""
        return iter(self._views)

    def views(self, layer: BaseLayer) -> Views | None:
        """Return the tensors and buffers of a layer by name, or None if it is not in the model."""
        return self._views.get(layer)

    def place(self, layer: BaseLayer) -> Place:
        """Return where a layer's values are in `parameters` and `buffers`."""
        return self._places[layer]

    @property
    def drops(self) -> bool:
        """Whether any layer has dropout."""
        return any(layer.drops for layer in self.all_layers())

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """Views of the trained values, by names such as "layer_1.weights", in order."""
        return self._named(_tensor_shapes)

    @property
    def named_buffers(self) -> dict[str, NDArray[Any]]:
        """Views of the values that are not trained, by names such as "layer_1.mean", in order."""
        return self._named(_buffer_shapes)

    def _named(self, shapes: Callable[[BaseLayer], Shapes]) -> dict[str, NDArray[Any]]:
        return {
            f"{path}.{name}": self._views[layer][name]
            for path, layer in _walk(self.layers)
            for name in shapes(layer)
        }

    def check_trainable(self) -> None:
        """Raise ValueError if the layers cannot be trained, only used for predictions."""
        self.layers[-1].check_as_output()

    # Other models

    def extended(self, layers: Sequence[BaseLayer]) -> Model:
        """Return a model with more layers after these; values are copied, and new parameters are 0."""
        model = Model((*self.layers, *layers), self.dtype)
        model.parameters[: len(self.parameters)] = self.parameters
        model.buffers[: len(self.buffers)] = self.buffers
        return model

    def copy(self) -> Model:
        """Return a model with copies of the layers and of all values."""
        model = Model([layer.copy() for layer in self.layers], self.dtype)
        model.parameters[...] = self.parameters
        model.buffers[...] = self.buffers
        return model

    def to_dict(self) -> dict[str, Any]:
        """Return a description of the model: plain values, and copies of the arrays."""
        return {
            "version": VERSION,
            "dtype": self.dtype.name,
            "layers": [layer.config() for layer in self.layers],
            "tensors": {name: view.copy() for name, view in self.tensors.items()},
            "buffers": {name: view.copy() for name, view in self.named_buffers.items()},
        }

    @classmethod
    def from_dict(cls, description: Any) -> Model:
        """Return the model that `to_dict` described.

        Everything is validated, because a description may come from a damaged file.

        Raises
        ------
        ValueError, TypeError
            If the version is unknown, or something is missing, unknown or invalid.
        """
        check_keys("a model", description, _KEYS)
        if description["version"] != VERSION:
            raise ValueError(
                f"the version of a model must be {VERSION}, got {description['version']!r}"
            )
        if not isinstance(description["dtype"], str):
            raise TypeError(f"dtype must be text, got {description['dtype']!r}")
        dtype = as_dtype(description["dtype"])
        configs = description["layers"]
        if not isinstance(configs, (list, tuple)) or not configs:
            raise ValueError(f"layers must be a list of one or more layers, got {configs!r}")
        layers = [layer_from_config(config) for config in configs]
        # Everything is checked before the model is allocated, because damaged sizes may be very large.
        check_fit(layers)
        check_names(layers)
        tensors = _checked("tensors", description, _shapes(layers, _tensor_shapes), dtype)
        buffers = _checked("buffers", description, _shapes(layers, _buffer_shapes), dtype)
        model = cls(layers, dtype)
        for views, values in ((model.tensors, tensors), (model.named_buffers, buffers)):
            for name, view in views.items():
                view[...] = values[name]
        for layer, arrays in model._views.items():
            layer.check_values(arrays)
        return model


def default_name(place: int) -> str:
    """Return the name of the layer at this position, from 0, if it was not given one."""
    return f"layer_{place + 1}"


def check_names(
    layers: Sequence[BaseLayer], renamed: Mapping[BaseLayer, str] = MappingProxyType({})
) -> None:
    """Raise ValueError if two layers have the same name; `renamed` maps some layers to new names."""
    found = set()
    for name, _ in _walk(layers, renamed):
        if name in found:
            raise ValueError(f"name must be unique among the layers, got {name!r} twice")
        found.add(name)


def _walk(
    layers: Sequence[BaseLayer],
    renamed: Mapping[BaseLayer, str] = MappingProxyType({}),
    prefix: str = "",
) -> Iterator[tuple[str, BaseLayer]]:
    """Yield the layers with their names; a layer inside another one has a name with a dot."""
    for i, layer in enumerate(layers):
        path = prefix + (renamed.get(layer) or layer.name or default_name(i))
        yield path, layer
        yield from _walk(layer.children, renamed, f"{path}.")


def _tensor_shapes(layer: BaseLayer) -> Shapes:
    """Return the shapes of a layer's trained arrays, by name."""
    return layer.tensors()


def _buffer_shapes(layer: BaseLayer) -> Shapes:
    """Return the shapes of a layer's other arrays, by name."""
    return {name: shape for name, (shape, _) in layer.buffers().items()}


def _shapes(layers: Sequence[BaseLayer], of: Callable[[BaseLayer], Shapes]) -> Shapes:
    return {
        f"{path}.{name}": shape
        for path, layer in _walk(layers)
        for name, shape in of(layer).items()
    }


def _allocated(n_parameters: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    if n_parameters > _MAX_PARAMETERS:
        raise ValueError(
            f"the layers must have at most {_MAX_PARAMETERS:,} weights and biases together, "
            f"got {n_parameters:,}"
        )
    try:
        return aligned_empty(n_parameters, dtype)
    except (MemoryError, ValueError):
        n_bytes = n_parameters * dtype.itemsize
        raise MemoryError(
            f"not enough memory for {n_parameters:,} weights and biases, {n_bytes:,} bytes"
        ) from None


def _checked(
    what: str, description: Mapping[str, Any], shapes: Shapes, dtype: np.dtype[Any]
) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of a description if they have these names and shapes."""
    arrays = description[what]
    check_keys(what, arrays, shapes)
    for name, shape in shapes.items():
        array = arrays[name]
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            got = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else repr(array)
            raise TypeError(f"{what}[{name!r}] must be an array of {dtype}, got {got}")
        if array.shape != shape:
            raise ValueError(f"{what}[{name!r}] must have shape {shape}, got shape {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{what}[{name!r}] must not have NaN or infinite values")
    return arrays  # type: ignore[no-any-return]
