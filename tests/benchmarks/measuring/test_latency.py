"""Latency: every exit of every run is measured, alike, and recorded with its conditions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import bench
from benchmarks.measuring.bench_file import read_measurements
from benchmarks.measuring.energy import Counter, Meter
from compress.cli.printing import show_latencies
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import cut
from compress.runs import BENCH, Run, load


def test_every_exit_is_measured_against_the_first_run_and_recorded(runs: list[Run]) -> None:
    rows = bench(runs[:2], batch_sizes=(1, 8), rounds=6)
    assert [(row["run"], row["exit"], row["batch_size"]) for row in rows] == [
        (run.id, exit, size)
        for size in (1, 8)
        for run, exits in ((runs[0], 1), (runs[1], 2))
        for exit in range(1, exits + 1)
    ]
    for row in rows:
        assert 0 < row["seconds"][0] <= row["seconds"][1] <= row["seconds"][2]
        assert 0 < row["ratio"][0] <= row["ratio"][1] <= row["ratio"][2]
        assert row["ratio_interval"][0] <= row["ratio"][1] <= row["ratio_interval"][1]
        assert row["deviation"] < 1e-5
    assert [row["ratio"] for row in rows if row["run"] == runs[0].id] == [(1, 1, 1)] * 2

    counted = cost(cut(load(runs[1]), 1))
    [recorded] = read_measurements(runs[1])
    first = recorded.rows[0]
    assert (first["macs"], first["params"], first["bytes"]) == (counted.macs, counted.params, counted.bytes)
    assert recorded.reference == {"run": runs[0].id, "exit": 1}
    assert str(recorded.conditions) == "eager, fp32, cpu, 1 thread(s)"
    assert recorded.environment["cpu"]
    assert recorded.noise is not None
    assert recorded.noisy == (recorded.noise > 0.05)


def test_where_an_engine_runs_on_the_cpu_alone_all_do(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr("benchmarks.measuring.engines.engine.resolve_device", lambda asked: gpu)
    rows = bench(runs[:1], engine=("eager", "onnxruntime"), batch_sizes=(1,), rounds=0)
    assert {(row["engine"], row["device"]) for row in rows} == {("eager", "cpu"), ("onnxruntime", "cpu")}


def test_a_network_of_a_third_of_the_work_takes_less_time(runs: list[Run]) -> None:
    """No claim of speed: were exits not cut, or rows mixed up, the ratio would be 1 or more."""
    rows = bench([runs[0], runs[1]], batch_sizes=(64,), rounds=5)
    shallow = next(row for row in rows if row["run"] == runs[1].id and row["exit"] == 1)
    assert shallow["macs"] < 0.4 * rows[0]["macs"]
    assert shallow["ratio"][1] < 0.9
    assert shallow["ratio_interval"] is None


def test_a_noisy_session_says_so(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Rounds in which the reference, timed twice, takes 0 to 40% longer the second time.
    seconds = np.array([[1.0, 1.0 + 0.1 * step] for step in range(5)])
    monkeypatch.setattr("benchmarks.measuring.latency.interleaved", lambda *calls, **options: (seconds, seconds / 8))
    counter = Counter(name="a counter", read=lambda: 0, joules=1.0, span=1)
    monkeypatch.setattr("benchmarks.measuring.latency.meter", lambda device: Meter([counter]))
    bench(runs[:1], batch_sizes=(1,), rounds=5)
    [recorded] = read_measurements(runs[0])
    assert recorded.noise == pytest.approx(0.2)
    assert recorded.energy == ["a counter"]
    assert recorded.noisy
    assert recorded.rows[0]["joules"] == (0.125, 0.125, 0.125)
    assert "noisy: the reference's times in one round differ by 20%" in capsys.readouterr().err


def test_on_a_busy_machine_all_but_time_is_measured(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    [run] = runs[:1]
    (run.path / BENCH).unlink(missing_ok=True)
    [row] = bench([run], batch_sizes=(1,), rounds=0)
    assert (row["bytes"], row["macs"]) == (cost(load(run)).bytes, cost(load(run)).macs)
    assert row["deviation"] < 1e-5
    assert not {"seconds", "ratio", "ratio_interval", "joules"} & row.keys()
    assert not read_measurements(run)  # no latency is there
    [recorded] = read_measurements(run, untimed=True)
    assert (recorded.rounds, recorded.noise, recorded.noisy) == (0, None, False)
    show_latencies([row], as_json=False)
    printed = capsys.readouterr().out
    assert f"{row['macs']}" in printed.replace(",", "")
    assert "median" not in printed


@pytest.mark.parametrize(("options", "least"), [({"batch_sizes": (0,)}, 1), ({"threads": 0}, 1), ({"rounds": -1}, 0)])
def test_numbers_below_their_least_are_refused(options: dict[str, Any], least: int, runs: list[Run]) -> None:
    with pytest.raises(UsageError, match=f"{least} or more"):
        bench(runs[:1], **options)


def test_images_of_different_shapes_are_refused(runs: list[Run]) -> None:
    record = runs[0].record
    larger = Run(runs[0].path, replace(record, spec=record.spec | {"input_shape": [1, 32, 32]}))
    with pytest.raises(UsageError, match="different shapes"):
        bench([runs[1], larger])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onnx"}, "did you mean 'onnxruntime'"),
        ({"precision": "fp8"}, "engine eager has no fp8 on this cpu; it has fp32"),
        ({"engine": "cudagraphs"}, "engine cudagraphs runs on cuda, not on cpu"),
        ({"precision": "int8"}, "engine eager has no int8 on this cpu; it has fp32"),
        ({"engine": ["eager", "onnxruntime"], "precision": ["fp32", "fp16"]}, "engine eager has no fp16"),
    ],
)
def test_what_is_not_to_be_had_here_is_refused(options: dict[str, Any], message: str, runs: list[Run]) -> None:
    with pytest.raises(UsageError, match=message):
        bench(runs[:1], device="cpu", **options)


def test_an_engine_that_is_not_installed_names_the_extra(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measuring.engines.engine.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs onnx and .* not installed: pip install 'multiway-compress\[deploy\]'"):
        bench(runs[:1], device="cpu", engine="openvino")
