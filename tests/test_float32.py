"""No float32 loop runs in double by mistake, which a single double literal or function causes.

The engine is translated to C, and the compiler reports where a float becomes a double, or a double a
float, without an explicit cast.
"""

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("Cython", reason="the engine is translated to C by Cython")
CC = shutil.which("cc")
pytestmark = pytest.mark.skipif(CC is None, reason="there is no C compiler named cc")

ROOT = Path(__file__).parents[1]
FUNCTION = re.compile(r"static\b.*?\b(__pyx_\w+)\(.*\{")
WARNING = re.compile(
    r"(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): warning: .*\[-W(?P<kind>double|float)-"
)
# Not kernels: conversion of Python arguments and results, and Cython's own functions.
CONVERSIONS = re.compile(r"__pyx_(pw|pf|fuse_\dpw|fuse_\dpf)_|__pyx_memoryview|__pyx_array")
TOTAL = re.compile(r"\s*__pyx_v_total = \(__pyx_v_total \+ \(")
COMPARISON = re.compile(r"\s(<|>|<=|>=|==|!=) (-?[0-9.e+-]+)\)")
# Meant to run in double: a check of targets, which is no loop to hurry, and sums over the rows of a
# batch.
MEANT = {
    "__pyx_fuse_0__pyx_f_4cnet_5_core_6engine_7Learner_read_targets",
    "__pyx_fuse_0__pyx_f_4cnet_5_core_4norm_batch_moments",
    "__pyx_fuse_0__pyx_f_4cnet_5_core_4norm_batch_norm_sums",
}


def directives():
    """Return the directives of setup.py, without its debug mode."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DIRECTIVES":
            return eval(ast.unparse(node.value), {"DEBUG": False})
    raise AssertionError("setup.py has no DIRECTIVES")


def translate(source, root, to):
    """Return the lines of C that Cython generates from a source file."""
    options = [f"-X{name}={value}" for name, value in directives().items()]
    command = [sys.executable, "-m", "cython", *options, "-o", str(to), str(source)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Cython itself casts a float that meets a double, as in 1.0 / ((double)x), so the compiler would not
    # complain.
    to.write_text(to.read_text().replace("((double)", "("))
    return to.read_text().splitlines()


def function_at(lines, number):
    """Return the name of the function that contains the line; Cython writes its header in one line."""
    for line in reversed(lines[:number]):
        if match := FUNCTION.match(line):
            return match[1]
    return ""


def is_intended(statement, column):
    """Whether a promotion is intended (a total kept in double), or costs nothing.

    The compiler compares in float if the constant is exact in float.
    """
    if TOTAL.match(statement):
        return True
    if statement[column] in "+-*/":
        return False
    constants = [float(match[2]) for match in COMPARISON.finditer(statement)]
    return bool(constants) and all(float(np.float32(value)) == value for value in constants)


def doubles(source, root, folder):
    """Return the code of a source file, and for each function its statements that run in double."""
    to = folder / "translated.c"
    lines = translate(source, root, to)
    includes = [sysconfig.get_path("include"), np.get_include(), str(root / "cnet/_core")]
    done = subprocess.run(
        [
            CC,
            "-fsyntax-only",
            "-Wdouble-promotion",
            "-Wfloat-conversion",
            "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION",
            *(f"-I{include}" for include in includes),
            str(to),
        ],
        capture_output=True,
        text=True,
        env={"PATH": str(Path(CC).parent), "LC_ALL": "C"},
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for match in WARNING.finditer(done.stderr):
        if Path(match["file"]) != to:
            # A header of the package; system headers do not warn.
            found.setdefault(Path(match["file"]).name, []).append(match["line"])
            continue
        line, column = int(match["line"]), int(match["column"]) - 1
        name, statement = function_at(lines, line), lines[line - 1]
        if CONVERSIONS.match(name) or (
            match["kind"] == "double" and is_intended(statement, column)
        ):
            continue
        if name not in MEANT:
            found.setdefault(name, []).append(statement.strip())
    return "\n".join(lines), found


def test_float32_loops_of_the_engine(tmp_path):
    code, found = doubles(ROOT / "cnet/_core/engine.pyx", ROOT, tmp_path)
    # The kernels exist under the names by which the warnings are sorted.
    for kernel in ("activations_sigmoid", "losses_huber", "optimizers_adam", "dense_forward"):
        assert re.search(rf"^static.* __pyx_fuse_0__pyx_f_\w*{kernel}\(.*{{$", code, re.MULTILINE)
    assert found == {}


HEADER = "static float tenth(float x) { return x * 0.1; }"
KERNELS = """
from libc.math cimport sqrt

cdef extern from "tenth.h" nogil:
    float tenth(float x)

ctypedef fused real:
    float
    double

cdef void literal(Py_ssize_t n, real* x) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = x[i] + 1e-8

cdef real function(real x) noexcept nogil:
    return sqrt(x)

cdef bint inexact(real x) noexcept nogil:
    return x < 1e-8

cdef real integer(real x) noexcept nogil:
    # An integer by a float is a double to Cython.
    return 1 / x

cdef real division(real x) noexcept nogil:
    return 1.0 / x

cdef bint product(real x, double y) noexcept nogil:
    return x * y < 0

cdef bint exact(real x) noexcept nogil:
    return x < 0 or x > 0.5

cdef void cast(Py_ssize_t n, real* x) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = x[i] * <real>1e-8

cdef double sums(Py_ssize_t n, const real* x) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(n):
        total += <double>x[i] * x[i]
    return total

def python(real x):
    literal(1, &x)
    cast(1, &x)
    return (
        function(x), integer(x), division(x), inexact(x), product(x, x), exact(x), sums(1, &x), x * 2.0)
"""


def test_the_detection_of_doubles(tmp_path):
    source = tmp_path / "kernels.pyx"
    source.write_text(KERNELS)
    (tmp_path / "tenth.h").write_text(HEADER)
    _, found = doubles(source, tmp_path, tmp_path)
    assert found.pop("tenth.h")
    assert {name.rpartition("_")[2] for name in found} == {
        "literal",
        "function",
        "inexact",
        "integer",
        "division",
        "product",
    }
    assert all(name.startswith("__pyx_fuse_0") for name in found)
