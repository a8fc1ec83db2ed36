"""Plots of the results: bars of ratios, and lines of cost by size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.groups import Group
from benchmarks.measure import Result

BAR_HEIGHT = 0.3  # inches


def draw(name: str, group: Group, results: list[Result], folder: Path, suffix: str) -> None:
    """Write a group's plot into a folder, if there is anything to compare."""
    if group.growth:
        figure = growth(group.title, results)
    elif any(result.ratios for result in results):
        figure = bars(group.title, results)
    else:
        return
    figure.savefig(folder / f"{name}.{suffix}", dpi=150, bbox_inches="tight")


def bars(title: str, results: list[Result]) -> Figure:
    """Return a bar chart of the ratios by workload, on a logarithmic axis with bars that start at 1."""
    names = list(dict.fromkeys(name for result in results for name in result.ratios))
    height = BAR_HEIGHT * sum(len(result.ratios) + 1 for result in results)
    figure = Figure(figsize=(8, height + 1))
    axes = figure.add_subplot()
    ticks = []
    at = 0.0
    for result in results:
        ticks.append(at + (len(result.ratios) - 1) / 2)
        for name, ratio in result.ratios.items():
            # Bars start at 1: to the right if slower than the baseline, to the left if faster.
            axes.barh(at, ratio - 1, left=1, height=0.9, color=f"C{names.index(name)}", label=name)
            axes.annotate(
                f"{ratio:.3g}",
                (ratio, at),
                xytext=(3 if ratio >= 1 else -3, 0),
                textcoords="offset points",
                ha="left" if ratio >= 1 else "right",
                va="center",
                fontsize="small",
            )
            at += 1
        at += 1
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: ""))
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(ticks, [label_of(result) for result in results])
    axes.invert_yaxis()
    baselines = dict.fromkeys(result.baseline for result in results)
    axes.set_xlabel(f"times as long as {', '.join(baselines)}")
    axes.set_title(title)
    legend(axes)
    return figure


def label_of(result: Result) -> str:
    """Return a row's label: the workload, and the column that tells its rows apart."""
    return "\n".join([result.workload, str(result.what.get("of the calls", ""))]).strip()


def legend(axes: Axes) -> None:
    """Add a legend beside the plot, with each colour once."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), loc="upper left", bbox_to_anchor=(1.01, 1))


def growth(title: str, results: list[Result]) -> Figure:
    """Return a plot of time by size on logarithmic axes, with a reference line of slope 1."""
    workloads = list(dict.fromkeys(result.workload for result in results))
    figure = Figure(figsize=(6 * len(workloads), 5))
    for axes, workload in zip(
        figure.subplots(1, len(workloads), squeeze=False)[0], workloads, strict=True
    ):
        own = [result for result in results if result.workload == workload]
        sizes = np.array([result.size for result in own])
        times = np.array([result.scale * result.medians[result.baseline] for result in own])
        axes.loglog(sizes, times, "o-", label=own[0].baseline)
        axes.loglog(sizes, times[-1] * sizes / sizes[-1], "k--", label="proportional")
        axes.set_xlabel(workload.rpartition("-")[2])
        axes.set_ylabel(own[0].unit)
        axes.set_title(f"{title}: {workload}")
        axes.legend()
    return figure
