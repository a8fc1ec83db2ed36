"""What a kind of workload is, for the command line and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.measure import Result, Settings


def no_notes(results: list[Result]) -> list[str]:
    """Return what is to be said below most tables."""
    return []


@dataclass(frozen=True)
class Group:
    """A kind of workload: a table and a plot.

    Attributes
    ----------
    title : str
    about : str
        What is measured, above the table.
    workloads : mapping
        By name, each with a ``str`` that says what it is.
    peers : tuple of str
        Who can take part.
    measure : callable
        Measures the workload of that name.
    growth : bool
        Whether the plot is of cost by size, not of ratios.
    notes : callable
        Says what the results show, below the table.
    """

    title: str
    about: str
    workloads: Mapping[str, object]
    peers: tuple[str, ...]
    measure: Callable[[str, Settings], list[Result]]
    growth: bool = False
    notes: Callable[[list[Result]], list[str]] = no_notes
