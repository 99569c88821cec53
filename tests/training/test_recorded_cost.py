"""What a record says was done: a run is paid once, and nothing is recomputed that is not there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import compress
from compress import Place, Start
from compress.data import Dataset
from compress.errors import UsageError
from compress.recipes import Recipe
from compress.training import Method, train


def test_a_trunk_that_is_the_teacher_too_is_paid_once(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    place = Place(runs=tmp_path)
    trunk = train("resnet8", tiny, recipe=brief, place=place)
    start = Start(trunk=trunk.id, teacher=trunk.id)
    run = train("resnet8", tiny, method="frozen-trunk", exits=2, recipe=brief, start=start, place=place)
    assert run.record.parent == run.record.config["teacher"] == trunk.id
    cost, before = run.record.cost, trunk.record.cost
    assert cost["total_training_macs"] == cost["training_macs"] + before["total_training_macs"]
    assert cost["total_epochs"] == 2 * brief.epochs


class Bare(nn.Sequential):
    """A network without batch norm."""

    def __init__(self, classes: int) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


def test_without_batch_norm_no_statistics_are_said_to_be_recomputed(
    tiny: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    compress.register("bare", Bare)
    recipe, place = replace(brief, averaging="ema"), Place(runs=tmp_path)
    said = [train(arch, tiny, recipe=recipe, place=place).record.results for arch in ("bare", "resnet8")]
    assert "batch_norm" not in said[0]
    assert said[1]["batch_norm"].endswith("for the averaged weights")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"momentum": 0.0}, "nesterov needs a momentum above 0"),
        ({"momentum": 1.0, "optimizer": "muon"}, "optimizer muon: momentum 1 needs sgd"),
        ({"select": "best-validation", "validation": 0.001}, "it holds out none of 200 images to choose by"),
    ],
)
def test_recipes_that_cannot_be_followed_are_refused_in_one_line(
    changed: dict[str, Any], message: str, tiny: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        train("resnet8", tiny, method=Method(name="bp"), recipe=replace(brief, **changed), place=Place(runs=tmp_path))
    assert not any(tmp_path.iterdir())
