"""Norm-last blocks that begin as the identity: recipe field `zero_scale`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compress import Architecture, Dataset, Place, Recipe, Start, UsageError, train
from compress.networks import initialised, spec_of
from compress.recipes import options_of, quick
from compress.training import plan_of
from tests.conftest import Command


def test_blocks_begin_as_their_shortcuts() -> None:
    spec = spec_of(Architecture("resnet8", form="norm-last"), input_shape=(1, 8, 8))
    network = initialised(spec, 0, zero_scale=True).eval()
    features = network.stem(torch.randn(2, 1, 8, 8))
    for block in network.blocks:
        after = block(features)
        assert torch.equal(after, block.skip(features))  # type: ignore[operator]
        features = after


def test_it_changes_the_run(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    arch, place = Architecture("resnet8", form="norm-last"), Place(device="cpu", precision="fp32", runs=tmp_path)
    usual, zeroed = (
        train(arch, tiny, recipe=replace(brief, zero_scale=zero), place=place).exits[-1]["test_loss"]
        for zero in (False, True)
    )
    assert usual != zeroed


def test_other_forms_are_refused(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--form norm-last"):
        plan_of("resnet8", tiny, recipe=replace(quick(), zero_scale=True), place=Place(runs=tmp_path))


def test_weights_that_would_take_the_place_of_the_zeros_are_refused(tiny: Dataset, tmp_path: Path) -> None:
    arch, recipe = Architecture("resnet8", form="norm-last"), replace(quick(), zero_scale=True)
    with pytest.raises(UsageError, match="zero-scale: the given weights would take the place of the zeros"):
        plan_of(arch, tiny, recipe=recipe, start=Start(weights=tmp_path / "weights.pt"), place=Place(runs=tmp_path))


def test_recipes_without_it_are_written_as_before() -> None:
    assert "zero_scale" not in quick().to_json()
    changed = replace(quick(), zero_scale=True, label_smoothing=0.1, averaging="ema")
    assert Recipe.from_json(changed.to_json()) == changed
    assert options_of(changed) == ["--label-smoothing", "0.1", "--averaging", "ema", "--zero-scale"]


def test_the_command_takes_all_options(compress: Command, tiny_folder: Path, tmp_path: Path) -> None:
    options = "--arch resnet8nl --exits macs:3 --head shared --ensemble 2 --ensemble-teacher 0.3 --annealing last-third"
    recipe = "--epochs 1 --label-smoothing 0.1 --averaging ema --warmup 0.3 --zero-scale --validation 0.2 --json"
    data = ("--dataset", f"folder:{tiny_folder}", "--runs", tmp_path)
    status, out, _ = compress("train-mwbp", *options.split(), *recipe.split(), *data)
    assert status == 0
    assert '"ensemble": {"exit": "ensemble"' in out
    for word in ("--head shared", "--ensemble 2", "--ensemble-teacher 0.3", "--annealing last-third", "--zero-scale"):
        assert word in out
