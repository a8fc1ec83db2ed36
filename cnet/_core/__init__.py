"""The compiled engine, built for the best instruction set of this processor.

One C file is compiled once per instruction set, as ``engine_generic``, ``engine_x86_64_v2`` and so on.
This module selects one at import, and makes it available as ``cnet._core.engine``. The environment
variable ``CNET_ISA`` (generic, x86_64_v2, x86_64_v3 or x86_64_v4) overrides the choice.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec

try:
    from cnet._core.cpu import supported_isas
except ModuleNotFoundError as error:
    raise ImportError(
        "cannot import cnet from its source folder, where it is not compiled: "
        "run `pip install -e .` here, or run Python in another folder"
    ) from error


def _installed(isa: str) -> bool:
    return find_spec(f"{__name__}.engine_{isa}") is not None


def available_isas() -> list[str]:
    """Return the instruction sets that are installed and supported by the processor, best last."""
    return [isa for isa in ("generic", *supported_isas()) if _installed(isa)]


def _chosen_isa() -> str:
    available = available_isas()
    if not available:
        raise ImportError("cnet has no engine for this processor; reinstall it from source")
    wanted = os.environ.get("CNET_ISA", "")
    if wanted and wanted not in available:
        raise ImportError(f"CNET_ISA must be one of {', '.join(available)}, got {wanted!r}")
    return wanted or available[-1]


ISA = _chosen_isa()
sys.modules[f"{__name__}.engine"] = import_module(f"{__name__}.engine_{ISA}")
