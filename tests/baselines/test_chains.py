"""Prunings one after the other, in steps or while training: each works, or is refused before anything is trained."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from baselines import Budget, Job, Technique, carry_out, foresee, prune
from baselines.channels import remove_channels
from baselines.coupling import Coupling
from baselines.removal_order import Size
from compress import Place
from compress.data import Dataset
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import initialised, spec_of
from compress.networks.foreign import zoo
from compress.recipes import Recipe
from compress.runs import load
from tests.baselines.jobs import job_of


class Small(nn.Module):
    """A stem, a layer to be tried, and a linear classifier."""

    def __init__(self, classes: int, width: int, tried: nn.Module, out: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.tried = tried
        self.last = nn.Sequential(nn.Conv2d(out, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.classifier = nn.Linear(12, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.last(self.tried(self.stem(images)))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def normed(classes: int) -> nn.Module:
    return Small(classes, 16, nn.Sequential(nn.GroupNorm(4, 16), nn.ReLU()), 16)


def resnext(classes: int) -> nn.Module:
    """ResNeXt's: a grouped convolution between two pointwise ones, of as many outputs a group as inputs."""
    layers = nn.Conv2d(16, 12, 1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(12, 16, 1)
    return Small(classes, 16, nn.Sequential(*layers), 16)


def uneven(classes: int) -> nn.Module:
    """Eight inputs and four outputs a group."""
    return Small(classes, 24, nn.Conv2d(24, 12, 3, padding=1, groups=3), 12)


def sloped(classes: int) -> nn.Module:
    return Small(classes, 12, nn.PReLU(12), 12)


def sloped_alike(classes: int) -> nn.Module:
    return Small(classes, 12, nn.PReLU(), 12)


NETS = {"normed": normed, "resnext": resnext, "uneven": uneven, "sloped": sloped, "sloped_alike": sloped_alike}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "_registered", NETS)
        yield


@pytest.mark.parametrize("arch", NETS)
def test_what_was_pruned_can_be_pruned_again_until_nothing_is_left_to_prune(arch: str) -> None:
    network = initialised(spec_of(arch, input_shape=(1, 8, 8), classes=3), 0).eval()
    for _ in range(9):
        coupling = Coupling(network)
        removed = tuple(units // 2 for units in coupling.within("all").units)
        if not any(removed):
            break
        promised = coupling.size(removed)
        network = remove_channels(network, {group: range(count) for group, count in enumerate(removed)})
        assert Size.of(network) == promised
    assert not any(removed)


@pytest.mark.parametrize(
    ("arch", "budget", "options", "gradual"),
    [
        ("resnext", Budget(ratio=0.6), {}, False),
        ("uneven", Budget(params=900), {"nearest": True}, True),
    ],
)
def test_every_step_of_a_foreign_net_works(
    arch: str, budget: Budget, options: dict[str, Any], gradual: bool, small: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    technique = Technique(steps=2, gradual=gradual, **options)
    run = prune(arch, small, budget=budget, technique=technique, recipe=brief, place=Place(runs=tmp_path))
    whole = initialised(spec_of(arch, input_shape=small.input_shape, classes=10), 0)
    name, value = budget.option
    achieved = run.record.results["achieved"]
    assert achieved["speedup"] == cost(whole).macs / cost(load(run)).macs
    assert achieved[name] == pytest.approx(value, rel=0.26)
    assert len(list(tmp_path.iterdir())) == (2 if gradual else 3)


UNIFORM = Technique(ranking="uniform", steps=3)


def job(arch: str, technique: Technique, small: Dataset, brief: Recipe, runs: Path) -> Job:
    return job_of(arch, small, brief, runs, budget=Budget(speedup=5), technique=technique)


@pytest.mark.parametrize(
    ("arch", "technique", "message"),
    [
        ("resnext", UNIFORM, r"step 3 of 3: .* cannot be met to within 1%: .*; --nearest takes the nearer one"),
        ("resnext", Technique(method="fpgm"), "fpgm cannot score"),
        ("resnext", Technique(method="group-norm"), "does not fit grouped convolutions"),
        ("normed", Technique(method="blocks"), "somebody else's net"),
        ("resnet8", Technique(method="shallow"), "no network has fewer blocks"),
    ],
    ids=lambda value: value.label if isinstance(value, Technique) else None,
)
def test_what_cannot_be_is_refused_by_the_dry_run_and_before_a_reference_is_trained(
    arch: str, technique: Technique, message: str, small: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    asked = job(arch, technique, small, brief, tmp_path)
    with pytest.raises(UsageError, match=message) as refused:
        carry_out(asked)
    try:
        said = foresee(asked).refused
    except UsageError as error:
        said = str(error)
    assert said == str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["lamp", "taylor"])
def test_what_starts_as_zeros_is_no_reason_to_refuse(
    method: str, small: Dataset, brief: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(classes: int) -> nn.Module:
        net = normed(classes)
        for parameter in net.parameters():
            nn.init.zeros_(parameter)
        return net

    monkeypatch.setattr(zoo, "_registered", {"silent": silent})
    forecast = foresee(job("silent", Technique(method=method, nearest=True), small, brief, tmp_path))
    assert forecast.refused is None


def test_a_step_refused_after_a_training_loses_nothing_and_says_how_to_go_on(
    small: Dataset, brief: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fine-tuned weights may decide this; the test skips the check beforehand instead."""
    for module in ("feasibility", "pruning"):
        monkeypatch.setattr(f"baselines.{module}.check_prunable", lambda *_: None)
    with pytest.raises(UsageError, match=r"cannot be met to within 1%: .* what was trained so far is kept") as refused:
        carry_out(job("resnext", UNIFORM, small, brief, tmp_path))
    assert len(list(tmp_path.iterdir())) == 3
    kept = str(refused.value).rpartition("--from ")[2]
    run = prune(Path(kept), small, budget=Budget(ratio=0.3), recipe=brief, place=Place(runs=tmp_path))
    assert run.record.parent == kept


def test_a_step_in_between_that_takes_more_than_all_of_them_may_is_refused(
    small: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    """ResNet-14 has blocks of a seventh of its MACs, of which a step to 1.01 takes one."""
    technique = Technique(method="blocks", steps=2)
    asked = job_of("resnet14", small, brief, tmp_path, budget=Budget(speedup=1.05), technique=technique)
    with pytest.raises(UsageError, match=r"step 2 of 2: .* cannot be reached: this network has"):
        carry_out(asked)
    assert not list(tmp_path.iterdir())
