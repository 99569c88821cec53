"""Predicting against decoding alone: python -m benchmarks.speed.predicting [--photos 2000] [--rounds 7].

The same JPEGs (500x375 pixels), read by the same number of threads, are in turn decoded and cropped alone, predicted by
PyTorch, and predicted by a bundle for ONNX Runtime. Printed as JSON: each prediction's time as a ratio to decoding
alone, `{"ratio", "low", "high"}` (median and quartiles over the rounds), and photos decoded in a second.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cyclopts import App
from PIL import Image

from benchmarks.measuring.rounds import interleaved
from benchmarks.speed.ratios import ratio
from compress.data import open_dataset
from compress.export import export_bundle
from compress.hardware import describe
from compress.prediction import Predictor, predictor
from compress.prediction.models import Answers, Model
from compress.recipes import recipe_named
from compress.training import Place, train

CLASSES, SIZE = 2, (500, 375)
app = App(name="python -m benchmarks.speed.predicting", help_format="plaintext", version_flags=[])


def write_photos(folder: Path, count: int) -> list[Path]:
    """Write JPEGs of smooth noise, which are about as large as photographs are."""
    folder.mkdir(parents=True)
    rng, width, height = np.random.default_rng(0), *SIZE
    paths = [folder / f"{number:05d}.jpg" for number in range(count)]
    for path in paths:
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def decoding(predicts: Predictor) -> Predictor:
    """The same without a network: files are read as they are for it, and answered by the first class."""
    none = Answers(*(np.zeros(predicts.batch_size, int) for _ in range(3)))

    def answer(images: np.ndarray) -> Answers:
        count = len(images)
        return Answers(none.labels[:count], none.labels[:count, None], none.exits[:count])

    model: Model = dataclasses.replace(predicts.model, begin=lambda: answer)
    return Predictor(model, batch_size=predicts.batch_size, workers=predicts.workers)


def measure(
    place: Path, *, arch: str, image_size: int, photos: int, rounds: int, workers: int | None
) -> dict[str, Any]:
    """Train a network for one step, export it, and time predictions by it; files are written to `place`."""
    for part in ("train", "test"):
        for label in range(CLASSES):
            write_photos(place / "data" / part / str(label), 8)
    data = open_dataset(f"folder:{place / 'data'}", image_size=image_size)
    recipe = dataclasses.replace(recipe_named("quick"), epochs=1, least_steps=1)
    run = train(arch, data, recipe=recipe, place=Place(runs=place / "runs"))
    bundle = export_bundle(run, out=place / "bundle", format="onnx")
    eager, served = predictor(run, workers=workers), predictor(bundle.path, workers=workers)
    paths = write_photos(place / "photos", photos)

    def call(predicts: Predictor) -> Callable[[], object]:
        return lambda: deque(predicts.predict(paths), maxlen=0)

    calls: Sequence[Callable[[], object]] = [call(decoding(eager)), call(eager), call(served)]
    seconds, _ = interleaved(calls, rounds=rounds, device=torch.device("cpu"), warm_up=0, what="predicting")
    alone, by_eager, by_onnxruntime = seconds.T
    conditions = {"arch": arch, "image_size": image_size, "photos": photos, "rounds": rounds, "workers": eager.workers}
    return {
        "eager_over_decoding": ratio(by_eager, alone),
        "onnxruntime_over_decoding": ratio(by_onnxruntime, alone),
        "decoded_per_second": photos / float(np.median(alone)),
        "environment": describe(torch.device("cpu")) | conditions,
    }


@app.default
def main(
    *, arch: str = "resnet44", image_size: int = 32, photos: int = 2000, rounds: int = 7, workers: int | None = None
) -> None:
    """Measure what predicting costs beyond decoding, as ratios of times measured in turn on this machine.

    Args:
        arch: Network that predicts.
        image_size: Pixels that photos are resized to.
        photos: Number of JPEGs.
        rounds: Number of timings; the median and the quartiles over them are given.
        workers: Threads that read and compute (default: one per core).
    """
    with tempfile.TemporaryDirectory() as name:
        setup: dict[str, Any] = {"arch": arch, "image_size": image_size, "photos": photos, "rounds": rounds}
        print(json.dumps(measure(Path(name), **setup, workers=workers), indent=2))


if __name__ == "__main__":
    app()
