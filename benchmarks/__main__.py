"""Time whole training epochs of cnet and its peers, in turn, and print a Markdown table of ratios."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator
from statistics import median

# One thread each, before any library starts its own.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from benchmarks.peers import PEERS, Trainer, cnet_trainer  # noqa: E402
from benchmarks.workloads import WORKLOADS, Workload  # noqa: E402


def seconds_per_epoch(train: Trainer, epochs: int) -> float:
    """Return the time of one epoch, of so many in a row."""
    start = time.perf_counter()
    train(epochs)
    return (time.perf_counter() - start) / epochs


def epochs_in(train: Trainer, seconds: float) -> int:
    """Return how many epochs take about so long; the first, which warms up, is not counted."""
    train(1)
    return max(1, round(seconds / seconds_per_epoch(train, 1)))


def table(
    workloads: dict[str, Workload], peers: list[str], repetitions: int, seconds: float
) -> Iterator[str]:
    """Yield the lines of the table, a row for each workload."""
    heads = ["workload", "rows", "net", "batch", "cnet, ms per epoch"]
    heads += [f"{peer} ÷ cnet" for peer in peers]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for name, workload in workloads.items():
        trainers = [cnet_trainer(workload), *(PEERS[peer](workload) for peer in peers)]
        epochs = [epochs_in(train, seconds) for train in trainers]
        # In turn, so that a noisy moment of the machine hits all of them.
        times = [
            [seconds_per_epoch(train, n) for train, n in zip(trainers, epochs, strict=True)]
            for _ in range(repetitions)
        ]
        own, *others = (median(column) for column in zip(*times, strict=True))
        net = "-".join(map(str, workload.sizes))
        cells = [name, f"{workload.rows:,}", net, str(workload.batch_size), f"{1e3 * own:.3g}"]
        cells += [f"{other / own:.3g}" for other in others]
        yield f"| {' | '.join(cells)} |"


def installed(peer: str) -> bool:
    """Return whether the peer can be run here."""
    try:
        PEERS[peer](Workload(1, (1, 1, 2), 1))
    except ImportError:
        return False
    return True


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}"
    )
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--repetitions", type=int, default=5, help="timings of each (default 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of one timing (default 0.5)")
    arguments = parser.parse_args()
    unknown = set(arguments.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"no workload {', '.join(sorted(unknown))}: choose of {', '.join(WORKLOADS)}")
    peers = [peer for peer in arguments.peers if installed(peer)]
    for peer in arguments.peers:
        if peer not in peers:
            print(f"{peer} is not installed and left out.", file=sys.stderr)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{platform.machine()}, Python {platform.python_version()}, one core, float32, Adam:\n")
    chosen = arguments.workloads or list(WORKLOADS)
    for line in table(
        {name: WORKLOADS[name] for name in chosen}, peers, arguments.repetitions, arguments.seconds
    ):
        print(line, flush=True)


if __name__ == "__main__":
    main()
