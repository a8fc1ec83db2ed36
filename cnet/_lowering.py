"""Layers, losses and optimizers as the records that the engine reads.

The dtypes of the records are those of structs in ``cnet/_core``, which export them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnet._core import engine
from cnet.layers import BaseLayer, Operation, PlaceOf, flat
from cnet.losses import Loss
from cnet.model import Model
from cnet.optimizers import Optimizer

# Fields of an operation that the engine fills in, after those of `Operation`.
_UNPLANNED = (0,) * (len(engine.OPERATION.names or ()) - len(Operation._fields))
_OBJECTIVE_FIELDS = engine.OBJECTIVE.names or ()
# Without the code, which comes first.
_OPTIMIZER_FIELDS = (engine.OPTIMIZER.names or ())[1:]


def operation_table(model: Model, layers: Sequence[BaseLayer], *, training: bool) -> NDArray[Any]:
    """Return the operations of some layers as a table of the engine's records.

    With `training` the table says which operations are trained. Otherwise all are marked as trained,
    so that all gradients are computed.
    """
    rows = []
    for i, operation in enumerate(operations_of(model, layers)):
        # Faster than `_replace`, which would slow down short trainings noticeably.
        kind, n_inputs, n_outputs, number, activation, partner, trainable, *others = operation
        rows.append(
            (
                engine.OPERATIONS[kind],
                n_inputs,
                n_outputs,
                number,
                engine.ACTIVATIONS[activation],
                i + partner if partner else -1,
                trainable or not training,
                *others,
                *_UNPLANNED,
            )
        )
    return np.array(rows, engine.OPERATION)


def operations_of(model: Model, layers: Sequence[BaseLayer]) -> Iterator[Operation]:
    """Yield the operations of layers of the model, or of others of the same shapes."""
    place: PlaceOf = model.place
    if len(layers) == len(model.layers):
        places = dict(zip(flat(layers), map(model.place, model.all_layers()), strict=True))
        place = places.__getitem__
    for layer in layers:
        yield from layer.operations(place)


def objective_record(
    loss: Loss, reduction: str, divide_penalties: bool = False, recorded_scale: float = 1.0
) -> NDArray[Any]:
    """Return the loss and its reduction as the engine's record."""
    values = {
        "loss": engine.LOSSES[loss.name],
        "setting": loss.setting,
        "reduction": engine.REDUCTIONS[reduction],
        "divide_penalties": divide_penalties,
        "recorded_scale": recorded_scale,
    }
    return np.array(tuple(values[name] for name in _OBJECTIVE_FIELDS), engine.OBJECTIVE)


def optimizer_record(optimizer: Optimizer) -> NDArray[Any]:
    """Return an optimizer as the engine's record, which has a field for every setting."""
    code = engine.OPTIMIZERS[optimizer.name]
    values = [getattr(optimizer, name, None) or 0.0 for name in _OPTIMIZER_FIELDS]
    return np.array((code, *values), engine.OPTIMIZER)
