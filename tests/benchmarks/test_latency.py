"""Latency: every exit of every run is measured, alike, and recorded with its conditions."""

import json
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import bench
from compress.cost import cost
from compress.errors import UsageError
from compress.networks import cut
from compress.runs import Run, load


def test_every_exit_is_measured_against_the_first_run_and_recorded(runs: list[Run]) -> None:
    rows = bench(runs[:2], batch_sizes=(1, 8), rounds=3)
    assert [(row["run"], row["exit"], row["batch_size"]) for row in rows] == [
        (run.id, exit, size)
        for size in (1, 8)
        for run, exits in ((runs[0], 1), (runs[1], 2))
        for exit in range(1, exits + 1)
    ]
    for row in rows:
        assert 0 < row["seconds"][0] <= row["seconds"][1] <= row["seconds"][2]
        assert 0 < row["ratio"][0] <= row["ratio"][1] <= row["ratio"][2]
    assert [row["ratio"] for row in rows if row["run"] == runs[0].id] == [(1, 1, 1)] * 2

    network = cut(load(runs[1]), 1)
    counted = cost(network)
    recorded = json.loads((runs[1].path / "bench.json").read_text())
    first = recorded["rows"][0]
    assert (first["macs"], first["params"], first["bytes"]) == (counted.macs, counted.params, counted.bytes)
    assert recorded["reference"] == {"run": runs[0].id, "exit": 1}
    assert (recorded["engine"], recorded["precision"], recorded["threads"]) == ("eager", "fp32", 1)
    assert recorded["environment"]["cpu"]


def test_a_network_of_a_third_of_the_work_takes_less_time(runs: list[Run]) -> None:
    """No claim of speed: were exits not cut, or rows mixed up, the ratio would be 1 or more."""
    rows = bench([runs[0], runs[1]], batch_sizes=(64,), rounds=5)
    shallow = next(row for row in rows if row["run"] == runs[1].id and row["exit"] == 1)
    assert shallow["macs"] < 0.4 * rows[0]["macs"]
    assert shallow["ratio"][1] < 0.9


@pytest.mark.parametrize("options", [{"batch_sizes": (0,)}, {"threads": 0}, {"rounds": 0}])
def test_numbers_below_one_are_refused(options: dict[str, Any], runs: list[Run]) -> None:
    with pytest.raises(UsageError, match="1 or more"):
        bench(runs[:1], **options)


def test_images_of_different_shapes_are_refused(runs: list[Run]) -> None:
    record = runs[0].record
    larger = Run(runs[0].path, replace(record, spec=record.spec | {"input_shape": [1, 32, 32]}))
    with pytest.raises(UsageError, match="different shapes"):
        bench([runs[1], larger])
