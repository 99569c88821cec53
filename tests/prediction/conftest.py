"""What tests of predictions share: class folders of awkward photos, and networks trained on them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from compress import Recipe, Run, load, open_dataset, train
from compress.inference import Policy
from compress.networks import digest_of_weights
from compress.runs import PREDICTIONS
from compress.training import Place

CLASSES = ("dark", "light")


def write_photos(root: Path, *, grey: bool, sizes: list[tuple[int, int]], orientations: tuple[int, ...]) -> None:
    """Write noise of two brightnesses, of these sizes (width, height), seen upright by an EXIF tag."""
    suffixes = ("jpg", "png", "tif" if grey else "webp")
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 6)):
        for dark, label in enumerate(CLASSES):
            folder = root / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                width, height = sizes[number % len(sizes)]
                values = rng.integers(0, 256, (height // 4, width // 4, 3)) * (0.4 if dark else 1)
                image = Image.fromarray(values.astype(np.uint8)).resize((width, height)).convert("L" if grey else "RGB")
                exif = Image.Exif()
                exif[ExifTags.Base.Orientation] = orientations[number % len(orientations)]
                image.save(folder / f"{number}.{suffixes[number % len(suffixes)]}", exif=exif)


@dataclass(frozen=True)
class Trained:
    """A run on class folders, and the logits `(exits, N, classes)` of its test images that it stored."""

    run: Run
    photos: Path

    @property
    def test(self) -> Path:
        return self.photos / "test"

    @property
    def logits(self) -> NDArray[np.float64]:
        with np.load(self.run.path / PREDICTIONS) as stored:
            return np.asarray(stored["test_logits"], np.float64)

    def probabilities(self, exit: int = 0) -> NDArray[np.float64]:
        """Of every class, `(N, classes)`, at an exit (1-based; 0: the last)."""
        powers = np.exp(self.logits[exit - 1])
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    @property
    def rounding(self) -> float:
        """How far a probability can be from that of its logits, which were stored in float16."""
        return float(np.abs(self.logits).max() * 2**-11)


def halving(trained: Trained) -> Policy:
    """A policy by which half of the test images leave at the first of two exits."""
    confidences = np.sort(trained.probabilities(1).max(axis=1))
    middle = len(confidences) // 2
    threshold = float(confidences[middle - 1 : middle + 1].mean())
    weights = digest_of_weights(load(trained.run))
    return Policy(temperatures=(1.0, 1.5), thresholds=(threshold,), weights=weights)


@pytest.fixture(scope="session")
def trained(brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Train a network of two exits on photos, once for every kind of them."""
    known: dict[tuple[bool, bool], Trained] = {}

    def make(*, grey: bool = False, resized: bool = True) -> Trained:
        if (grey, resized) not in known:
            place = tmp_path_factory.mktemp("photos")
            sizes = [(40, 24), (16, 16), (24, 60)] if resized else [(16, 16)]
            write_photos(place / "photos", grey=grey, sizes=sizes, orientations=(1, 6, 3, 5))
            data = open_dataset(f"folder:{place / 'photos'}", image_size=16 if resized else None)
            run = train("resnet8", data, method="mwbp", exits=2, recipe=brief, place=Place(runs=place / "runs"))
            known[grey, resized] = Trained(run, place / "photos")
        return known[grey, resized]

    return make
