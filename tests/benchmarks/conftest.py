"""Finished runs to measure and report: BP and MW-BP, two seeds of one of them, and a pruned one; a measurement."""

from dataclasses import replace
from pathlib import Path

import pytest

from baselines import Budget, prune
from benchmarks.measuring.bench_file import Measurement
from compress import Place
from compress.data import Dataset, open_dataset
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


@pytest.fixture(scope="session")
def small(tiny_folder: Path) -> Dataset:
    """The tiny images in class folders, 8x8."""
    return open_dataset(f"folder:{tiny_folder}", image_size=8)


@pytest.fixture(scope="session")
def reopened(small: Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """BP deep, BP shallow, and MW-BP on the shallow trunk; their images, some held out, can be opened again."""
    place, recipe = Place(runs=tmp_path_factory.mktemp("reopened")), replace(brief, validation=0.2, calibration=0.2)
    return [
        train("resnet14", small, recipe=recipe, place=place),
        train("resnet8", small, recipe=recipe, place=place),
        train("resnet8", small, method="mwbp", exits=2, recipe=recipe, place=place),
    ]


@pytest.fixture(scope="session")
def measurement() -> Measurement:
    """One exit at batch 1, by eager in fp32 on a CPU."""
    return Measurement(
        session="s",
        engine="eager",
        precision="fp32",
        device="cpu",
        threads=1,
        rounds=9,
        reference={"run": "r", "exit": 1},
        noise=0.01,
        environment={"cpu": "a CPU", "gpu": None, "device": "cpu"},
        rows=[
            {
                "exit": 1,
                "macs": 10,
                "params": 5,
                "bytes": 20,
                "batch_size": 1,
                "seconds": (0.001, 0.002, 0.003),
                "ratio": (0.4, 0.5, 0.6),
                "ratio_interval": (0.45, 0.55),
                "deviation": 1e-7,
            }
        ],
    )
