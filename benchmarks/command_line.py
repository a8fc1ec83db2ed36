"""The command line: selects workloads, peers and the output folder."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks import (
    fullbatch,
    growth,
    imports,
    latency,
    machine,
    online,
    threads,
    throughput,
    training,
)
from benchmarks.groups import Group
from benchmarks.measure import Settings
from benchmarks.peers import PEERS

GROUPS: dict[str, Group] = {
    "train": training.GROUP,
    "online": online.GROUP,
    "fullbatch": fullbatch.GROUP,
    "latency": latency.GROUP,
    "throughput": throughput.GROUP,
    "threads": threads.GROUP,
    "growth": growth.GROUP,
    "import": imports.GROUP,
}
DESCRIPTION = """\
Compare the speed of cnet with that of other libraries. Runs are interleaved on the same core. Tables of
ratios (results.md), every single time (results.json) and plots are written to a folder.
"""
EXAMPLES = """\
examples:
  python -m benchmarks                      everything, about ten minutes
  python -m benchmarks --quick              everything on less data, about a minute
  python -m benchmarks mnist wide           two workloads
  python -m benchmarks train --peers torch  all training workloads, against PyTorch only
  python -m benchmarks --list               all groups, workloads and peers

Peers that are not installed are skipped, with a message. PyTorch must be installed by hand, see
docs/benchmarks.md.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument(
        "workloads",
        nargs="*",
        metavar="workload",
        help=f"a name from --list, or a group: {', '.join(GROUPS)}; default: all",
    )
    found.add_argument(
        "--peers",
        nargs="+",
        choices=list(PEERS),
        default=list(PEERS),
        metavar="PEER",
        help=f"libraries to compare with, from {', '.join(PEERS)}; default: all that are installed",
    )
    found.add_argument(
        "--repetitions",
        type=positive_integer,
        help="number of timings per contestant; the median is reported; default: 5, with --quick 3",
    )
    found.add_argument(
        "--seconds",
        type=positive_number,
        help="duration of one timing; default: 0.5, with --quick 0.05",
    )
    found.add_argument(
        "--quick",
        action="store_true",
        help="less data and fewer, shorter timings, for a first look",
    )
    found.add_argument(
        "--iterations",
        type=positive_integer,
        help="steps of the full-batch tutorial; default: 100000, with --quick 10000",
    )
    found.add_argument("--core", type=int, help="core to run on; default: the last available one")
    found.add_argument(
        "--fann-python",
        default="/usr/bin/python3",
        metavar="PROGRAM",
        help="a Python that can import fann2, libfann's binding; default: %(default)s",
    )
    found.add_argument(
        "--output",
        type=Path,
        default=Path("benchmark-results"),
        metavar="FOLDER",
        help="output folder; default: %(default)s",
    )
    found.add_argument(
        "--plots", choices=["png", "svg"], default="png", help="plot format; default: %(default)s"
    )
    found.add_argument("--list", action="store_true", help="list groups, workloads and peers")
    return found


def positive_integer(text: str) -> int:
    """Parse an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def listing() -> str:
    """Return the text of ``--list``."""
    lines = []
    for name, group in GROUPS.items():
        peers = f", against {', '.join(PEERS[peer].title for peer in group.peers)}"
        lines.append(f"{name}: {group.title}{peers if group.peers else ''}")
        lines += [f"    {workload:20}{what}" for workload, what in group.workloads.items()]
    lines.append(f"peers: {', '.join(PEERS)}")
    return "\n".join(lines)


def chosen(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the selected workloads by group, in the order of the list; all if there are no names.

    Raises
    ------
    ValueError
        If a name is neither a workload nor a group.
    """
    known = {*GROUPS, *(workload for group in GROUPS.values() for workload in group.workloads)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no workload or group {', '.join(unknown)}; see --list")
    found = {
        name: [
            workload
            for workload in group.workloads
            if not names or name in names or workload in names
        ]
        for name, group in GROUPS.items()
    }
    return {name: workloads for name, workloads in found.items() if workloads}


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return the settings with their defaults; the installed peers are not determined yet."""
    quick = arguments.quick
    return Settings(
        peers=(),
        repetitions=arguments.repetitions or (3 if quick else 5),
        seconds=arguments.seconds or (0.05 if quick else 0.5),
        quick=quick,
        iterations=arguments.iterations or (10_000 if quick else 100_000),
        fann_python=arguments.fann_python,
        cores=machine.allowed_cores(),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, run the benchmarks and write the results."""
    command_line = parser()
    arguments = command_line.parse_args(argv)
    if arguments.list:
        print(listing())
        return
    try:
        workloads = chosen(arguments.workloads)
    except ValueError as error:
        command_line.error(str(error))
    cores = machine.allowed_cores()
    core = cores[-1] if arguments.core is None else arguments.core
    if core not in cores:
        command_line.error(f"--core must be one of {', '.join(map(str, cores))}, got {core}")
    missing = [module for module in ("matplotlib", "tabulate") if find_spec(module) is None]
    if missing:
        what = ", ".join(missing)
        command_line.exit(1, f'not installed: {what}; run: pip install -e ".[bench]"\n')
    run(arguments, workloads, core)


def run(arguments: argparse.Namespace, workloads: dict[str, list[str]], core: int) -> None:
    """Run the benchmarks on a core, and write the results after each group in case a later one fails."""
    from benchmarks import plots
    from benchmarks.report import DATA, TABLES, Report, section

    settings = settings_of(arguments)
    # Before importing any library that starts a thread for each core.
    machine.pin_to([core])
    taking_part = {peer for name in workloads for peer in GROUPS[name].peers}
    wanted = [peer for peer in arguments.peers if peer in taking_part]
    reasons = {peer: PEERS[peer].missing(arguments.fann_python) for peer in wanted}
    installed = tuple(peer for peer in wanted if not reasons[peer])
    left_out = {PEERS[peer].title: why for peer, why in reasons.items() if why}
    for title, why in left_out.items():
        print(f"{title} is left out: {why}", file=sys.stderr)
    settings = replace(settings, peers=installed)
    report = Report(
        machine.describe(),
        versions(installed),
        {**vars(settings), "core": core},
        left_out,
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, names in workloads.items():
        group = GROUPS[name]
        report.results[name] = results = []
        for workload in names:
            print(f"{name}: {workload} …", file=sys.stderr, flush=True)
            results += group.measure(workload, settings)
        print(f"\n{group.title}\n\n{section(group, results)}\n", flush=True)
        report.write(arguments.output, GROUPS)
        plots.draw(name, group, results, arguments.output, arguments.plots)
    print(f"{TABLES}, {DATA} and plots are in {arguments.output}.", file=sys.stderr)


def versions(peers: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of cnet, NumPy and the peers."""
    from cnet import __version__
    from cnet._core import ISA

    found = {"cnet": f"{__version__} ({ISA})", "numpy": importlib.metadata.version("numpy")}
    for peer in peers:
        found |= PEERS[peer].versions()
    return found
