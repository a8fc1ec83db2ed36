"""What a network prints: its summary, its weights, and its repr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnet.activations import ACTIVATIONS
from cnet.layers import BaseLayer, Layer


def summary(layers: Sequence[BaseLayer], dtype: np.dtype[Any]) -> str:
    """Return a table of the layers, with those inside a layer indented below it.

    The kinds are shown unless all layers are `Layer` objects.
    """
    columns = [
        ("layer", "<"), ("kind", "<"), ("inputs", ">"), ("neurons", ">"), ("activation", "<"),
        ("parameters", ">"),
    ]  # fmt: skip
    rows = list(_rows(layers))
    shown = list(range(len(columns)))
    if all(isinstance(layer, Layer) for layer in layers):
        shown = [i for i in shown if columns[i][0] != "kind"]
    table = [[name for name, _ in columns], *(row for row, _ in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    settings = ["", *(text for _, text in rows)]
    lines = [
        "  ".join(f"{row[i]:{columns[i][1]}{widths[i]}}" for i in shown) + more
        for row, more in zip(table, settings, strict=True)
    ]
    total = sum(layer.n_parameters for layer in layers)
    frozen = _n_frozen(layers)
    parts = [f"{total:,} parameters", *([f"{frozen:,} frozen"] if frozen else [])]
    return "\n".join([*lines, ", ".join([*parts, str(dtype), f"{total * dtype.itemsize:,} bytes"])])


def _rows(
    layers: Sequence[BaseLayer], depth: int = 0, frozen: bool = False
) -> Iterator[tuple[list[str], str]]:
    """Yield the columns of each layer, and what follows them."""
    for layer in layers:
        is_frozen = frozen or not layer.trainable
        row = [
            f"{'  ' * depth}{layer.name}",
            type(layer).__name__,
            f"{layer.n_inputs:,}",
            f"{layer.n_neurons:,}",
            layer.activation,
            f"{layer.n_parameters:,}",
        ]
        numbers = {**layer.regularization, **layer.rates}
        more = [f"{name}={value:g}" for name, value in numbers.items()]
        yield row, "".join(f"  {text}" for text in more + ["frozen"] * is_frozen)
        yield from _rows(layer.children, depth + 1, is_frozen)


def _n_frozen(layers: Sequence[BaseLayer]) -> int:
    """Return the number of parameters that training does not change."""
    return sum(
        _n_frozen(layer.children) if layer.trainable else layer.n_parameters for layer in layers
    )


def weights(layers: Sequence[BaseLayer]) -> Iterator[str]:
    """Yield lines with the weights and biases, and the running statistics, of every layer."""
    for i, layer in enumerate(layers):
        yield from _weights_of(layer, f"Layer {i + 1}")


def _weights_of(layer: BaseLayer, title: str) -> Iterator[str]:
    neurons = f"{layer.n_neurons} neuron" + ("s" if layer.n_neurons > 1 else "")
    if isinstance(layer, Layer):
        inputs = f"{layer.n_inputs} input" + ("s" if layer.n_inputs > 1 else "")
        each = ", each" if layer.n_neurons > 1 else ","
        yield f"{title} ({neurons}{each} with {inputs}):"
    else:
        yield f"{title} ({type(layer).__name__}, {neurons}):"
    for j, (name, values) in enumerate(layer.values().items()):
        if j > 0 or not isinstance(layer, Layer):
            yield f"{name.replace('_', ' ').capitalize()}:"
        yield str(values)
    for j, child in enumerate(layer.children):
        yield from _weights_of(child, f"{title}.{j + 1}")


def represent(layers: Sequence[BaseLayer], n_inputs: int | None, dtype: np.dtype[Any]) -> str:
    """Return the repr of a network."""
    if n_inputs is None:
        return f"NeuralNetwork(no layers, {dtype})"
    total = sum(layer.n_parameters for layer in layers)
    sizes = ", ".join([f"{n_inputs}", *map(_short, layers)])
    return f"NeuralNetwork({sizes}; {total:,} parameters, {dtype})"


def _short(layer: BaseLayer) -> str:
    """Return a layer's number of neurons and its activation, its kind, or the layers inside it."""
    if isinstance(layer, Layer):
        return f"{layer.n_neurons} {layer.activation}"
    if layer.children:
        return f"{type(layer).__name__}({', '.join(map(_short, layer.children))})"
    activation = "" if ACTIVATIONS[layer.activation].is_identity else f" {layer.activation}"
    return f"{type(layer).__name__}{activation}"
