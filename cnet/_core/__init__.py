"""The compiled engine, in the build for the best instruction set that this processor has.

One C file is compiled once for each, as ``engine_generic``, ``engine_x86_64_v2`` and so on. The one
that is chosen here, at import, is known to everything else as ``cnet._core.engine``. The environment
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
        "cnet is not compiled in this folder, which has its source code: "
        "run `pip install -e .` here, or Python in another folder"
    ) from error


def _installed(isa: str) -> bool:
    return find_spec(f"{__name__}.engine_{isa}") is not None


def available_isas() -> list[str]:
    """Return the instruction sets that are built and run here, the best last."""
    return [isa for isa in ("generic", *supported_isas()) if _installed(isa)]


def _chosen_isa() -> str:
    available = available_isas()
    if not available:
        raise ImportError("cnet has no engine for this processor; install it anew from source")
    wanted = os.environ.get("CNET_ISA", "")
    if wanted and wanted not in available:
        raise ImportError(f"CNET_ISA must be one of {', '.join(available)} here, got {wanted!r}")
    return wanted or available[-1]


ISA = _chosen_isa()
sys.modules[f"{__name__}.engine"] = import_module(f"{__name__}.engine_{ISA}")
