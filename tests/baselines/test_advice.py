"""Advice in the errors of `prune` works: the options that an error names are accepted."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from baselines import Budget, FineTuning, Technique, foresee
from baselines.job import find_reference
from baselines.kept_files import KeptFiles
from baselines.pruning_candidates import find_candidates
from baselines.selection import scoring_data_of
from baselines.sensitivity import Sensitivity
from compress.data import Dataset
from compress.documents import read_json
from compress.errors import UsageError
from compress.networks import initialised, spec_of
from compress.networks.foreign import zoo
from compress.recipes import Recipe
from compress.runs import write_json
from compress.training.plan import split_by
from tests.baselines.jobs import job_of


class Net(nn.Module):
    """A stem that a residual branch joins, batch norm and groups as asked for: one block, and no inner channels."""

    def __init__(self, classes: int, *, norm: bool, groups: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.branch = nn.Conv2d(8, 8, 3, padding=1, groups=groups)
        self.classifier = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.norm(self.stem(images)).relu()
        logits: Tensor = self.classifier((features + self.branch(features)).mean((2, 3)))
        return logits


NETS: dict[str, Callable[[int], nn.Module]] = {
    "plain": lambda classes: Net(classes, norm=True, groups=1),
    "grouped": lambda classes: Net(classes, norm=True, groups=2),
    "bare": lambda classes: Net(classes, norm=False, groups=2),
}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "_registered", NETS)
        yield


def timed(*_: Any) -> tuple[float, float, float]:
    return 0.4, 0.5, 0.6


@pytest.mark.parametrize(
    ("arch", "refused", "advice", "followed"),
    [
        ("plain", {"scope": "inner"}, "--scope all has some", {"scope": "all"}),
        ("grouped", {"method": "fpgm"}, "l1 can: --method l1", {"method": "l1"}),
        ("grouped", {"method": "group-norm"}, "use bn-scale", {"method": "bn-scale"}),
        ("bare", {"method": "group-norm"}, "use l1, without sparse training", {"method": "l1"}),
        ("plain", {"gradual": True}, "give --steps 2 or more", {"gradual": True, "steps": 2}),
        ("plain", {"latency": True, "steps": 2, "gradual": True}, "leave out --gradual and --steps", {"latency": True}),
        ("plain", {"method": "scratch-e", "schedule": "restart"}, "leave it out", {"method": "scratch-e"}),
    ],
)
def test_what_is_advised_works(
    arch: str,
    refused: dict[str, Any],
    advice: str,
    followed: dict[str, Any],
    small: Dataset,
    brief: Recipe,
    tmp_path: Path,
) -> None:
    def asked(options: dict[str, Any]) -> str | None:
        options = {"nearest": True} | options
        latency, schedule = options.pop("latency", False), options.pop("schedule", "small-rate")
        budget = Budget(latency_ratio=0.5) if latency else Budget(speedup=2)
        tuning, technique = FineTuning(schedule=schedule), Technique(**options)
        fields: dict[str, Any] = {"budget": budget, "technique": technique, "fine_tuning": tuning, "timed": timed}
        return foresee(job_of(arch, small, brief, tmp_path, **fields)).refused

    with pytest.raises(UsageError, match=re.escape(advice)):
        raise UsageError(asked(refused) or "not refused")
    assert asked(followed) is None


def test_a_sensitivity_of_other_groups_is_measured_anew(small: Dataset, brief: Recipe, tmp_path: Path) -> None:
    """A version that grouped channels otherwise may have kept it."""
    network = initialised(spec_of("plain", input_shape=small.input_shape, classes=10), 0).eval()
    technique = Technique(allocate="sensitivity")
    job = job_of("plain", small, brief, tmp_path, technique=technique)
    scoring = scoring_data_of(job, find_reference(job), split_by(job.recipe, job.dataset))
    other = Sensitivity(units=(3,), losses=((1.0, 2.0),), whole=1.0, macs=0, seconds=0.0)
    file = tmp_path / "sensitivity-l1-all-s0.json"
    write_json(file, dataclasses.asdict(other))
    options = find_candidates(technique, network, scoring, KeptFiles(tmp_path))
    assert read_json(file, Sensitivity)[1].units == options.order.units
