"""Class weights: the balanced ones are those of scikit-learn, and weigh the cross-entropy, not what is distilled."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from compress.data import Dataset, split
from compress.networks import Network, spec_of
from compress.recipes import RECIPES, Recipe, is_named, options_of, recipe_named
from compress.training import Method, plan_of
from compress.training.class_weights import class_weights
from compress.training.loop import Training, fit
from compress.training.objectives import bp

WEIGHTED = recipe_named("quick", epochs=2, class_weights="balanced")
LABELS = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2])


def uneven(dataset: Dataset) -> Dataset:
    """Without most images of the first class."""
    labels = dataset.train.labels
    kept = torch.cat([(labels == 0).nonzero().flatten()[:4], (labels != 0).nonzero().flatten()])
    return replace(dataset, train=dataset.train.subset(kept))


def training_of(dataset: Dataset, recipe: Recipe) -> Training:
    spec = spec_of("resnet8", exits=2, input_shape=dataset.input_shape)
    torch.manual_seed(0)
    parts = split(dataset, validation=recipe.validation, calibration=recipe.calibration, seed=recipe.split_seed)
    objective = Method(name="mwbp").objective(spec)
    return Training(Network(spec), parts, recipe, objective, augment=True, seed=0, precision="fp32")


def test_balanced_weights_by_hand() -> None:
    weights = class_weights("balanced", LABELS, 3)
    assert weights is not None
    assert weights.tolist() == pytest.approx([8 / 15, 8 / 6, 8 / 3])
    assert weights[LABELS].mean().item() == pytest.approx(1)
    assert class_weights("none", LABELS, 3) is None
    with_a_class_without_images = class_weights("balanced", LABELS, 4)
    assert with_a_class_without_images is not None
    assert with_a_class_without_images.tolist()[:3] == pytest.approx([8 / 20, 8 / 8, 8 / 4])
    assert with_a_class_without_images.isfinite().all()


def test_the_loss_by_hand_is_that_of_torch_but_for_the_divisor() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    labels, weights = torch.tensor([0, 1, 1]), torch.tensor([0.5, 3.0])
    objective = bp(spec_of("resnet8", classes=2))
    by_hand = (0.5 * 0.126928 + 3 * 0.313262 + 3 * 0.693147) / 3
    assert objective.losses([logits], labels, class_weights=weights).item() == pytest.approx(by_hand, rel=1e-5)
    of_torch = functional.cross_entropy(logits, labels, weight=weights).item()
    assert of_torch == pytest.approx(by_hand * 3 / 6.5, rel=1e-5)
    even = objective.losses([logits], labels, 0.1, class_weights=torch.ones(2))
    torch.testing.assert_close(even, objective.losses([logits], labels, 0.1))


def test_shares_of_a_batch_have_the_loss_of_the_batch() -> None:
    """Gradients are averaged over processes, so the mean of their losses must be the loss of one process."""
    objective, weights = bp(spec_of("resnet8", classes=3)), class_weights("balanced", LABELS, 3)
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    whole = objective.losses([logits], LABELS, class_weights=weights)
    halves = [objective.losses([logits[part]], LABELS[part], class_weights=weights) for part in (slice(4), slice(4, 8))]
    torch.testing.assert_close(torch.stack(halves).mean(dim=0), whole)


def test_what_is_distilled_is_not_weighted() -> None:
    spec = spec_of("resnet8", classes=3)
    alone = replace(bp(spec), teacher=1.0)
    half = replace(alone, teacher=0.5)
    logits, taught = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0)).unbind()
    weights = class_weights("balanced", LABELS, 3)
    of_teacher = alone.losses([logits], LABELS, taught=taught)
    torch.testing.assert_close(alone.losses([logits], LABELS, taught=taught, class_weights=weights), of_teacher)
    hard = bp(spec).losses([logits], LABELS, class_weights=weights)
    mixed = half.losses([logits], LABELS, taught=taught, class_weights=weights)
    torch.testing.assert_close(mixed, (hard + of_teacher) / 2)


def test_weights_are_those_of_the_images_that_are_trained_on_and_survive_an_interruption(
    tiny: Dataset, tmp_path: Path
) -> None:
    dataset = uneven(tiny)
    whole = training_of(dataset, WEIGHTED)
    assert whole.class_weights is not None
    counts = whole.split.train.labels.bincount()
    assert counts[0] < counts[1]
    torch.testing.assert_close(whole.class_weights, len(whole.split.train) / (10 * counts.float()))
    fit(whole, title="whole")

    def stop(training: Training) -> None:
        if training.epochs_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(training_of(dataset, WEIGHTED), title="killed", checkpoint=tmp_path, on_epoch=stop)
    resumed = training_of(dataset, WEIGHTED)
    fit(resumed, title="resumed", checkpoint=tmp_path)
    unweighted = training_of(dataset, replace(WEIGHTED, class_weights="none"))
    fit(unweighted, title="unweighted")
    states = [training.network.state_dict() for training in (whole, resumed, unweighted)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not all(torch.equal(value, states[2][name]) for name, value in states[0].items())


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_without_weights_is_recorded_as_before_there_were_any(name: str) -> None:
    recipe = RECIPES[name]()
    assert "class_weights" not in recipe.to_json()
    weighted = replace(recipe, class_weights="balanced")
    assert Recipe.from_json(weighted.to_json()) == weighted
    assert weighted.fine_tuning().class_weights == "balanced"
    assert is_named(weighted)
    assert options_of(weighted) == ["--class-weights", "balanced"]


def test_weights_make_another_run(tiny: Dataset) -> None:
    plain, weighted = (
        plan_of("resnet8", tiny, recipe=recipe_named("quick", class_weights=name)) for name in ("none", "balanced")
    )
    assert plain.path != weighted.path
    assert "--class-weights balanced" in weighted.command
    assert "--class-weights" not in plain.command


def test_commands_take_weights_and_record_them(
    tiny_folder: Path, tmp_path: Path, compress: Callable[..., tuple[int, str, str]]
) -> None:
    common = ["--dataset", f"folder:{tiny_folder}", "--epochs", "1", "--runs", tmp_path / "runs", "--json"]
    common += ["--class-weights", "balanced"]
    _, out, err = compress("train", "--arch", "resnet8", *common, "--stream", "--workers", "0")
    [trained] = json.loads(out)["runs"]
    assert trained["config"]["recipe"]["class_weights"] == "balanced", err
    given = ["--from", tmp_path / "runs" / trained["id"], "--speedup", "1.5", "--nearest"]
    _, out, err = compress("prune", *given, *common[2:])
    [pruned] = json.loads(out)["runs"]
    assert pruned["config"]["recipe"]["class_weights"] == "balanced", err
    assert "--class-weights balanced" in pruned["command"]
