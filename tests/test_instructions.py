"""Counting instructions: the comparison with the table, the table itself, and what each call does."""

import json

import pytest

from benchmarks import instructions
from benchmarks.instructions import CountError, compare, main, other_tools

TOOLS = {"compiler": "12.2.0", "Python": "3.11.7"}


@pytest.fixture
def counted(monkeypatch):
    """Return a function that makes every run of the script count these numbers."""

    def count(**counts):
        monkeypatch.setattr(instructions, "counts_of", lambda names: counts)
        monkeypatch.setattr(instructions, "tools", lambda: dict(TOOLS))

    return count


@pytest.fixture
def table(tmp_path):
    """Return the path of a table of two workloads."""
    path = tmp_path / "table.json"
    counts = {"first": 1000, "second": 2_000_000}
    path.write_text(json.dumps({"reason": "new", "tools": TOOLS, "instructions": counts}))
    return path


@pytest.mark.parametrize(
    ("found", "passes"), [(1000, True), (1030, True), (1031, False), (2000, False), (500, True)]
)
def test_compare_allows_three_per_cent_more(found, passes):
    lines, passed = compare({"work": found}, {"work": 1000})
    assert passed is passes
    assert len(lines) == 1
    assert lines[0].startswith("ok   work" if passes else "FAIL work")
    assert f"{found:,} instructions" in lines[0]
    assert f"{found / 1000 - 1:+.2%}" in lines[0]


def test_compare_fails_if_any_workload_does():
    counts, table = {"a": 100, "b": 200, "c": 300}, {"a": 100, "b": 100, "c": 300}
    lines, passed = compare(counts, table)
    assert not passed
    assert [line[:6] for line in lines] == ["ok   a", "FAIL b", "ok   c"]


def test_compare_does_not_offset_one_workload_with_another():
    assert not compare({"a": 104, "b": 50}, {"a": 100, "b": 100})[1]


@pytest.mark.parametrize(
    ("counts", "table", "words"),
    [
        ({"a": 100, "b": 1}, {"a": 100}, "FAIL b  1 instructions, not in the table"),
        ({"a": 100}, {"a": 100, "b": 1}, "FAIL b  in the table, but not a workload"),
    ],
    ids=["new workload", "old workload"],
)
def test_compare_fails_for_a_workload_in_one_of_the_two_only(counts, table, words):
    lines, passed = compare(counts, table)
    assert not passed
    assert lines == ["ok   a  100 instructions, +0.00% (table: 100)", words]


def test_other_tools_are_named():
    assert other_tools(TOOLS, TOOLS) == []
    (line,) = other_tools({**TOOLS, "compiler": "14.1.0"}, TOOLS)
    assert "compiler 12.2.0, here is 14.1.0" in line
    (line,) = other_tools({"libc": "2.36"}, {})
    assert "libc unknown" in line


def test_main_passes_with_the_counts_of_the_table(counted, table, capsys):
    counted(first=1000, second=2_050_000)
    before = table.read_text()
    assert main(["--table", str(table)]) == 0
    assert capsys.readouterr().out.count("ok   ") == 2
    assert table.read_text() == before


def test_main_fails_and_says_what_to_do(counted, table, capsys):
    counted(first=1000, second=2_100_000)
    assert main(["--table", str(table)]) == 1
    printed = capsys.readouterr().out
    assert "ok   first" in printed
    assert "FAIL second  2,100,000 instructions, +5.00% (table: 2,000,000)" in printed
    assert "--update REASON" in printed
    assert "note:" not in printed


def test_main_names_other_tools_where_it_fails(counted, table, monkeypatch, capsys):
    counted(first=1100, second=2_000_000)
    monkeypatch.setattr(instructions, "tools", lambda: {**TOOLS, "Python": "3.13.0"})
    assert main(["--table", str(table)]) == 1
    assert "made with Python 3.11.7, here is 3.13.0" in capsys.readouterr().out


def test_update_writes_the_counts_and_the_reason(counted, table):
    counted(tiny_batches=5000, online=7)
    assert main(["--table", str(table), "--update", " dropout takes a mask "]) == 0
    written = json.loads(table.read_text())
    assert written["reason"] == "dropout takes a mask"
    assert written["instructions"] == {"tiny_batches": 5000, "online": 7}
    assert written["tools"] == TOOLS
    assert written["workloads"].keys() == {"tiny_batches", "online"}
    assert main(["--table", str(table)]) == 0


@pytest.mark.parametrize("reason", ["", "  "])
def test_update_requires_a_reason(reason, counted, table, capsys):
    counted(first=1)
    before = table.read_text()
    with pytest.raises(SystemExit) as caught:
        main(["--table", str(table), "--update", reason])
    assert caught.value.code != 0
    assert "reason" in capsys.readouterr().err
    assert table.read_text() == before


def test_main_without_valgrind_says_how_to_install_it(monkeypatch, capsys, table):
    monkeypatch.setattr(instructions.platform, "system", lambda: "Linux")
    monkeypatch.setattr(instructions.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(instructions.shutil, "which", lambda name: None)
    assert main(["--table", str(table)]) == 2
    assert "valgrind is not installed" in (error := capsys.readouterr().err)
    assert "apt-get install valgrind" in error


def test_a_failed_count_leaves_the_table_alone(monkeypatch, table):
    def fail(names):
        raise CountError("no luck")

    monkeypatch.setattr(instructions, "counts_of", fail)
    before = table.read_text()
    assert main(["--table", str(table), "--update", "a reason"]) == 2
    assert table.read_text() == before


def test_the_committed_table_has_every_workload_and_a_reason():
    table = json.loads(instructions.TABLE.read_text())
    assert table["instructions"].keys() == instructions.WORKLOADS.keys()
    assert table["reason"]
    assert table["tools"]["isa"] == instructions.ISA
    assert table["workloads"] == {
        name: work.__doc__ for name, work in instructions.WORKLOADS.items()
    }


@pytest.mark.parametrize("name", instructions.WORKLOADS)
def test_a_workload_can_be_called_again(name):
    call = instructions.WORKLOADS[name]()
    call()
    call()
