"""How many threads the products of large layers are shared out to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cnet._checks import as_integer
from cnet._core import engine

_chosen: int | None = None
_chosen_here: ContextVar[int | None] = ContextVar("num_threads", default=None)


def set_num_threads(n: int | None) -> None:
    """Share out the work of large layers to up to `n` threads.

    Small layers are computed by one thread, whatever the number, since waking another would take longer.
    Results are the same, bit for bit, for any number of threads.

    Parameters
    ----------
    n : int or None
        From 1 to 64, also more than there are cores. None goes back to the default: as many threads as
        the process may use cores (its CPU affinity), or fewer where the environment variable
        ``OMP_NUM_THREADS`` says so.

    Raises
    ------
    ValueError, TypeError
        Where `n` is none of these; nothing is changed.
    """
    global _chosen
    _chosen = None if n is None else _as_number_of_threads(n)


def get_num_threads() -> int:
    """Return the number of threads that the next call here may use."""
    return _chosen_here.get() or _chosen or _default()


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Context manager: up to `n` threads for what is called within, from this thread of Python.

    Parameters
    ----------
    n : int
        From 1 to 64.

    Raises
    ------
    ValueError, TypeError
        Where `n` is not such a number.
    """
    token = _chosen_here.set(_as_number_of_threads(n))
    try:
        yield
    finally:
        _chosen_here.reset(token)


def _as_number_of_threads(n: int) -> int:
    n = as_integer("n", n, 1)
    if n > engine.MOST_THREADS:
        raise ValueError(f"n must be at most {engine.MOST_THREADS} threads, got {n}")
    return n


def _default() -> int:
    # The affinity of now: a process may be confined to other cores after the import.
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    # OpenMP's own form, a number for each level of nesting.
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and len(wanted) < 10 and int(wanted) > 0:
        cores = min(cores, int(wanted))
    return min(cores, engine.MOST_THREADS)
