"""Count the instructions of five small workloads and compare them with a committed table.

Times differ from run to run. The number of instructions hardly does, so a change of a few per cent shows
here, even on a busy machine. Valgrind's callgrind counts them. Each workload has its own process and is
counted from just before a call of cnet to just after it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_suffix(".json")
ROOT = Path(__file__).parents[1]

# Valgrind cannot run AVX-512, so the counts are those of the best instruction set without it.
ISA = "x86_64_v3"

# A count may be this much above the table's.
TOLERANCE = 0.03

# What a count must not depend on: the order of sets and dicts of strings, and other threads.
FIXED = {
    "CNET_ISA": ISA,
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

INSTALL_VALGRIND = "install it, on Debian and Ubuntu with: apt-get install valgrind"


class CountError(Exception):
    """The instructions cannot be counted here; the message says why."""


# The workloads. Each makes its data and network, does its work once so that nothing is loaded or
# allocated for the first time later, and returns the call to count.

Call = Callable[[], object]


def _batches(sizes: tuple[int, ...], n: int, epochs: int) -> Call:
    import numpy as np

    import cnet

    rng = np.random.default_rng(0)
    net = cnet.NeuralNetwork(seed=0, dtype="float32").add_layer(sizes[0], input_layer=True)
    for size in sizes[1:-1]:
        net.add_layer(size, "relu")
    net.add_layer(sizes[-1], "softmax")
    x = rng.standard_normal((n, sizes[0]), np.float32)
    y = rng.integers(0, sizes[-1], n)

    def train(epochs: int) -> object:
        how: dict[str, Any] = {"batch_size": 32, "optimizer": "adam", "verbose": False}
        return net.train(x, y, 1e-3, epochs, **how)

    train(1)
    return lambda: train(epochs)


def tiny_batches() -> Call:
    """Adam, 4-8-3, 1,000 rows in batches of 32, 50 epochs, float32."""
    return _batches((4, 8, 3), 1000, 50)


def deep_batches() -> Call:
    """Adam, 20-64-64-2, 1,000 rows in batches of 32, 5 epochs, float32."""
    return _batches((20, 64, 64, 2), 1000, 5)


def online() -> Call:
    """Gradient descent row by row, 2-2-2, 500 rows, 20 epochs, float64."""
    import numpy as np

    import cnet

    rng = np.random.default_rng(0)
    net = cnet.NeuralNetwork(seed=0, dtype="float64").add_layer(2, input_layer=True)
    net.add_layer(2).add_layer(2)
    x, y = rng.standard_normal((500, 2)), rng.uniform(0.1, 0.9, (500, 2))
    net.train(x, y, 0.5, 1, verbose=False)
    return lambda: net.train(x, y, 0.5, 20, verbose=False)


def _rows(n: int) -> tuple[Any, list[Any], list[Any]]:
    import numpy as np

    import cnet

    rng = np.random.default_rng(0)
    net = cnet.NeuralNetwork(seed=0, dtype="float32").add_layer(4, input_layer=True)
    net.add_layer(64, "tanh").add_layer(64, "tanh").add_layer(2, "linear")
    return (
        net,
        list(rng.standard_normal((n, 4), np.float32)),
        list(rng.standard_normal((n, 2), np.float32)),
    )


def _each(call: Callable[..., object], *arguments: Sequence[Any]) -> Call:
    """Return a call that runs through all arguments in C, because Python's loop is not cnet's."""
    call(*(argument[0] for argument in arguments))
    return lambda: deque(map(call, *arguments), maxlen=0)


def predict_rows() -> Call:
    """Predictor, 4-64-64-2, 2,000 rows one by one, float32."""
    net, rows, outputs = _rows(2000)
    return _each(net.predictor(), rows, outputs)


def learn_rows() -> Call:
    """train_one, gradient descent, 4-64-64-2, 1,000 rows one by one, float32."""
    net, rows, targets = _rows(1000)
    net.train_one(rows[0], targets[0])
    return _each(net.train_one, rows, targets)


WORKLOADS: dict[str, Callable[[], Call]] = {
    work.__name__: work for work in (tiny_batches, deep_batches, online, predict_rows, learn_rows)
}


# Counting


def work_of(name: str, library: str) -> None:
    """Do a workload in this process, and count it if valgrind runs this process."""
    import cnet

    cnet.set_num_threads(1)
    call = WORKLOADS[name]()
    counter = ctypes.CDLL(library)
    gc.disable()  # it would run whenever enough objects exist
    counter.start_counting()
    call()
    counter.stop_counting()


def build_library(folder: Path) -> Path:
    """Compile instructions.c and return the library.

    Raises
    ------
    CountError
        If there is no compiler or no header of valgrind.
    """
    library = folder / "instructions.so"
    source = Path(__file__).with_suffix(".c")
    command = [*os.environ.get("CC", "cc").split(), "-O1", "-shared", "-fPIC"]
    try:
        subprocess.run(
            [*command, source, "-o", library], capture_output=True, check=True, text=True
        )
    except FileNotFoundError as error:
        raise CountError(f"there is no C compiler {command[0]!r}") from error
    except subprocess.CalledProcessError as error:
        raise CountError(f"{source.name} does not compile:\n{error.stderr}") from error
    return library


def count(name: str, library: Path, folder: Path) -> int:
    """Return the number of instructions of a workload.

    Raises
    ------
    CountError
        If the workload fails under valgrind.
    """
    output = folder / f"{name}.callgrind"
    result = subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            f"--callgrind-out-file={output}",
            sys.executable,
            "-m",
            "benchmarks.instructions",
            "--work",
            name,
            str(library),
        ],
        cwd=ROOT,
        env={**os.environ, **FIXED},
        capture_output=True,
        text=True,
    )
    totals = re.search(r"^totals: (\d+)", output.read_text() if output.exists() else "", re.M)
    if result.returncode or totals is None or totals[1] == "0":
        raise CountError(f"{name} failed under valgrind:\n{result.stdout}{result.stderr}")
    return int(totals[1])


def counts_of(names: Sequence[str]) -> dict[str, int]:
    """Return the number of instructions of each workload.

    Raises
    ------
    CountError
        If they cannot be counted here.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise CountError("the table is for Linux on x86-64")
    if shutil.which("valgrind") is None:
        raise CountError(f"valgrind is not installed; {INSTALL_VALGRIND}")
    from cnet._core import available_isas

    if ISA not in available_isas():
        raise CountError(f"this processor or this build lacks {ISA}, which the table is for")
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        library = build_library(Path(folder))
        for name in names:
            counts[name] = count(name, library, Path(folder))
            print(f"{name}: {counts[name]:,}", file=sys.stderr, flush=True)
    return counts


def tools() -> dict[str, str]:
    """Return what else the counts depend on: compiler, interpreter and libraries."""
    compiler = subprocess.run(
        [*os.environ.get("CC", "cc").split(), "-dumpfullversion"], capture_output=True, text=True
    )
    return {
        "compiler": compiler.stdout.strip(),
        "libc": " ".join(platform.libc_ver()),
        "Python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "isa": ISA,
    }


# Comparing


def compare(counts: Mapping[str, int], table: Mapping[str, int]) -> tuple[list[str], bool]:
    """Compare counts with those of the table.

    Returns
    -------
    lines : list of str
        One for each workload.
    passed : bool
        False if a count is more than 3 % above the table's, or if the two have other workloads.
    """
    lines, passed = [], True
    width = max(map(len, [*counts, *table]), default=0)
    for name in [*counts, *(name for name in table if name not in counts)]:
        if name not in table:
            line, ok = f"{counts[name]:,} instructions, not in the table", False
        elif name not in counts:
            line, ok = "in the table, but not a workload", False
        else:
            change = counts[name] / table[name] - 1
            ok = counts[name] <= table[name] * (1 + TOLERANCE)
            line = f"{counts[name]:,} instructions, {change:+.2%} (table: {table[name]:,})"
        lines.append(f"{'ok  ' if ok else 'FAIL'} {name:{width}}  {line}")
        passed = passed and ok
    return lines, passed


def other_tools(here: Mapping[str, str], table: Mapping[str, str]) -> list[str]:
    """Return a line for each tool that is not the one of the table."""
    return [
        f"note: the table was made with {name} {table.get(name, 'unknown')}, here is {version}"
        for name, version in here.items()
        if version != table.get(name)
    ]


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument(
        "--update",
        metavar="REASON",
        help="write the counts into the table, with the reason why they change",
    )
    found.add_argument(
        "--table", type=Path, default=TABLE, metavar="FILE", help="default: %(default)s"
    )
    found.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Count, then compare or update; return the exit status."""
    command_line = parser()
    arguments = command_line.parse_args(argv)
    if arguments.work:
        work_of(*arguments.work)
        return 0
    reason = arguments.update
    if reason is not None and not reason.strip():
        command_line.error("--update must have a reason, such as 'dropout takes a mask'")
    try:
        counts = counts_of(list(WORKLOADS))
    except CountError as error:
        print(f"instructions cannot be counted: {error}", file=sys.stderr)
        return 2
    here = tools()
    if reason is not None:
        table = {
            "reason": reason.strip(),
            "tools": here,
            "workloads": {name: WORKLOADS[name].__doc__ for name in counts},
            "instructions": counts,
        }
        arguments.table.write_text(json.dumps(table, indent=2) + "\n")
        print(f"{arguments.table} is updated")
        return 0
    table = json.loads(arguments.table.read_text())
    lines, passed = compare(counts, table["instructions"])
    print("\n".join(lines))
    if not passed:
        notes = other_tools(here, table["tools"])
        print("\n".join(notes), end="\n" if notes else "")
        print(
            f"A workload takes over {TOLERANCE:.0%} more instructions than {arguments.table.name} "
            "says, or is not in it. If that is meant to be, run: "
            "python -m benchmarks.instructions --update REASON"
        )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
