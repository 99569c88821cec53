"""Finished runs to measure and report: BP and MW-BP, two seeds of one of them, and a pruned one."""

from pathlib import Path

import pytest

from baselines import Budget, prune
from compress import Place
from compress.data import Dataset
from compress.recipes import Recipe
from compress.runs import Run
from compress.training import train


@pytest.fixture(scope="session")
def runs(tiny: Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    directory: Path = tmp_path_factory.mktemp("runs")
    return [
        train("resnet14", tiny, recipe=brief, place=Place(runs=directory)),
        train("resnet8", tiny, method="mwbp", exits=2, recipe=brief, place=Place(runs=directory)),
        train("resnet8", tiny, method="mwbp", exits=2, recipe=brief, seed=1, place=Place(runs=directory)),
        prune("resnet14", tiny, budget=Budget(speedup=2), recipe=brief, place=Place(runs=directory)),
    ]
