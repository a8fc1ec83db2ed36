"""What a network prints: its summary, its weights, and its repr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnet.layers import BaseLayer


def summary(layers: Sequence[BaseLayer], dtype: np.dtype[Any]) -> str:
    """Return a table of the layers."""
    rows = [("layer", "inputs", "neurons", "activation", "parameters")]
    rows += [
        (
            str(layer.name),
            f"{layer.n_inputs:,}",
            f"{layer.n_neurons:,}",
            layer.activation,
            f"{layer.n_parameters:,}",
        )
        for layer in layers
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    settings = [""] + [
        "".join(f"  {name}={value:g}" for name, value in layer.regularization.items())
        for layer in layers
    ]
    lines = [
        f"{name:<{widths[0]}}  {inputs:>{widths[1]}}  {neurons:>{widths[2]}}  "
        f"{activation:<{widths[3]}}  {parameters:>{widths[4]}}{more}"
        for (name, inputs, neurons, activation, parameters), more in zip(
            rows, settings, strict=True
        )
    ]
    total = sum(layer.n_parameters for layer in layers)
    n_bytes = total * dtype.itemsize
    return "\n".join([*lines, f"{total:,} parameters, {dtype}, {n_bytes:,} bytes"])


def weights(layers: Sequence[BaseLayer]) -> Iterator[str]:
    """Yield lines with the weights and biases of every layer."""
    for i, layer in enumerate(layers):
        neurons = f"{layer.n_neurons} neuron" + ("s, each" if layer.n_neurons > 1 else ",")
        inputs = f"{layer.n_inputs} input" + ("s" if layer.n_inputs > 1 else "")
        yield f"Layer {i + 1} ({neurons} with {inputs}):"
        for j, (name, values) in enumerate(layer.values().items()):
            if j > 0:
                yield f"{name.capitalize()}:"
            yield str(values)


def represent(layers: Sequence[BaseLayer], n_inputs: int | None, dtype: np.dtype[Any]) -> str:
    """Return the repr of a network."""
    if n_inputs is None:
        return f"NeuralNetwork(no layers, {dtype})"
    sizes = [f"{n_inputs}", *(f"{layer.n_neurons} {layer.activation}" for layer in layers)]
    total = sum(layer.n_parameters for layer in layers)
    return f"NeuralNetwork({', '.join(sizes)}; {total:,} parameters, {dtype})"
