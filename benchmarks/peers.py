"""The peers that cnet is compared with: their requirements, and their names in the tables."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A library, or an implementation of the algorithm from scratch.

    Attributes
    ----------
    title : str
        Its name in the tables.
    modules : dict of str
        Required modules, with the names of their distributions.
    """

    title: str
    modules: dict[str, str]

    def missing(self, fann_python: str) -> str:
        """Return the reason why it cannot run here, or an empty string."""
        if self is PEERS["fann"]:
            return missing_fann(fann_python)
        for module in self.modules:
            try:
                importlib.import_module(module)
            except ImportError as error:
                return str(error)
        return ""

    def versions(self) -> dict[str, str]:
        """Return the versions of the required distributions."""
        return {name: importlib.metadata.version(name) for name in self.modules.values()}


def missing_fann(python: str) -> str:
    """Return the reason why `python` cannot run libfann, or an empty string."""
    try:
        subprocess.run(
            [python, "-c", "import fann2.libfann"], capture_output=True, text=True, check=True
        )
    except OSError as error:
        return str(error)
    except subprocess.CalledProcessError as error:
        return f"{python}: {error.stderr.strip().splitlines()[-1]}"
    return ""


# A peer takes part in a group if the group's module has a function for it.
PEERS = {
    "numpy": Peer("NumPy", {"numpy": "numpy"}),
    "sklearn": Peer("scikit-learn", {"sklearn": "scikit-learn"}),
    "torch": Peer("PyTorch", {"torch": "torch"}),
    "jax": Peer("JAX", {"jax": "jax"}),
    "onnxruntime": Peer("ONNX Runtime", {"onnxruntime": "onnxruntime", "onnx": "onnx"}),
    "python": Peer("plain Python", {}),
    "fann": Peer("libfann", {}),
}
