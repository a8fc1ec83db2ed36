"""Layers: one module for each kind, and a table of the kinds.

To add a kind, write a subclass of `BaseLayer` and list it in `LAYER_KINDS`.
"""

from __future__ import annotations

from typing import Any

from cnet._checks import guess, listed
from cnet.layers.base import MAX_NEURONS, BaseLayer
from cnet.layers.dense import Layer

__all__ = ["LAYER_KINDS", "MAX_NEURONS", "BaseLayer", "Layer", "layer_from_config"]

LAYER_KINDS: dict[str, type[BaseLayer]] = {layer.kind: layer for layer in (Layer,)}


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
