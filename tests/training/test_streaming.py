"""Training on images that are read from disk: equal to training in memory, resumable, and by ImageNet's protocol."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compress.data import Dataset, open_dataset, split
from compress.networks import Network, spec_of
from compress.recipes import Recipe, recipe_named
from compress.runs import load, read_run
from compress.training import Method
from compress.training.evaluation import predict
from compress.training.loop import Training, fit

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),  # from Python 3.12 on
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # on a machine with one core
]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """48 noisy colour pictures, 40x52, in two classes: dark and light."""
    rng, root = np.random.default_rng(0), tmp_path / "photos"
    for part, count in (("train", 16), ("test", 8)):
        for label, low in (("dark", 0), ("light", 100)):
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(low, low + 156, (40, 52, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / label / f"{number}.jpg")
    return root


def opened(root: Path, **options: Any) -> Dataset:
    return open_dataset(f"folder:{root}", **options)


def training_of(dataset: Dataset, recipe: Recipe) -> Training:
    spec = spec_of("resnet8", exits=2, input_shape=dataset.input_shape, classes=len(dataset.classes))
    torch.manual_seed(0)
    network = Network(spec)
    parts = split(dataset, validation=recipe.validation, calibration=recipe.calibration, seed=recipe.split_seed)
    return Training(network, parts, recipe, Method(name="mwbp").objective(spec), augment=True, seed=0, precision="fp32")


def weights(training: Training) -> torch.Tensor:
    return torch.cat([tensor.flatten().double() for tensor in training.network.state_dict().values()])


def test_training_on_disk_is_training_in_memory_bit_for_bit(tiny_folder: Path) -> None:
    brief = replace(recipe_named("quick"), epochs=1, flip="random", averaging="ema")
    trained: dict[tuple[Any, bool], torch.Tensor] = {}
    crops: tuple[Any, Any] = ("pad", "resized")
    for crop, padding in zip(crops, (2, 0), strict=True):
        logits = []
        for stream in (False, True):
            recipe = replace(brief, crop=crop, crop_padding=padding)
            training = training_of(opened(tiny_folder, stream=stream, workers=0), recipe)
            fit(training, title=f"crop: {crop}, stream: {stream}")
            trained[crop, stream] = weights(training)
            logits.append(predict(training.network, training.split.test, training.split.normalisation))
        assert torch.equal(trained[crop, True], trained[crop, False])
        assert torch.equal(*logits)
    assert not torch.equal(trained["pad", True], trained["resized", True])


def test_a_resumed_training_is_an_uninterrupted_one_whoever_reads(photos: Path, tmp_path: Path) -> None:
    recipe = replace(recipe_named("imagenet"), epochs=2, batch_size=8)
    whole = training_of(opened(photos, stream=True, image_size=32, workers=0), recipe)
    fit(whole, title="whole")

    class KilledError(Exception):
        """Stands for the end of the process."""

    def die_in_the_last_epoch(training: Training) -> None:
        if training.epochs_done == 2:
            raise KilledError  # before this epoch's checkpoint, so it is trained again

    for workers in (0, 2):
        dataset, checkpoint = opened(photos, stream=True, image_size=32, workers=workers), tmp_path / str(workers)
        with pytest.raises(KilledError):
            fit(training_of(dataset, recipe), title="part", checkpoint=checkpoint, on_epoch=die_in_the_last_epoch)
        resumed = training_of(dataset, recipe)
        fit(resumed, title="resumed", checkpoint=checkpoint)
        assert torch.equal(weights(resumed), weights(whole))


def test_imagenets_protocol_runs_on_a_small_folder_and_the_record_says_how(
    photos: Path, tmp_path: Path, compress: Callable[..., tuple[int, str, str]]
) -> None:
    options = ["--recipe", "imagenet", "--epochs", "1", "--image-size", "32", "--stream", "--workers", "0"]
    broken = photos / "train" / "dark" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    command = ["train", "--arch", "resnet8", "--dataset", f"folder:{photos}", *options, "--runs", tmp_path / "runs"]
    status, _, err = compress(*command)
    assert status == 2
    assert f"{broken} cannot be read as an image" in err

    status, _, err = compress(*command, "--skip-unreadable")
    assert status == 0, err
    [path] = [path for path in (tmp_path / "runs").iterdir() if read_run(path).record.status == "finished"]
    record = read_run(path).record
    assert (record.data["copy"], record.data["skipped"]) == ("class folders, streamed", 1)
    assert record.data["split"]["train"] == 31
    assert "--image-size 32 --stream --skip-unreadable --recipe imagenet --epochs 1" in record.command
    assert "#" not in record.command
    assert load(path).spec.input_shape == (3, 32, 32)


def test_imagenets_protocol_is_for_224_pixels(photos: Path, refused: Callable[..., str]) -> None:
    first = next((photos / "train" / "dark").iterdir())
    first.write_text("no picture")
    line = refused("train", "--dataset", f"folder:{photos}", "--recipe", "imagenet", "--arch", "resnet8")
    assert line.startswith(f"compress: {first} cannot be read")
    assert recipe_named("imagenet").image_size == 224


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_leave_no_process_behind(
    number: signal.Signals, status: int, photos: Path, tmp_path: Path
) -> None:
    options = ["--dataset", f"folder:{photos}", "--image-size", "32", "--stream", "--workers", "2"]
    command = [sys.executable, "-m", "compress", "train", "--arch", "resnet8", "--epochs", "10000", *options]

    def own_group() -> None:
        """As a terminal or a scheduler has it: the whole group gets the signal, workers too, and heeds it."""
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    runs = tmp_path / "runs"
    process = subprocess.Popen(
        [*command, "--runs", str(runs)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, preexec_fn=own_group
    )
    try:
        while not list(runs.glob("*/checkpoint/last.pt")):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, number)  # while workers are being started, if it is quick
        _, err = process.communicate(timeout=60)  # returns when no process has the other end of the pipe any more
        assert process.returncode == status
        assert b"Traceback" not in err
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        process.kill()
