"""The benchmarks: contestants are comparable, and all results are reported. No time is asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    command_line,
    growth,
    measure,
    online,
    peak,
    peers,
    predictors,
    real_data,
    threads,
    training,
    workloads,
)
from benchmarks.fullbatch import INPUTS, OUTPUTS, SIZES, NumpyTutorial
from cnet import classic

ROOT = Path(__file__).parents[1]
QUICK = measure.Settings(peers=(), repetitions=2, seconds=0.001, quick=True, cores=(0, 1))


def installed(*wanted):
    """Return the peers that can run here."""
    return tuple(name for name in wanted if not peers.PEERS[name].missing("no-such-python"))


def run(*arguments, cwd=ROOT):
    """Return the result of running ``python -m benchmarks``."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


# The command line


def test_list_shows_all_groups_workloads_and_peers(capsys):
    command_line.main(["--list"])
    printed = capsys.readouterr().out
    for name, group in command_line.GROUPS.items():
        assert f"{name}: {group.title}" in printed
        assert all(f"    {workload} " in printed for workload in group.workloads)
    assert all(peer in printed for peer in peers.PEERS)


def test_names_of_groups_and_workloads_are_unique():
    # A group can have the same name as its only workload.
    workloads = [name for group in command_line.GROUPS.values() for name in group.workloads]
    assert len(workloads) == len(set(workloads))
    for name, group in command_line.GROUPS.items():
        assert name not in workloads or list(group.workloads) == [name]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["mnist", "tiny"], {"train": ["tiny", "mnist"]}),
        (["import", "online"], {"online": list(online.WORKLOADS), "import": ["import"]}),
        (["train", "tiny"], {"train": list(workloads.WORKLOADS)}),
        ([], {name: list(group.workloads) for name, group in command_line.GROUPS.items()}),
    ],
    ids=["workloads", "groups", "both", "all"],
)
def test_selection_of_workloads(names, expected):
    assert command_line.chosen(names) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny", "huge"], "no workload or group huge; see --list"),
        (["--peers", "tensorflow"], "invalid choice: 'tensorflow'"),
        (["--core", "-1"], "--core must be one of"),
        (["--repetitions", "0"], "must be at least 1, got 0"),
        (["--seconds", "-1"], "must be a number above 0, got -1"),
        (["--seconds", "nan"], "must be a number above 0, got nan"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_arguments_are_reported(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        command_line.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch, capsys):
    found = command_line.find_spec
    monkeypatch.setattr(
        command_line, "find_spec", lambda name: None if name == "matplotlib" else found(name)
    )
    with pytest.raises(SystemExit):
        command_line.main(["tiny"])
    message = 'not installed: matplotlib; run: pip install -e ".[bench]"'
    assert capsys.readouterr().err.strip() == message


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_run_writes_tables_data_and_plots(tmp_path, suffix):
    folder = tmp_path / "new" / "results"
    arguments = "tiny online-2 --quick --seconds 0.001 --repetitions 2 --peers numpy sklearn fann"
    result = run(
        *arguments.split(), "--fann-python", "no-such-python", "--plots", suffix, "--output", folder
    )
    assert result.returncode == 0, result.stderr
    assert "libfann is left out: " in result.stderr
    written = {path.name for path in folder.iterdir()}
    assert {"results.md", "results.json", f"train.{suffix}"} == written
    assert all((folder / name).stat().st_size > 100 for name in written)

    text = (folder / "results.md").read_text(encoding="utf-8")
    assert "- Left out: libfann (" in text
    for heading in ("## Training", "## Online learning"):
        assert heading in text
    for column in ("| cnet, ms per epoch ", "| NumPy ÷ cnet ", "| scikit-learn ÷ cnet "):
        assert column in text
        assert column in result.stdout

    data = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert data["left_out"].keys() == {"libfann"}
    assert data["versions"]["numpy"] == np.__version__
    assert {"cnet", "scikit-learn"} <= data["versions"].keys()
    assert data["settings"]["repetitions"] == 2
    assert data["machine"]["processor"]
    tiny, own = data["results"]
    assert (tiny["group"], tiny["workload"]) == ("train", "tiny")
    assert tiny["times"].keys() == tiny["losses"].keys() == {"cnet", "NumPy", "scikit-learn"}
    for name, times in tiny["times"].items():
        assert len(times) == 2
        assert tiny["medians"][name] == pytest.approx(np.median(times))
    assert tiny["ratios"]["NumPy"] == pytest.approx(
        tiny["medians"]["NumPy"] / tiny["medians"]["cnet"]
    )
    assert own["times"].keys() == {"cnet"}


# Peers


@pytest.mark.parametrize("name", [name for name, peer in peers.PEERS.items() if peer.modules])
def test_a_peer_that_cannot_be_imported_is_missing(name, monkeypatch):
    peer = peers.PEERS[name]
    monkeypatch.setitem(sys.modules, next(iter(peer.modules)), None)
    assert next(iter(peer.modules)) in peer.missing("no-such-python")


@pytest.mark.parametrize("python", ["no-such-python", sys.executable])
def test_a_python_without_libfann(python):
    assert python in peers.PEERS["fann"].missing(python)


def test_every_peer_takes_part_in_a_group():
    taking_part = {peer for group in command_line.GROUPS.values() for peer in group.peers}
    assert taking_part == set(peers.PEERS)


# The contestants do the same work


def test_losses_agree():
    # Starting from the same weights, losses differ only by the order of rows, which alone has a standard
    # deviation of 0.1 % in this loss; 0.5 % is five of them.
    workload = workloads.WORKLOADS["tiny"]
    found = training.trainers(workload, installed("numpy", "sklearn", "torch", "jax"))
    losses = {name: train(workload.loss_epochs) for name, train in found.items()}
    assert losses.keys() >= {"cnet", "NumPy", "scikit-learn"}
    assert losses == pytest.approx(dict.fromkeys(losses, losses["cnet"]), rel=5e-3)


@pytest.mark.parametrize("sizes", [(2, 2, 2), (5, 4, 3)], ids=str)
def test_online_learning_in_plain_python_matches_cnet(sizes):
    workload = online.Workload(sizes, rows=20)
    plain, net = online.PlainNetwork(workload.initial_weights()), online.cnet_network(workload)
    x, y = workload.data()
    total = plain.train(x, y, online.LEARNING_RATE, 3)
    history = net.train(x, y, online.LEARNING_RATE, 3, shuffle=False, verbose=False)
    assert total == pytest.approx(2 * len(x) * history["loss"][-1], rel=1e-9)
    for layer, neurons in zip(net.layers, plain.layers, strict=True):
        weights = np.transpose([neuron["weights"] for neuron in neurons])
        np.testing.assert_allclose(layer.weights, weights[:-1], rtol=1e-9)
        np.testing.assert_allclose(layer.biases, weights[-1], rtol=1e-9)


def test_the_fullbatch_tutorial_matches_cnet():
    tutorial = NumpyTutorial()
    np.random.seed(1)
    net = classic.NeuralNetwork(classic.Layer(*SIZES[:2]), classic.Layer(*SIZES[1:]))
    tutorial.train(50)
    net.train(INPUTS, OUTPUTS, 50)
    np.testing.assert_allclose(net.layer1.synaptic_weights, tutorial.weights1, rtol=1e-9)
    np.testing.assert_allclose(net.layer2.synaptic_weights, tutorial.weights2, rtol=1e-9)


def test_predictions_are_compared_before_they_are_timed():
    x = np.random.default_rng(0).standard_normal((7, 4), np.float32)
    for n_outputs in (2, 3):
        net = predictors.network((4, 8, n_outputs))
        calls = predictors.checked_calls(net, x, installed("sklearn", "torch", "onnxruntime"))
        assert "scikit-learn" in calls
    net.parameters[:] = 0
    np.testing.assert_allclose(net.predict(x), 1 / 3, rtol=1e-6)
    with pytest.raises(AssertionError, match="stub"):
        predictors.check_agreement({"stub": lambda: np.zeros((7, 3))}, net.predict(x))


# Calculations


def test_timings_are_interleaved():
    order = []

    def task(name):
        def timed(count):
            order.append(name)
            return 2.0 * count

        return timed

    times = measure.interleaved({"a": task("a"), "b": task("b")}, QUICK, count=3)
    assert order == ["a", "b", "a", "b"]
    assert times == {"a": [2, 2], "b": [2, 2]}


@pytest.mark.parametrize(("seconds", "expected"), [(1e-6, 500_000), (0.2, 2), (3.0, 1)])
def test_number_of_repetitions_of_the_work(seconds, expected):
    assert measure.count_for(lambda count: count * seconds, 0.5) == expected


def test_single_calls_are_timed_one_by_one():
    times = measure.single_calls({"nothing": lambda: None}, QUICK, 10)
    assert [single.shape for single in times["nothing"]] == [(10,), (10,)]
    assert (np.concatenate(times["nothing"]) >= 0).all()


def test_ratios_are_ratios_of_medians():
    result = measure.Result("w", {}, "s", 1, {"a": [1, 2, 9], "b": [8, 1, 6], "c": [1, 1, 1]})
    assert result.medians == {"a": 2, "b": 6, "c": 1}
    assert result.ratios == {"b": 3, "c": 0.5}


def test_operations():
    # Forward pass and weight gradient in both layers, input gradient only in the second.
    assert workloads.Workload(10, (4, 8, 3), 5).operations == 10 * 2 * (2 * 32 + 3 * 24)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law(power):
    sizes = np.array([1e3, 1e4, 1e5, 1e6])
    assert growth.exponent(sizes, 3e-7 * sizes**power) == pytest.approx(power)


@pytest.mark.parametrize("n_parameters", growth.PARAMETERS)
def test_networks_with_a_given_number_of_parameters(n_parameters):
    found = growth.parameters_of(growth.two_equal_layers(n_parameters))
    assert found == pytest.approx(n_parameters, rel=0.05)


def test_growth_notes():
    results = [
        measure.Result("growth-rows", {}, "ms", 1e3, {"cnet": [size * 1e-6]}, size=size)
        for size in (1_000, 10_000)
    ]
    assert growth.notes(results) == ["growth-rows: time ~ size^1.00 over all these sizes."]
    assert growth.notes(results[:1]) == []


@pytest.mark.parametrize(
    ("cores", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_numbers_of_threads(cores, expected):
    assert threads.numbers_of_threads(cores) == expected


def test_peak_with_a_compiler():
    found = peak.peak_task()
    if found is None:
        pytest.skip("no C compiler")
    task, operations = found
    assert task(1) > 0
    assert operations % peak.STEPS == 0


def test_peak_without_a_compiler(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    peak.library.cache_clear()
    try:
        (result,) = training.measure("tiny", QUICK)
    finally:
        peak.library.cache_clear()
    assert result.more["core's peak"] == "left out: no C compiler"
    assert result.times.keys() == {"cnet"}


def write_customers(folder, n=300):
    """Write made-up bank customers, with typical columns of a table: text, numbers, a target."""
    rng = np.random.default_rng(0)
    ages, countries = rng.integers(18, 90, n), rng.choice(["France", "Spain"], n)
    lines = ["RowNumber,CustomerId,Surname,Geography,Age,Exited"]
    lines += [
        f"{i},{i},Name,{country},{age},{int(age > 50)}"
        for i, (age, country) in enumerate(zip(ages, countries, strict=True))
    ]
    (folder / "churn_modelling.csv").write_text("\n".join(lines) + "\n")


def test_real_data_with_both_libraries(tmp_path, capsys, monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn is the peer")
    # The other tests need all cores.
    monkeypatch.setattr(real_data.machine, "pin_to", lambda cores: None)
    write_customers(tmp_path)
    real_data.main(["--data", str(tmp_path), "--seeds", "2", "churn", "adult"])
    out, err = capsys.readouterr()
    assert "adult is left out: there is no " in err
    header, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in out.strip().splitlines()
    )
    ours, theirs = (dict(zip(header, row, strict=True)) for row in rows)
    assert (ours["by"], theirs["by"]) == ("cnet", "scikit-learn")
    # The same seeds give the same scores.
    for column in ("accuracy", "roc_auc", "epochs"):
        assert ours[column] == theirs[column]
    assert float(ours["roc_auc"].split()[0]) > 0.9
