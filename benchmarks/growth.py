"""Growth: how the time of an epoch depends on the number of rows and of parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from benchmarks import training
from benchmarks.groups import Group
from benchmarks.measure import Result, Settings, interleaved, timed
from benchmarks.workloads import Workload

ROWS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
PARAMETERS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
QUICK_LIMIT = 300_000
N_INPUTS, N_CLASSES = 32, 10


def two_equal_layers(n_parameters: int) -> tuple[int, ...]:
    """Return the sizes of a network with two equal hidden layers and about `n_parameters` parameters."""
    # width² + (inputs + classes + 2 biases) · width + classes parameters
    linear = N_INPUTS + N_CLASSES + 2
    width = round((math.sqrt(linear**2 + 4 * (n_parameters - N_CLASSES)) - linear) / 2)
    return N_INPUTS, width, width, N_CLASSES


def parameters_of(sizes: Sequence[int]) -> int:
    """Return the number of weights and biases of a network."""
    return sum((n_inputs + 1) * n_neurons for n_inputs, n_neurons in pairwise(sizes))


def workloads_of(name: str, settings: Settings) -> list[Workload]:
    """Return the workloads from the smallest to the largest."""
    limit = QUICK_LIMIT if settings.quick else math.inf
    if name == "growth-rows":
        return [Workload(n, (20, 100, 2), 200) for n in ROWS if n <= limit]
    return [Workload(1_024, two_equal_layers(n), 128) for n in PARAMETERS if n <= limit]


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Return the exponent p of the power law time ~ size^p, fitted on logarithmic axes."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def measure(name: str, settings: Settings) -> list[Result]:
    """Time epochs for every size."""
    workloads = workloads_of(name, settings)
    trainers = {str(workload): training.trainers(workload, ())["cnet"] for workload in workloads}
    for train in trainers.values():
        train(1)
    times = interleaved({key: timed(train) for key, train in trainers.items()}, settings)
    results = []
    for workload in workloads:
        n_parameters = parameters_of(workload.sizes)
        by_rows = name == "growth-rows"
        size = workload.rows if by_rows else n_parameters
        result = Result(
            name,
            {"rows": workload.rows, "net": workload.net, "parameters": n_parameters},
            "ms per epoch",
            1e3,
            {"cnet": times[str(workload)]},
            size=size,
        )
        per_one = 1e9 * result.medians["cnet"] / size
        unit = "ns per row" if by_rows else "ns per parameter"
        results.append(Result(**{**vars(result), "more": {unit: f"{per_one:,.3g}"}}))
    return results


def notes(results: list[Result]) -> list[str]:
    """Return the exponent of each power law, as text."""
    lines = []
    for name in dict.fromkeys(result.workload for result in results):
        own = [result for result in results if result.workload == name]
        if len(own) > 1:
            power = exponent([r.size for r in own], [r.medians["cnet"] for r in own])
            lines.append(f"{name}: time ~ size^{power:.2f} over all these sizes.")
    return lines


GROUP = Group(
    title="Growth",
    about="An epoch of cnet with Adam in float32, by rows and by parameters; one core.",
    workloads={
        "growth-rows": "1,000 to 1,000,000 rows, 20-100-2, batch 200",
        "growth-parameters": "1,000 to 10,000,000 parameters, 1,024 rows, batch 128",
    },
    peers=(),
    measure=measure,
    growth=True,
    notes=notes,
)
