"""Pruning jobs with few words."""

from pathlib import Path
from typing import Any

from baselines import Budget, Job, Technique
from compress import Place
from compress.data import Dataset
from compress.recipes import Recipe


def job_of(arch: str | None, dataset: Dataset, recipe: Recipe, runs: Path, **fields: Any) -> Job:
    """A job by l1 to half of the MACs, or as the fields say."""
    defaults: dict[str, Any] = {"budget": Budget(speedup=2), "technique": Technique(), "place": Place(runs=runs)}
    return Job(arch=arch, dataset=dataset, recipe=recipe, **defaults | fields)
