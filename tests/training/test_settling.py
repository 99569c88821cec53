"""Batch norm's statistics are recomputed if a training has too few steps for them to settle."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compress import Place
from compress.data import Dataset, split
from compress.network_cost import cost
from compress.networks import Network, create, spec_of
from compress.recipes import Recipe, recipe_named
from compress.runs import load
from compress.training import Method, plan_of, train
from compress.training.batchnorm import reestimate, steps_to_settle
from compress.training.evaluation import predict
from compress.training.loop import Training, fit


def trained(tiny: Dataset, recipe: Recipe) -> Training:
    parts = split(tiny, validation=recipe.validation, calibration=recipe.calibration, seed=recipe.split_seed)
    spec = spec_of("resnet8", input_shape=tiny.input_shape)
    torch.manual_seed(0)
    training = Training(
        Network(spec), parts, recipe, Method(name="bp").objective(spec), augment=False, seed=0, precision="fp32"
    )
    fit(training, title="settled")
    return training


@pytest.mark.parametrize(("momentum", "steps"), [(0.1, 88), (0.01, 917), (1.0, 0), (None, math.inf), (0.0, math.inf)])
def test_statistics_are_settled_when_the_first_half_of_the_steps_weighs_a_hundredth(
    momentum: float | None, steps: float, tiny: Dataset
) -> None:
    network = create("resnet8", input_shape=tiny.input_shape).train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = momentum
    assert steps_to_settle(network) == steps
    if momentum and 0 < steps < math.inf:
        assert (1 - momentum) ** (steps / 2) <= 0.01 < (1 - momentum) ** ((steps - 1) / 2)
    assert steps_to_settle(network.eval()) == 0  # no training moves them


def test_an_epoch_of_fast_settles_them_on_whole_cifar(tiny: Dataset) -> None:
    """So no run by it recomputes them."""
    recipe = recipe_named("fast")
    images = 50_000 - round((recipe.validation + recipe.calibration) * 50_000)
    network = create("resnet8", input_shape=tiny.input_shape).train()
    assert images // recipe.batch(images) >= steps_to_settle(network)


def test_what_is_reported_and_every_epochs_validation_are_of_the_settled_state(tiny: Dataset, brief: Recipe) -> None:
    recipe = replace(brief, epochs=3, validation=0.3)
    training = trained(tiny, recipe)
    network, parts = training.network, training.split
    before = predict(network, parts.test, parts.normalisation)
    passed = reestimate(network, parts.train, parts.normalisation, images=None)
    assert torch.equal(predict(network, parts.test, parts.normalisation), before)
    assert training.spent.settling_macs == 3 * passed == 3 * cost(network).macs * len(parts.train)
    images = training.epochs_done * training.steps * training.batch_size
    assert training.training_macs == passed * 3 + 3 * cost(network).macs * images
    assert training.spent.settling_seconds > 0
    assert (training.spent.settled_epochs, training.spent.steps_to_settle) == (3, 88)


def test_weights_stay_and_lagging_statistics_go(tiny: Dataset, brief: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was before: the same weights, but nearer to chance, since a fifth of the statistics is the initial one."""
    recipe = replace(brief, epochs=4)
    settled = trained(tiny, recipe)
    monkeypatch.setattr("compress.training.loop.steps_to_settle", lambda network: 0.0)
    lagging = trained(tiny, recipe)
    assert all(map(torch.equal, settled.network.parameters(), lagging.network.parameters()))
    train = settled.split.train

    def accuracy(training: Training) -> float:
        logits = predict(training.network, train, training.split.normalisation)[-1]
        return float((logits.argmax(dim=1) == train.labels).double().mean())

    assert accuracy(settled) > accuracy(lagging) + 0.1


def test_with_steps_enough_nothing_changes_in_any_bit(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    few = replace(tiny, train=tiny.train.subset(torch.arange(0, 200, 2)))
    recipe = recipe_named("quick", epochs=1).changed(batch_size=1)  # 90 steps
    now = trained(few, recipe)
    monkeypatch.setattr("compress.training.loop.reestimate", lambda *_, **__: pytest.fail("nothing to settle"))
    before = trained(few, recipe)
    assert now.steps >= 88
    assert all(map(torch.equal, now.network.state_dict().values(), before.network.state_dict().values()))
    assert (now.spent.settled_epochs, now.spent.settling_macs) == (0, 0)


def test_the_best_epoch_is_selected_in_the_state_that_is_reported(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    recipe = replace(brief, epochs=4, validation=0.3, select="best-validation", learning_rate=0.5)
    run = train("resnet8", tiny, recipe=recipe, place=Place(precision="fp32", runs=tmp_path))
    parts = split(tiny, validation=0.3, calibration=recipe.calibration, seed=recipe.split_seed)
    network = load(run)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    reestimate(network, parts.train, parts.normalisation, images=None)
    torch.testing.assert_close(network.state_dict(), before, rtol=1e-3, atol=1e-4)  # the layout differs


def test_the_record_says_so_and_one_line(tiny: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = recipe_named("quick", epochs=9)
    run = train("resnet8", tiny, recipe=recipe, place=Place(precision="fp32", runs=tmp_path))
    err = capsys.readouterr().err
    why = (
        "recomputed over all 180 training images after each of the first 7 epochs, because its running statistics take "
        "88 steps to settle, and an epoch has 11"
    )
    assert run.record.results["batch_norm"] == why
    assert err.count(f"batch norm: {why}") == 1
    assert err.count("batches of 16, not 48, for 180 training images") == 1
    assert run.record.config["batch_size"] == 16
    assert "warning" not in err


def test_an_epoch_of_a_handful_of_steps_is_warned_of(
    tiny: Dataset, brief: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("resnet8", tiny, recipe=brief, place=Place(precision="fp32", runs=tmp_path))
    assert "warning: an epoch has only 3 steps of 48 images, the training 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "batch"), [(5400, 48), (480, 48), (479, 40), (180, 16), (80, 8), (32, 8), (8, 8), (5, 5), (1, 1)]
)
def test_few_images_get_a_smaller_batch(images: int, batch: int) -> None:
    quick = recipe_named("quick")
    assert quick.batch(images) == batch
    assert quick.changed(batch_size=48).batch(images) == min(48, images)  # as it was asked for
    assert replace(quick, batch_size=32).batch(images) == min(32, images)
    assert replace(quick, name="mine").batch(images) == min(48, images)


@pytest.mark.parametrize(
    ("options", "id"),
    [
        ({}, "resnet8_fashion-mini_s0_36c940b3"),
        ({"method": "mwbp", "exits": 3}, "mwresnet8-3_fashion-mini_s0_8749e3c0"),
    ],
)
def test_runs_on_images_enough_are_known_by_the_ids_that_they_had(options: dict[str, Any], id: str) -> None:
    assert plan_of("resnet8", **options, place=Place(precision="fp32", device="cpu")).path.name == id
