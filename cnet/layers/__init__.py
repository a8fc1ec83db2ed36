"""Layers: one module for each kind.

To add a kind, write a subclass of `BaseLayer` and import it here. What the engine computes for it
is an operation in ``cnet/_core``.
"""

from cnet.layers.base import (
    LAYER_KINDS,
    MAX_NEURONS,
    BaseLayer,
    check_fit,
    flat,
    layer_from_config,
)
from cnet.layers.dense import Layer
from cnet.layers.normalization import BatchNorm, LayerNorm
from cnet.layers.operation import Operation, Place, PlaceOf
from cnet.layers.residual import Residual

__all__ = [
    "LAYER_KINDS",
    "MAX_NEURONS",
    "BaseLayer",
    "BatchNorm",
    "Layer",
    "LayerNorm",
    "Operation",
    "Place",
    "PlaceOf",
    "Residual",
    "check_fit",
    "flat",
    "layer_from_config",
]
