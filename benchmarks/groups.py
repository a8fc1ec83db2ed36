"""Groups of workloads, as the command line and the report use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.measure import Result, Settings


def no_notes(results: list[Result]) -> list[str]:
    """Return no notes: the default for a group."""
    return []


@dataclass(frozen=True)
class Group:
    """A group of workloads, with one table and one plot.

    Attributes
    ----------
    title : str
    about : str
        Text above the table that says what is measured.
    workloads : mapping
        Workloads by name; the ``str`` of each describes it.
    peers : tuple of str
        Peers that can take part.
    measure : callable
        Measures the workload with a given name.
    growth : bool
        Whether to plot cost by size instead of ratios.
    notes : callable
        Returns comments on the results, shown below the table.
    """

    title: str
    about: str
    workloads: Mapping[str, object]
    peers: tuple[str, ...]
    measure: Callable[[str, Settings], list[Result]]
    growth: bool = False
    notes: Callable[[list[Result]], list[str]] = no_notes
