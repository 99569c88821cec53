"""The handover: a network of the study, exported where the report is, and a prediction by what was exported."""

from pathlib import Path

import pytest

from benchmarks import Handover, Limits, hand_over, select
from benchmarks.selection import contenders
from compress.data import Dataset
from compress.errors import UsageError
from compress.export import read_bundle
from compress.runs import Run


def test_the_best_network_within_the_limit_is_exported_once_and_predicts(
    made: list[Run], coarse: Dataset, tmp_path: Path
) -> None:
    macs = sorted(row["macs"] for run in made for row in run.exits)
    handover = Handover(max_macs=macs[0], format="pt2")
    selected, exported, predicted = hand_over(handover, made, coarse, tmp_path)
    bundle = read_bundle(tmp_path / "model")
    assert bundle.manifest["cost"]["macs"] == macs[0]
    assert bundle.manifest["source"]["run"] in selected
    assert exported == f"exported: {tmp_path / 'model'}"
    assert str(tmp_path / "example.png") in predicted
    assert predicted.endswith(f"it is {coarse.classes[int(coarse.test.labels[0])]!r}")
    before = (tmp_path / "model" / "bundle.json").stat().st_mtime_ns
    assert hand_over(handover, made, coarse, tmp_path) == [selected, exported, predicted]
    assert (tmp_path / "model" / "bundle.json").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="model holds pt2, not onnx: remove it"):
        hand_over(Handover(max_macs=macs[0], format="onnx"), made, coarse, tmp_path)
    with pytest.raises(UsageError, match="nothing is within the limits"):
        hand_over(Handover(max_macs=1), made, coarse, tmp_path / "other")


def test_policies_of_early_exit_take_no_part(
    made: list[Run], coarse: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What wins is what is exported: a policy would be exported as the network's last exit."""
    asked: list[str] = []

    def read(run: Run) -> list[object]:
        asked.append(run.id)
        return []

    monkeypatch.setattr(contenders, "read_policies", read)
    limits = Limits(macs=max(row["macs"] for run in made for row in run.exits))
    select([run.path for run in made], limits=limits)
    assert asked
    asked.clear()
    hand_over(Handover(max_macs=limits.macs or 0, format="pt2"), made, coarse, tmp_path)
    assert not asked


def test_another_networks_bundle_is_not_overwritten(made: list[Run], coarse: Dataset, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    macs = max(row["macs"] for run in made for row in run.exits)
    with pytest.raises(UsageError, match=r"bundle\.json is missing"):
        hand_over(Handover(max_macs=macs, format="pt2"), made, coarse, tmp_path)
    assert (tmp_path / "model" / "mine.txt").read_text() == "mine"
