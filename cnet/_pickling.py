"""Conversion of a trainer's state to plain values and arrays for pickling, and back with validation."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnet._arrays import as_dtype
from cnet._checks import as_integer, check_keys
from cnet._records import record_from_dict, record_to_dict
from cnet.history import History
from cnet.layers import MAX_NEURONS
from cnet.losses import LOSSES, Loss
from cnet.model import Model
from cnet.optimizers import OPTIMIZERS, OptimizerState
from cnet.training import Trainer

# Version of the format.
VERSION = 1

_KEYS = ("version", "dtype", "n_inputs", "model", "optimizer", "loss", "rng", "history")


def trainer_to_dict(trainer: Trainer) -> dict[str, Any]:
    """Return the state of a trainer. A function as loss is left out."""
    now = trainer.committed
    return {
        "version": VERSION,
        "dtype": trainer.dtype.name,
        "n_inputs": trainer.n_inputs,
        "model": None if now.plan is None else now.plan.model.to_dict(),
        "optimizer": None if now.state is None else _state_to_dict(now.state),
        "loss": None if now.loss is None or now.loss.in_python else record_to_dict(now.loss),
        "rng": trainer.rng,
        "history": now.history,
    }


def trainer_from_dict(state: Any) -> Trainer:
    """Return the trainer that `trainer_to_dict` described.

    Raises
    ------
    ValueError, TypeError
        If the version is unknown, or something is missing, unknown or invalid.
    """
    check_keys("a network", state, _KEYS)
    if state["version"] != VERSION:
        raise ValueError(f"the version of a network must be {VERSION}, got {state['version']!r}")
    rng, history = state["rng"], state["history"]
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {rng!r}")
    if history is not None and not isinstance(history, History):
        raise TypeError(f"history must be a cnet.History, got {history!r}")
    trainer = Trainer(as_dtype(state["dtype"]), rng)
    if state["n_inputs"] is not None:
        trainer.n_inputs = as_integer("n_inputs", state["n_inputs"], 1, MAX_NEURONS)
    if state["model"] is not None:
        model = Model.from_dict(state["model"])
        if model.dtype != trainer.dtype:
            raise ValueError(f"dtype must be that of the model, {model.dtype}, got {trainer.dtype}")
        optimizer = state["optimizer"]
        trainer.adopt(
            model,
            None if optimizer is None else _state_from_dict(optimizer, model),
            None if state["loss"] is None else _loss_from_dict(state["loss"], model),
            history,
        )
    return trainer


def _loss_from_dict(data: Any, model: Model) -> Loss:
    loss = record_from_dict("loss", data, LOSSES)
    activation = model.layers[-1].activation
    if not loss.supports(activation):
        raise ValueError(
            f"loss '{loss.name}' does not go with the output activation '{activation}'"
        )
    return loss


def _state_to_dict(state: OptimizerState) -> dict[str, Any]:
    return {
        "settings": record_to_dict(state.optimizer),
        "moments": state.moments,
        "steps": int(state.steps[0]),
    }


def _state_from_dict(data: Any, model: Model) -> OptimizerState:
    check_keys("optimizer", data, ("settings", "moments", "steps"))
    optimizer = record_from_dict("optimizer", data["settings"], OPTIMIZERS)
    state = optimizer.start(len(model.parameters), model.dtype, 0.0)
    moments = data["moments"]
    if not isinstance(moments, np.ndarray) or moments.dtype != model.dtype:
        raise TypeError(f"moments must be an array of {model.dtype}")
    if moments.shape != state.moments.shape:
        raise ValueError(f"moments must have shape {state.moments.shape}, got {moments.shape}")
    if not np.isfinite(moments).all():
        raise ValueError("moments must not have NaN or infinite values")
    state.moments[...] = moments
    state.steps[0] = as_integer("steps", data["steps"], 0, np.iinfo(np.intp).max)
    return state
