"""Early exit's ratios: all are measured, and the counts are right; what the times are is nobody's business here."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.speed.exit_ratios import NORMALISATION, ExitSetup, measure_exits
from compress.data import normalise
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


@pytest.mark.parametrize("engine", ["eager", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_static_exits_are_the_networks_exits_on_the_same_batches(engine: str, tmp_path: Path) -> None:
    setup = ExitSetup(arch="resnet8", exits=2, least=4)
    serving = setup.serving(engine)
    batches = serving.batches(setup.images[:4], 2)
    images = normalise(setup.images[:4], NORMALISATION)
    with torch.inference_mode():
        expected = setup.network(images)
    for static, logits in zip(serving.statics(tmp_path), expected, strict=True):
        found = torch.cat([torch.as_tensor(static(batch)[-1]) for batch in batches])
        torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)
