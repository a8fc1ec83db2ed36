"""coefs_ and intercepts_: the weights of a network, as scikit-learn shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from cnet._arrays import as_weights
from cnet.estimators._network import dense_layers
from cnet.network import NeuralNetwork


class Views(list[NDArray[Any]]):
    """A list of arrays of a network. Setting an item copies the values into the array.

    Parameters
    ----------
    name : str
        The name of the list, for error messages.
    arrays : sequence of ndarray
    """

    def __init__(self, name: str, arrays: Sequence[NDArray[Any]]) -> None:
        super().__init__(arrays)
        self._name = name

    def __setitem__(self, index: Any, values: Any) -> None:
        if isinstance(index, slice):
            self.fill(values, index)
        else:
            self.fill([values], [index])

    def fill(self, values: Iterable[ArrayLike], index: slice | list[int] = slice(None)) -> None:
        """Copy values into the arrays at `index`, by default all, unless one of them does not fit."""
        places = range(len(self))[index] if isinstance(index, slice) else index
        try:
            values = list(values)
        except TypeError:
            raise TypeError(f"{self._name} must be a list of arrays, got {values!r}") from None
        if len(values) != len(places):
            raise ValueError(f"{self._name} must have {len(places)} arrays here, got {len(values)}")
        checked = [
            as_weights(f"{self._name}[{place}]", value, self[place].shape, self[place].dtype)
            for place, value in zip(places, values, strict=True)
        ]
        for place, value in zip(places, checked, strict=True):
            self[place][...] = value

    def __reduce__(self) -> Any:
        # A copy is a plain list, since its arrays do not belong to a network.
        return list, (list(self),)


class WeightsMixin:
    """Gives an estimator `coefs_` and `intercepts_`.

    They are views of the layers' arrays once the estimator has a network. Values that are assigned
    before are kept, and the network is created from them.
    """

    network_: NeuralNetwork

    @property
    def coefs_(self) -> list[NDArray[Any]]:
        """Weights of each dense layer, of shape (n_inputs, n_neurons).

        Views of the weights of ``network_.layers``, without those of normalization layers. Values that
        are assigned to the list or to one of its items are copied into them.
        """
        return self._views("coefs_", "weights")

    @coefs_.setter
    def coefs_(self, values: Iterable[ArrayLike]) -> None:
        self._assign("coefs_", "weights", values)

    @property
    def intercepts_(self) -> list[NDArray[Any]]:
        """Biases of each dense layer, of shape (n_neurons,), in the same way as `coefs_`."""
        return self._views("intercepts_", "biases")

    @intercepts_.setter
    def intercepts_(self, values: Iterable[ArrayLike]) -> None:
        self._assign("intercepts_", "biases", values)

    def _has_network(self) -> bool:
        return "network_" in self.__dict__

    def _has_weights(self) -> bool:
        return self._has_coefs() and (self._has_network() or "_intercepts_given" in self.__dict__)

    def _has_coefs(self) -> bool:
        return self._has_network() or "_coefs_given" in self.__dict__

    def _forget_given_weights(self) -> None:
        self.__dict__.pop("_coefs_given", None)
        self.__dict__.pop("_intercepts_given", None)

    def _views(self, name: str, attribute: str) -> list[NDArray[Any]]:
        if self._has_network():
            return self._network_views(name, attribute)
        if f"_{name}given" in self.__dict__:
            given: list[NDArray[Any]] = self.__dict__[f"_{name}given"]
            return given
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r} before fit")

    def _network_views(self, name: str, attribute: str) -> Views:
        return Views(name, [getattr(layer, attribute) for layer in dense_layers(self.network_)])

    def _assign(self, name: str, attribute: str, values: Iterable[ArrayLike]) -> None:
        if self._has_network():
            self._network_views(name, attribute).fill(values)
        else:
            self.__dict__[f"_{name}given"] = values
