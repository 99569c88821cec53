"""Small studies: images of 7x7 pixels, a way to read a study from text, and one study that was run."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

import pytest

from benchmarks import Setting, read_study, run_study
from compress import Place
from compress.data import Dataset, Labelled
from compress.recipes import Recipe
from compress.runs import Run

HEAD = """
title = "Small"
about = "A study of a test."
takes = "seconds"
dataset = "fashion-mini"
recipe = "quick"
reference = "deep"
"""
DEEP = '{name = "deep", command = "train", arch = "resnet8"}'
MULTI = '{name = "multi", command = "train-mwbp", arch = "resnet8", exits = 2}'
CURVES = f"""
{HEAD}
seeds = [0, 1]
primary = ["multi", "impossible"]
run = [
    {DEEP},
    {MULTI},
    {{name = "l1", command = "prune", from = "deep", speedup = [1.5, 2.5]}},
    {{name = "impossible", command = "prune", from = "deep", speedup = 1000}},
    {{name = "dependent", command = "prune", from = "impossible", ratio = 0.2}},
    {{name = "exits", command = "prune", from = "multi", match = "multi:1"}},
]
[tuning]
rates = [30, 1]
at = 1
"""
Settings = Callable[..., Setting]


@pytest.fixture(scope="session")
def coarse(tiny: Dataset) -> Dataset:
    """Every second pixel of every second row: 7x7."""
    train, test = (
        Labelled(images=part.images[..., ::2, ::2].contiguous(), labels=part.labels) for part in (tiny.train, tiny.test)
    )
    return replace(tiny, name="coarse", train=train, test=test)


@pytest.fixture(scope="session")
def settings(coarse: Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The setting of a study that is given as text, and where its runs go."""
    folder = tmp_path_factory.mktemp("studies")

    def make(text: str, runs: Path, *, dataset: Dataset = coarse, recipe: Recipe = brief) -> Setting:
        (folder / "study.toml").write_text(text)
        study = read_study(str(folder / "study.toml"))
        place = Place(device="cpu", precision="fp32", runs=runs)
        return Setting(study=study, dataset=dataset, recipe=recipe, place=place)

    return make


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study that was run: ``runs``, and ``out`` with its report."""
    return tmp_path_factory.mktemp("curves")


@pytest.fixture(scope="session")
def made(settings: Settings, place: Path) -> list[Run]:
    """What running the study reports: tuned pruning curves of two seeds, and runs that cannot be made."""
    with patch("benchmarks.study.runner.ROUNDS", 2):
        return run_study(settings(CURVES, place / "runs"), out=place / "out")


@pytest.fixture
def reported() -> Iterator[Mock]:
    """While this is in use nothing is timed or reported; the mock is what stands for `write_report`."""
    with patch("benchmarks.study.runner.bench"), patch("benchmarks.report.report.write_report") as report:
        yield report
