"""Information about this installation of cnet and the machine."""

from __future__ import annotations

import platform

import numpy as np

from cnet import _core
from cnet.threads import get_num_threads


def show_config() -> None:
    """Print versions, the machine, the instruction set of the engine, and the number of threads.

    To select another available instruction set, set the environment variable ``CNET_ISA`` before cnet
    is imported, for example ``CNET_ISA=x86_64_v2 python script.py``.
    """
    # Imported here, because it takes a quarter as long as importing NumPy.
    from importlib.metadata import version

    print(f"cnet {version('cnet')}, NumPy {np.__version__}, Python {platform.python_version()}")
    print(f"{platform.system()} on {platform.machine()}")
    print(f"instruction set {_core.ISA}, of {', '.join(_core.available_isas())}")
    print(f"up to {get_num_threads()} threads")
