"""Latency: the time to predict or to learn a single row."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.groups import Group
from benchmarks.measure import Result, Settings, single_calls
from benchmarks.peers import PEERS
from benchmarks.predictors import Call, checked_calls, network

SIZES = (4, 64, 64, 2)
LEARNING_RATE = 0.01
CALLS = 10_000
QUICK_CALLS = 1_000
QUANTILES = {"median": 50, "99th percentile": 99}


def prediction(settings: Settings) -> dict[str, Call]:
    """Return the contestants' calls that predict a row."""
    net = network(SIZES)
    row = np.linspace(-1, 1, SIZES[0], dtype=np.float32)
    predictor = net.predictor()
    out = np.empty(SIZES[-1], np.float32)
    return {
        "cnet predictor": lambda: predictor(row, out=out),
        "cnet predict": lambda: net.predict(row),
        **checked_calls(net, row[None], settings.peers),
    }


def learning(settings: Settings) -> dict[str, Call]:
    """Return the contestants' calls that make a step of plain gradient descent on a row."""
    net = network(SIZES)
    row = np.linspace(-1, 1, SIZES[0], dtype=np.float32)
    target = np.array([0, 1], np.float32)
    # train_one uses the optimizer of the last training.
    net.train(row[None], target[None], LEARNING_RATE, 1, optimizer="sgd", verbose=False)
    other = net.copy()
    calls: dict[str, Call] = {
        "cnet train_one": lambda: net.train_one(row, target),
        "cnet backward_propagate": lambda: other.backward_propagate(row, target, LEARNING_RATE),
    }
    if "torch" in settings.peers:
        calls[PEERS["torch"].title] = torch_step(row)
    if "sklearn" in settings.peers:
        calls[PEERS["sklearn"].title] = sklearn_step(row)
    for call in calls.values():
        call()
    return calls


def torch_step(row: Any) -> Call:
    """Return a step of PyTorch's fused SGD."""
    import torch

    torch.set_num_threads(1)
    linears = [torch.nn.Linear(a, b) for a, b in pairwise(SIZES)]
    modules = [module for linear in linears for module in (linear, torch.nn.ReLU())]
    model = torch.nn.Sequential(*modules[:-1])
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, fused=True)
    loss_of = torch.nn.CrossEntropyLoss()
    x, y = torch.from_numpy(row[None]), torch.tensor([1])

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def sklearn_step(row: Any) -> Call:
    """Return a step of ``MLPClassifier.partial_fit``."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        SIZES[1:-1], solver="sgd", alpha=0, learning_rate_init=LEARNING_RATE, momentum=0
    )
    x, y = row[None], np.array([1])
    model.partial_fit(x, y, classes=range(SIZES[-1]))
    return lambda: model.partial_fit(x, y)


WORKLOADS: dict[str, str] = {
    "predict-one": "the outputs for one row, 4-64-64-2",
    "learn-one": "a step after one row, 4-64-64-2",
}
CONTESTANTS: dict[str, Callable[[Settings], dict[str, Call]]] = {
    "predict-one": prediction,
    "learn-one": learning,
}


def measure(name: str, settings: Settings) -> list[Result]:
    """Time every call individually, and an empty function, to show the overhead of the clock."""
    calls = {**CONTESTANTS[name](settings), "": lambda: None}
    times = single_calls(calls, settings, QUICK_CALLS if settings.quick else CALLS)
    clock = 1e6 * float(np.median(times.pop("")))
    return [
        Result(
            name,
            {"net": "-".join(map(str, SIZES)), "of the calls": title},
            "µs",
            1e6,
            {
                contestant: [float(np.percentile(single, quantile)) for single in repetitions]
                for contestant, repetitions in times.items()
            },
            more={"clock alone, µs": f"{clock:.2f}"},
        )
        for title, quantile in QUANTILES.items()
    ]


GROUP = Group(
    title="Latency",
    about=(
        "One row at a time, float32, one core. Every call is timed individually, and times include the "
        "clock. PyTorch gets a tensor, the others a NumPy array."
    ),
    workloads=WORKLOADS,
    peers=("onnxruntime", "torch", "sklearn"),
    measure=measure,
)
