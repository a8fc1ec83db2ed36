"""The number of threads that large layers are split among."""

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
    """Set the maximum number of threads for large layers.

    Small layers always run on one thread, because waking another one would take longer. Results are
    bit-for-bit identical for any number of threads.

    Parameters
    ----------
    n : int or None
        From 1 to 64; may exceed the number of cores. None restores the default: as many threads as the
        process may use cores (its CPU affinity), or fewer if the environment variable
        ``OMP_NUM_THREADS`` is lower.

    Raises
    ------
    ValueError, TypeError
        If `n` is neither None nor an integer from 1 to 64. The setting is then unchanged.
    """
    global _chosen
    _chosen = None if n is None else _as_number_of_threads(n)


def get_num_threads() -> int:
    """Return the maximum number of threads for the next call from this Python thread."""
    return _chosen_here.get() or _chosen or _default()


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Context manager that limits calls from this Python thread to `n` threads.

    Parameters
    ----------
    n : int
        From 1 to 64.

    Raises
    ------
    ValueError, TypeError
        If `n` is not an integer from 1 to 64.
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
    # Read at every call, because the affinity may change after the import.
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    # OpenMP allows a list with one number per nesting level.
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and len(wanted) < 10 and int(wanted) > 0:
        cores = min(cores, int(wanted))
    return min(cores, engine.MOST_THREADS)
