"""Training: shuffled epochs of a classifier with relu and softmax, with Adam in float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.groups import Group
from benchmarks.measure import Result, Settings, interleaved, timed
from benchmarks.peak import peak_task
from benchmarks.peers import PEERS
from benchmarks.trainers import TRAINERS, Trainer, cnet_trainer
from benchmarks.workloads import WORKLOADS, Workload, workload_of


def trainers(workload: Workload, peers: tuple[str, ...]) -> dict[str, Trainer]:
    """Return the trainers of cnet and of the peers that have one, by title."""
    found = {"cnet": cnet_trainer(workload)}
    for peer in peers:
        if peer in TRAINERS:
            found[PEERS[peer].title] = TRAINERS[peer](workload)
    return found


def measure(name: str, settings: Settings) -> list[Result]:
    """Compare losses, which also warms up, and then time epochs."""
    workload = workload_of(name, settings)
    contestants = trainers(workload, settings.peers)
    losses = {title: train(workload.loss_epochs) for title, train in contestants.items()}
    tasks = {title: timed(train) for title, train in contestants.items()}
    peak = peak_task()
    if peak is not None:
        # Interleaved with the others, because the core's clock frequency changes.
        tasks["peak"] = peak[0]
    times = interleaved(tasks, settings)
    result = Result(
        name,
        {"rows": workload.rows, "net": workload.net, "batch": workload.batch_size},
        "ms per epoch",
        1e3,
        {title: times[title] for title in contestants},
        losses=losses,
        loss_epochs=workload.loss_epochs,
    )
    speed = workload.operations / result.medians["cnet"] / 1e9
    more = {"cnet, GFLOP/s": f"{speed:.3g}"}
    if peak is not None:
        highest = peak[1] / float(np.median(times["peak"])) / 1e9
        more |= {"core's peak": f"{highest:.3g}", "share": f"{100 * speed / highest:.2g} %"}
    else:
        more["core's peak"] = "left out: no C compiler"
    return [replace(result, more=more)]


GROUP = Group(
    title="Training",
    about=(
        "One shuffled epoch with Adam, float32, relu and softmax, one core. GFLOP/s counts the "
        "multiply-adds of the matrix products only, and the share is that of the core's measured peak."
    ),
    workloads=WORKLOADS,
    peers=("numpy", "sklearn", "torch", "jax"),
    measure=measure,
)
