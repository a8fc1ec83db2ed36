"""The results, as Markdown for readers and as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.groups import Group
from benchmarks.measure import Result

TABLES = "results.md"
DATA = "results.json"


@dataclass
class Report:
    """All results so far, and the conditions they share.

    Attributes
    ----------
    machine, versions, settings : dict
    left_out : dict of str
        Peers that could not run here, with the reasons.
    results : dict of list of Result
        Results by the name of their group.
    """

    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    left_out: dict[str, str]
    results: dict[str, list[Result]] = field(default_factory=dict)

    def markdown(self, groups: dict[str, Group]) -> str:
        """Return all tables with headings, and the machine they were measured on."""
        parts = ["# Benchmarks", conditions(self)]
        for name, results in self.results.items():
            parts += [f"## {groups[name].title}", section(groups[name], results)]
        return "\n\n".join(parts) + "\n"

    def data(self) -> dict[str, Any]:
        """Return all data, including every single time."""
        everything = {key: value for key, value in vars(self).items() if key != "results"}
        everything["results"] = [
            {"group": name, **asdict(result), "medians": result.medians, "ratios": result.ratios}
            for name, results in self.results.items()
            for result in results
        ]
        return everything

    def write(self, folder: Path, groups: dict[str, Group]) -> None:
        """Write both files into an existing folder."""
        (folder / TABLES).write_text(self.markdown(groups), encoding="utf-8")
        (folder / DATA).write_text(
            json.dumps(self.data(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def conditions(report: Report) -> str:
    """Return a list of the conditions that apply to all tables."""
    lines = [
        f"{report.machine['processor']}, {report.machine['cores']} cores, "
        f"{report.machine['system']}, Python {report.machine['Python']}",
        ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        f"Medians of {report.settings['repetitions']} interleaved repetitions. "
        "“A ÷ B” is A's time divided by B's.",
    ]
    lines += [f"Left out: {name} ({why})." for name, why in report.left_out.items()]
    return "\n".join(f"- {line}" for line in lines)


def section(group: Group, results: list[Result]) -> str:
    """Return the section of a group: its tables and notes."""
    parts = [group.about]
    for (_, unit), comparable in groupby(
        results, key=lambda result: (result.baseline, result.unit)
    ):
        rows = list(comparable)
        parts.append(as_markdown([ratios_row(result) for result in rows]))
        if any(result.ratios for result in rows):
            parts += [f"Medians, {unit}:", as_markdown([medians_row(r) for r in rows])]
    if any(result.losses for result in results):
        parts += ["Losses after the same number of epochs:", losses_table(results)]
    return "\n\n".join([*parts, *group.notes(results)])


def ratios_row(result: Result) -> dict[str, str]:
    """Return the baseline's time and the other contestants' ratios, by column."""
    own = result.scale * result.medians[result.baseline]
    ratios = {f"{name} ÷ {result.baseline}": ratio for name, ratio in result.ratios.items()}
    return {
        "workload": result.workload,
        **{key: as_cell(value) for key, value in result.what.items()},
        f"{result.baseline}, {result.unit}": three_digits(own),
        **{column: three_digits(ratio) for column, ratio in ratios.items()},
        **result.more,
    }


def medians_row(result: Result) -> dict[str, str]:
    """Return the time of every contestant, by column."""
    return {
        "workload": result.workload,
        **{key: as_cell(value) for key, value in result.what.items()},
        **{name: three_digits(result.scale * time) for name, time in result.medians.items()},
    }


def losses_table(results: list[Result]) -> str:
    """Return a table of the losses, one row per result."""
    return as_markdown(
        [
            {
                "workload": result.workload,
                "epochs": str(result.loss_epochs),
                **{name: f"{loss:.4f}" for name, loss in result.losses.items()},
            }
            for result in results
            if result.losses
        ]
    )


def as_markdown(rows: list[dict[str, str]]) -> str:
    """Return a table with a column for every key, in order of first appearance."""
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True, missingval="-")


def as_cell(value: int | str) -> str:
    """Return a number with thousands separators, or a string unchanged."""
    return f"{value:,}" if isinstance(value, int) else value


def three_digits(value: float) -> str:
    """Return a positive number with three significant digits, or with all its integer digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")
