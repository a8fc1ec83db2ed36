"""Throughput: the outputs for many rows in one call."""

from __future__ import annotations

import numpy as np

from benchmarks.groups import Group
from benchmarks.measure import Result, Settings, interleaved, repeated
from benchmarks.predictors import checked_calls, network

SIZES = (784, 128, 10)
ROWS = 100_000
QUICK_ROWS = 20_000


def measure(name: str, settings: Settings) -> list[Result]:
    """Time calls for all rows."""
    rows = QUICK_ROWS if settings.quick else ROWS
    net = network(SIZES)
    x = np.random.default_rng(0).standard_normal((rows, SIZES[0]), np.float32)
    calls = {"cnet": lambda: net.predict(x), **checked_calls(net, x, settings.peers)}
    tasks = {title: repeated(call) for title, call in calls.items()}
    net_name = "-".join(map(str, SIZES))
    what: dict[str, int | str] = {"rows": rows, "net": net_name}
    return [Result(name, what, "ms in total", 1e3, interleaved(tasks, settings))]


GROUP = Group(
    title="Throughput",
    about="The outputs for all rows in one call, float32, one core.",
    workloads={"throughput": "100,000 rows, 784-128-10"},
    peers=("onnxruntime", "torch", "sklearn"),
    measure=measure,
)
