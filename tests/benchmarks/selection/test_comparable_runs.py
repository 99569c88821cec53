"""Runs are chosen among where their validation images are the same, wherever these lie now."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import select
from compress.data import Dataset
from compress.errors import UsageError
from compress.recipes import Recipe
from compress.runs import Run
from compress.training import Place, train
from tests.benchmarks.selection.conftest import chosen


def test_runs_on_different_images_are_told_apart(
    directory: Path, reopened: list[Run], tiny: Dataset, brief: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(brief, validation=0.2)
    other = train("resnet8", tiny, recipe=recipe, place=Place(runs=directory))
    with pytest.raises(UsageError, match=r"do not compare: --dataset NAME, or name the runs. There are: .*tiny \(40"):
        select(directory=directory)
    assert chosen(select(directory=directory, dataset="tiny")) == other.id
    folder = Path(reopened[0].record.data["name"].removeprefix("folder:"))
    monkeypatch.chdir(folder.parent)
    made = select(directory=directory, dataset=f"folder:{folder.name}").chosen
    assert made is not None
    assert made.run.id in {run.id for run in reopened}
    with pytest.raises(UsageError, match="--dataset folder:gone: no run is on it; "):
        select(directory=directory, dataset="folder:gone")
    with pytest.raises(UsageError, match="--dataset cifar10: no run is on it; known: folder:"):
        select(directory=directory, dataset="cifar10")
    train("resnet8", tiny, recipe=replace(recipe, validation=0.3), place=Place(runs=directory))
    with pytest.raises(UsageError, match=r"do not compare: name the runs to choose among.*\(60 validation"):
        select(directory=directory, dataset="tiny")
    none = train("resnet8", tiny, recipe=replace(brief, validation=0.0), place=Place(runs=directory))
    with pytest.raises(UsageError, match="it held out no validation images"):
        select([none.id], directory=directory)
    assert chosen(select([none.id, other.id], directory=directory)) == other.id


def test_moved_images_are_one_data_set(directory: Path, reopened: list[Run]) -> None:
    moved = directory / reopened[0].id / "run.json"
    moved.write_text(moved.read_text().replace(reopened[0].record.data["name"], "folder:/elsewhere"))
    made = select(directory=directory, dataset="folder:/elsewhere")
    assert {each.run.id for each in made.contenders} == {run.id for run in reopened}
