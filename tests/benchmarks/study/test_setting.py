"""Settings: the epochs of trainings that are matched to others, and of fine-tuning; the networks of the headline."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from benchmarks import Setting, read_study
from benchmarks.results.budget_classes import CLASS
from benchmarks.study.entry import Pruned, Trained
from benchmarks.study.estimate import epochs
from benchmarks.study.outcomes import Outcomes
from compress import Place
from compress.errors import UsageError
from compress.network_cost import exit_costs
from compress.networks import create, initialised
from compress.recipes import Recipe, recipe_named
from tests.benchmarks.study.conftest import DEEP, HEAD, MULTI, Settings


def test_a_training_that_is_matched_has_as_many_epochs_as_cost_the_same(
    settings: Settings, brief: Recipe, tmp_path: Path
) -> None:
    text = f"""{HEAD}
    run = [
        {{name = "deep", command = "train", arch = "resnet20"}},
        {{name = "small", command = "train", arch = "resnet8", match_training = "deep"}},
        {{name = "multi", command = "train-mwbp", arch = "resnet8", exits = 2, match_training = "deep"}},
        {{name = "cut", command = "prune", arch = "resnet8", ratio = 0.2}},
    ]"""
    recipe = brief.changed(epochs=10)
    outcomes = Outcomes(setting=settings(text, tmp_path, recipe=recipe))
    shape = outcomes.setting.dataset.input_shape
    large, small, heads = (
        exit_costs(create(name, exits=exits, input_shape=shape))[-1].macs
        for name, exits in (("resnet20", 1), ("resnet8", 1), ("resnet8", 2))
    )
    deep, plain, multi, cut = outcomes.nodes
    assert large / small > 2  # or this would say nothing
    wanted = [10, round(10 * large / small), round(10 * large / heads)]
    assert [outcomes.training(node)["recipe"].epochs for node in (deep, plain, multi)] == wanted
    assert [epochs(outcomes.setting, node) for node in (deep, plain, multi)] == wanted
    assert outcomes.training(plain)["recipe"] == recipe.changed(epochs=wanted[1])
    assert isinstance(cut.entry, Pruned)
    assert outcomes.setting.source(cut.entry) is None  # not the one that is trained for longer
    again = text.replace('exits = 2, match_training = "deep"', 'exits = 2, match_training = "small"')
    with pytest.raises(UsageError, match="match_training 'small': name a run that is trained for the recipe's epochs"):
        settings(again, tmp_path)


def test_what_a_network_changes_in_the_recipe_belongs_to_its_pruning_too(settings: Settings, tmp_path: Path) -> None:
    text = f"""{HEAD}
    run = [
        {{name = "deep", command = "train", arch = "resnet8", label_smoothing = 0.1, averaging = "ema"}},
        {{name = "cut", command = "prune", from = "deep", ratio = 0.2}},
        {{name = "again", command = "prune", from = "cut", ratio = 0.3}},
        {{name = "plain", command = "prune", arch = "resnet20", ratio = 0.2}},
    ]"""
    setting = settings(text, tmp_path)
    deep, *pruned = setting.study.runs
    changed = setting.recipe.changed(label_smoothing=0.1, averaging="ema")
    assert isinstance(deep, Trained)
    assert setting.training_recipe(deep) == changed
    found = [setting.fine_tuning_recipe(entry) for entry in pruned if isinstance(entry, Pruned)]
    assert found == [changed, changed, setting.recipe]


def test_a_change_that_the_recipe_cannot_have_is_refused_as_in_a_command(settings: Settings, tmp_path: Path) -> None:
    text = f"{HEAD}run = [{DEEP[:-1]}, warmup = 0.4}}]"
    setting = settings(text, tmp_path, recipe=recipe_named("paper"))
    [deep] = setting.study.runs
    assert isinstance(deep, Trained)
    with pytest.raises(UsageError, match=r"warmup 0\.4: recipe paper has none: its schedule is"):
        setting.training_recipe(deep)


def test_fine_tuning_takes_its_share_of_a_longer_training(settings: Settings, tmp_path: Path) -> None:
    text = f"""{HEAD}
    run = [
        {DEEP},
        {{name = "cut", command = "prune", from = "deep", ratio = 0.2}},
        {{name = "scratch", command = "prune", from = "deep", method = "scratch-e", ratio = 0.2}},
    ]"""
    for whole, own in ((12, None), (40, 10), (2, 1)):  # of recipe short: 12, and 3 of fine-tuning
        setting = settings(text, tmp_path, recipe=recipe_named("short", epochs=whole))
        _, cut, scratch = setting.study.runs
        assert isinstance(cut, Pruned)
        assert isinstance(scratch, Pruned)
        assert (setting.fine_tuning(cut).epochs, setting.fine_tuning(scratch).epochs) == (own, None)


def test_a_claim_about_one_training_twice_is_refused(settings: Settings, tmp_path: Path) -> None:
    """Of so few epochs, matching the MACs of a net with an exit more rounds to as many as the other training has."""
    text = f"""{HEAD}
    primary = [{{claim = "longer is better", of = "long", against = "deep"}}]
    run = [
        {DEEP},
        {MULTI},
        {{name = "long", command = "train", arch = "resnet8", match_training = "multi"}},
    ]"""
    with pytest.raises(UsageError, match="'long' and 'deep' are the same training of the same network here"):
        settings(text, tmp_path)


def test_the_bundled_headline_asks_its_questions_of_networks_of_one_budget(tmp_path: Path) -> None:
    """What the contrasts need comes first, and the longer trainings cost what the reference's does to within 2%."""
    study = read_study("headline")
    dataset = Mock(input_shape=(3, 32, 32), classes=[*range(10)], train=range(50_000), validation=None)
    setting = Setting(study=study, dataset=dataset, recipe=recipe_named(study.recipe), place=Place())
    needed = {name for claim in study.claims for name in claim.names}
    assert {entry.name for entry in study.runs[: len(needed)]} == needed
    trained = {entry.name: entry for entry in study.runs if isinstance(entry, Trained)}
    macs = {name: exit_costs(initialised(setting.spec(entry), 0))[-1].macs for name, entry in trained.items()}
    for name in ("mwresnet44-5", "mwresnet20-wide-5-long", "resnet44-long", "resnet20-wide-long"):
        assert macs[name] == pytest.approx(macs["resnet44"], rel=CLASS)
    long = [entry for name, entry in trained.items() if name.endswith("-long")]
    assert len(long) == 4
    budget = setting.recipe.epochs * setting.image_macs(trained["resnet110"])
    for entry in long:
        assert setting.training_recipe(entry).epochs * setting.image_macs(entry) == pytest.approx(budget, rel=0.02)
    assert (len(study.seeds), [claim.joined for claim in study.claims]) == (24, [False, False, True])
    small = read_study("headline-small")
    assert [claim.joined for claim in small.claims] == [False, False, True]
    assert small.precision == "fp32"
