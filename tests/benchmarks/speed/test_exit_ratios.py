"""Early exit's ratios: all are measured, and the counts are right; what the times are is nobody's business here."""

import json

import pytest

from benchmarks.speed.exit_ratios import ExitSetup, measure_exits
from compress.inference import leaving_macs
from compress.network_cost import exit_costs

RATIOS = {"macs", "time", "time_over_macs", "floor", "idle"}


@pytest.mark.parametrize("engine", ["eager", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_every_engine_and_batch_size_has_its_ratios(engine: str) -> None:
    setup = ExitSetup(engines=(engine,), arch="resnet8", exits=2, batch_sizes=(1, 4), least=4, rounds=2)
    results = json.loads(json.dumps(measure_exits(setup)))
    assert {"cpu", "arch", "exits", "threads", "rounds"} <= set(results.pop("environment"))
    assert set(results) == {engine}
    assert set(results[engine]) == {"1", "4"}
    whole = exit_costs(setup.network)[-1].macs
    for row in results[engine].values():
        assert set(row) == RATIOS
        assert row["macs"] == pytest.approx(leaving_macs(setup.network).mean() / whole)  # half leave at either exit
        for name in RATIOS - {"macs"}:
            assert 0 < row[name]["low"] <= row[name]["ratio"] <= row[name]["high"]
        assert row["time_over_macs"]["ratio"] == pytest.approx(row["time"]["ratio"] / row["macs"])
