"""What tests share: a few real images, as a data set and as class folders, and the command run in this process."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from compress.data import Dataset, Labelled, Part, open_dataset
from compress.recipes import Recipe, recipe_named

TRAIN, TEST = 20, 10  # images a class
EVERY = 2  # row and column is kept: a quarter of the pixels, of what trainings cost

# The networks of the tests are too small for two threads, which would only wait for each other.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
if not torch.cuda.is_available():  # a GPU's kernels are many, and compiled side by side
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # compile in this process: others would import torch first


def _first(part: Part, count: int) -> Part:
    """The first `count` images of every class, made smaller."""
    classes = part.labels.unique()
    chosen = part.subset(torch.cat([(part.labels == label).nonzero().flatten()[:count] for label in classes]))
    return Labelled(images=chosen.images[..., ::EVERY, ::EVERY].contiguous(), labels=chosen.labels)


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """200 training and 100 test images of the bundled data set, 14x14 grey, 10 classes."""
    whole = open_dataset("fashion-mini")
    return replace(whole, name="tiny", train=_first(whole.train, TRAIN), test=_first(whole.test, TEST))


@pytest.fixture(scope="session")
def tiny_folder(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images as class folders."""
    root = tmp_path_factory.mktemp("tiny")
    for part, labelled in (("train", tiny.train), ("test", tiny.test)):
        for number, (image, label) in enumerate(zip(labelled.images, labelled.labels, strict=True)):
            folder = root / part / tiny.classes[int(label)].replace("/", "-")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(folder / f"{number:04d}.png")
    return root


@pytest.fixture(scope="session")
def brief() -> Recipe:
    """The quick recipe, for one epoch of few steps."""
    return replace(recipe_named("quick"), epochs=1, fine_tune_epochs=1, least_steps=1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests of a GPU where there is none."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def compress(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process: exit status, stdout, stderr."""
    from compress.cli.app import main  # here, as tests of a GPU do without what the command line needs

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def refused(compress: Command, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must be refused: one line on stderr, status 2, nothing left behind; returns the line."""

    def run(*arguments: str | Path, leaves: bool = False) -> str:
        before = sorted(tmp_path.rglob("*"))
        status, out, err = compress(*arguments)
        lines = [line for line in err.splitlines() if line.startswith("compress: ")]
        assert (status, out, len(lines)) == (2, "", 1), err
        assert "Traceback" not in err
        assert leaves or sorted(tmp_path.rglob("*")) == before
        return lines[0]

    return run
