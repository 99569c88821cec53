"""`--resume` where nothing is to resume: the unfinished run that was meant is named, and what it differs in."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 2}, "which differs in epochs (1, now 2); to go on with that (--runs "),
        ({"learning_rate": 0.05, "epochs": 2}, "epochs (1, now 2), learning rate (0.15, now 0.05);"),
        ({"data": "tiny"}, "the images of tiny, which have changed;"),
        ({"data": "other"}, "the images (tiny, now other);"),
        ({"seed": 3}, "seed (0, now 3);"),
    ],
)
def test_the_nearest_unfinished_run_is_named_and_what_differs(
    changes: dict[str, Any],
    words: str,
    unfinished: Run,
    tiny: Dataset,
    brief: Recipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, seed = changes.pop("data", None), changes.pop("seed", 0)
    data = replace(tiny, name=name, test=tiny.train) if name else tiny
    run = train(
        "resnet8",
        data,
        recipe=replace(brief, **changes),
        seed=seed,
        place=Place(precision="fp32", runs=tmp_path, resume=True),
    )
    err = capsys.readouterr().err
    assert f"no such run to resume, so it starts anew; the nearest unfinished one is {unfinished.id}, " in err
    assert words in err
    assert unfinished.record.command in err
    assert run.id != unfinished.id


def test_runs_of_other_methods_finished_ones_and_those_in_use_are_not_meant(
    unfinished: Run, tiny: Dataset, brief: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(precision="fp32", runs=tmp_path, resume=True)
    options: dict[str, Any] = {"recipe": brief, "place": place}
    train("resnet8", tiny, method="mwbp", **options)
    with claimed(unfinished.path):
        train("resnet8", tiny, seed=1, **options)
    train("resnet8", tiny, **options)  # which finishes it
    train("resnet8", tiny, seed=2, **options)
    assert "nearest" not in capsys.readouterr().err
