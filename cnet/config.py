"""What this installation of cnet is and runs on."""

from __future__ import annotations

import platform

import numpy as np

from cnet import _core
from cnet.threads import get_num_threads


def show_config() -> None:
    """Print versions, the machine, the instruction set of the engine, and the number of threads.

    The environment variable ``CNET_ISA``, read when cnet is imported, chooses another of those
    available, as in ``CNET_ISA=x86_64_v2 python script.py``.
    """
    # Here, for it takes a quarter of the time of importing NumPy.
    from importlib.metadata import version

    print(f"cnet {version('cnet')}, NumPy {np.__version__}, Python {platform.python_version()}")
    print(f"{platform.system()} on {platform.machine()}")
    print(f"instruction set {_core.ISA}, of {', '.join(_core.available_isas())}")
    print(f"up to {get_num_threads()} threads")
