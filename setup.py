"""The compiled engine. Everything else about the package is in pyproject.toml."""

import os

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

# CNET_DEBUG=1: bounds checks on, for the tests. CNET_SANITIZE=1: AddressSanitizer and UBSan.
DEBUG = os.environ.get("CNET_DEBUG") == "1"
SANITIZE = os.environ.get("CNET_SANITIZE") == "1"

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "autotestdict": False,
}

# Not -ffast-math, so that NaN and infinity are seen, and no -march, so that the wheel runs anywhere.
COMPILE_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-g0"]
LINK_FLAGS = []
if SANITIZE:
    COMPILE_FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
    LINK_FLAGS = ["-fsanitize=address,undefined"]

engine = Extension(
    "cnet._core.engine",
    ["cnet/_core/engine.pyx"],
    include_dirs=["cnet/_core", np.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    extra_compile_args=COMPILE_FLAGS,
    extra_link_args=LINK_FLAGS,
)

setup(
    # force: a C file from another mode of building would pass for up to date.
    ext_modules=cythonize([engine], compiler_directives=DIRECTIVES, force=True),
    options={"build_ext": {"force": True}},
)
