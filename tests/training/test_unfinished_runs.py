"""Unfinished runs are named where `--resume` has none to resume; a finished one stays finished."""

import errno
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from compress import Place
from compress.data import Dataset
from compress.recipes import Recipe
from compress.runs import Run, claimed
from compress.training import train


@pytest.fixture
def unfinished(tiny: Dataset, brief: Recipe, tmp_path: Path) -> Run:
    run = train("resnet8", tiny, recipe=brief, place=Place(precision="fp32", runs=tmp_path))
    record = run.path / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "running"}))
    return run


def test_the_unfinished_run_of_the_same_network_and_method_is_named(
    unfinished: Run, tiny: Dataset, brief: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("resnet8", tiny, recipe=brief, seed=3, place=Place(precision="fp32", runs=tmp_path, resume=True))
    expected = f"starts anew; {unfinished.id} is unfinished, to go on: {unfinished.record.command}\n"
    assert expected in capsys.readouterr().err


def test_finished_runs_other_methods_and_runs_in_use_are_not_named(
    unfinished: Run, tiny: Dataset, brief: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(precision="fp32", runs=tmp_path, resume=True)
    train("resnet8", tiny, method="mwbp", recipe=brief, place=place)
    with claimed(unfinished.path):
        train("resnet8", tiny, seed=1, recipe=brief, place=place)
    assert "is unfinished" not in capsys.readouterr().err


def test_a_run_is_finished_where_its_checkpoint_cannot_be_removed(
    tiny: Dataset, brief: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(path: Path, **_: Any) -> None:
        raise OSError(errno.ENOTEMPTY, "a file of another process is there", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("os.rmdir", held)
        run = train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path))
    assert (run.record.status, (run.path / "checkpoint").exists()) == ("finished", True)
    assert train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path)).exits == run.exits
    assert not (run.path / "checkpoint").exists()


def test_why_a_run_failed_is_one_line_in_its_record(
    tiny: Dataset, brief: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of torch, whose errors have several."""
    monkeypatch.setattr("compress.training.execution.fit", Mock(side_effect=RuntimeError("out of memory\nadvice")))
    with pytest.raises(RuntimeError):
        train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path))
    [file] = tmp_path.glob("*/run.json")
    record = json.loads(file.read_text())
    assert record["status"] == "failed"
    assert record["failure"].startswith("RuntimeError: out of memory")
    assert "\n" not in record["failure"]
