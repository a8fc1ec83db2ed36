"""The compiled engine. Everything else about the package is in pyproject.toml."""

import copy
import os
import platform

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# CNET_DEBUG=1: bounds checks on, for the tests. CNET_SANITIZE=1: AddressSanitizer and UBSan.
# CNET_ISAS="x86_64_v3 x86_64_v4": only these instruction sets, for quick builds that nobody ships.
DEBUG = os.environ.get("CNET_DEBUG") == "1"
SANITIZE = os.environ.get("CNET_SANITIZE") == "1"

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": DEBUG,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "autotestdict": False,
}

# -ffast-math is not used, because it assumes that there are no NaN and infinities.
COMPILE_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-g0"]
LINK_FLAGS = []
if SANITIZE:
    # No recovery: a report ends the process. Otherwise the tests pass and pytest hides the report.
    SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    COMPILE_FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZERS]
    LINK_FLAGS = SANITIZERS

# The engine is compiled once for each instruction set. The best supported one is chosen at import.
ISAS = {"generic": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    ISAS = {f"x86_64_v{level}": [f"-march=x86-64-v{level}"] for level in (2, 3, 4)}
if chosen := os.environ.get("CNET_ISAS", "").split():
    if not ISAS.keys() >= set(chosen):
        raise SystemExit(f"CNET_ISAS must be some of {' '.join(ISAS)}, got {' '.join(chosen)}")
    ISAS = {isa: ISAS[isa] for isa in chosen}


def compiled(name, source, flags=(), macros=()):
    return Extension(
        f"cnet._core.{name}",
        [source],
        include_dirs=["cnet/_core", np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"), *macros],
        extra_compile_args=[*COMPILE_FLAGS, *flags],
        extra_link_args=LINK_FLAGS,
    )


class BuildApart(build_ext):
    """Builds each extension in a separate folder, because all engines have the same source file."""

    def build_extension(self, extension):
        # Extensions are built in parallel, so each one changes its own copy.
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, extension.name)
        super(BuildApart, own).build_extension(extension)


# force: otherwise a C file from another build mode would count as up to date.
cpu, engine = cythonize(
    [compiled("cpu", "cnet/_core/cpu.pyx"), compiled("engine", "cnet/_core/engine.pyx")],
    compiler_directives=DIRECTIVES,
    force=True,
)
# The engines are compiled from one C file and differ only in their flags and module name.
engines = [
    compiled(f"engine_{isa}", engine.sources[0], flags, [("PyInit_engine", f"PyInit_engine_{isa}")])
    for isa, flags in ISAS.items()
]

setup(
    ext_modules=[cpu, *engines],
    cmdclass={"build_ext": BuildApart},
    options={"build_ext": {"force": True, "parallel": os.cpu_count()}},
)
