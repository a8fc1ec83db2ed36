"""Threads: cnet's training epochs on one thread, two threads and so on up to all cores."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks import training, workloads
from benchmarks.groups import Group
from benchmarks.machine import pin_to
from benchmarks.measure import Result, Settings, Task, interleaved, timed

WORKLOADS = {f"threads-{name}": name for name in ("tiny", "small", "mnist", "wide")}


def numbers_of_threads(n_cores: int) -> list[int]:
    """Return the powers of two below the number of cores, and the number of cores."""
    powers = [2**i for i in range(n_cores.bit_length())]
    return sorted({n for n in powers if n < n_cores} | {n_cores})


def task_on(n_threads: int, train: training.Trainer) -> Task:
    """Return a task that trains on `n_threads` threads."""
    import cnet

    def work(epochs: int) -> None:
        with cnet.num_threads(n_threads):
            train(epochs)

    return timed(work)


def epochs(name: str, settings: Settings) -> dict[str, list[float]]:
    """Time epochs of one network with each number of threads."""
    train = training.trainers(workloads.workload_of(name, settings), ())["cnet"]
    tasks = {
        f"{n} thread{'s' if n > 1 else ''}": task_on(n, train)
        for n in numbers_of_threads(len(settings.cores))
    }
    for task in tasks.values():
        task(1)
    return interleaved(tasks, settings)


def measure(name: str, settings: Settings) -> list[Result]:
    """Measure in a separate process, which may use all cores from its start."""
    workload = workloads.workload_of(WORKLOADS[name], settings)
    with ProcessPoolExecutor(1, get_context("spawn"), pin_to, (settings.cores,)) as pool:
        times = pool.submit(epochs, WORKLOADS[name], settings).result()
    return [
        Result(
            name,
            {"rows": workload.rows, "net": workload.net, "batch": workload.batch_size},
            "ms per epoch",
            1e3,
            times,
        )
    ]


GROUP = Group(
    title="Threads",
    about="cnet's training epochs with one thread and with more threads, on all cores.",
    workloads={
        name: f"{workloads.WORKLOADS[of]}, on several threads" for name, of in WORKLOADS.items()
    },
    peers=(),
    measure=measure,
)
