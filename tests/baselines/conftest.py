"""What tests of whole prunings share: tiny images that a command can name, and the references trained on them."""

from pathlib import Path

import pytest

from compress import Place
from compress.data import Dataset, Labelled, open_dataset
from compress.recipes import Recipe, recipe_named
from compress.runs import Run
from compress.training import train


@pytest.fixture(scope="session")
def small(tiny_folder: Path) -> Dataset:
    """200 training and 100 test images of 8x8 grey pixels, as a data set that a command can name."""
    return open_dataset(f"folder:{tiny_folder}", image_size=8)


@pytest.fixture(scope="session")
def images(tiny: Dataset) -> Labelled:
    """Real images, cropped to 8x8."""
    return Labelled(images=tiny.train.images[..., :8, :8], labels=tiny.train.labels)


@pytest.fixture(scope="session")
def quick() -> Recipe:
    """The quick recipe as it is, so that a command finds the reference by itself: five epochs of eleven steps."""
    return recipe_named("quick")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of runs that tests add to."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def reference(small: Dataset, quick: Recipe, runs: Path) -> Run:
    """ResNet-14, two blocks a stage, by plain BP."""
    return train("resnet14", small, recipe=quick, place=Place(runs=runs))


@pytest.fixture(scope="session")
def many_exits(small: Dataset, quick: Recipe, runs: Path) -> Run:
    """MwResNet-20 with three exits, by MW-BP; the first exit is not at a stage's end."""
    return train("resnet20", small, method="mwbp", exits="2,6,end", recipe=quick, place=Place(runs=runs))
