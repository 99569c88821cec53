"""Streamed parts: the same images as in memory, whoever reads them, and what is wrong with files is said."""

import logging
import multiprocessing
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compress.data import (
    Dataset,
    Division,
    Labelled,
    ResizedCrop,
    Streamed,
    in_order,
    measure,
    open_dataset,
    own_folders,
    streaming,
)
from compress.errors import UsageError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),  # from Python 3.12 on
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # on a machine with one core
]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight noisy colour pictures of several sizes: two in each of two classes, to train on and to test."""
    rng, root = np.random.default_rng(0), tmp_path / "photos"
    for part in ("train", "test"):
        for label, size in (("cat", (30, 44)), ("dog", (52, 36))):
            (root / part / label).mkdir(parents=True)
            for name in ("1.png", "2.jpg"):
                pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / label / name)
    return root


def opened(root: Path, *, stream: bool = True, workers: int = 0, image_size: int | None = None) -> Dataset:
    return open_dataset(f"folder:{root}", stream=stream, workers=workers, image_size=image_size)


def streamed(root: Path, *, workers: int = 0, image_size: int | None = 32) -> Streamed:
    part = opened(root, workers=workers, image_size=image_size).train
    assert isinstance(part, Streamed)
    return part


def complaint(root: Path, *, skip_unreadable: bool = False, image_size: int | None = 32, stream: bool = True) -> str:
    with pytest.raises(UsageError) as error:
        open_dataset(f"folder:{root}", stream=stream, image_size=image_size, skip_unreadable=skip_unreadable)
    assert "\n" not in str(error.value)
    return str(error.value)


def cut_short(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-400])
    return path


# ---- the same images ----


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_fit_are_those_in_memory(tiny_folder: Path, workers: int) -> None:
    memory, disk = opened(tiny_folder, stream=False), opened(tiny_folder, workers=workers)
    assert (disk.copy, disk.classes, disk.input_shape) == ("class folders, streamed", memory.classes, (1, 14, 14))
    assert isinstance(memory.train, Labelled)
    assert torch.equal(disk.train.images, memory.train.images)
    assert torch.equal(disk.test.labels, memory.test.labels)
    assert measure(disk.train.sample()) == measure(memory.train.sample())

    chosen = torch.tensor([5, 199, 0])
    assert torch.equal(disk.train.subset(chosen).images, memory.train.images[chosen])
    assert len(disk.train.subset(chosen[:0]).images) == 0
    crop = ResizedCrop(seed=3, epoch=1)
    for read, held in zip(disk.train.batches([chosen], crop), memory.train.batches([chosen], crop), strict=True):
        assert torch.equal(read, held)


def test_a_crop_depends_on_seed_epoch_and_number_alone(photos: Path) -> None:
    part, crop = streamed(photos), ResizedCrop(seed=0, epoch=0)
    whole = next(part.batches(in_order(4, 4), crop))
    assert whole.shape == (4, 3, 32, 32)
    torch.manual_seed(torch.initial_seed() + 1)
    reordered = [torch.tensor([2, 1]), torch.tensor([3]), torch.tensor([0])]
    pieces = torch.cat(list(streamed(photos, workers=2).batches(reordered, crop)))
    assert torch.equal(pieces, whole[[2, 1, 3, 0]])
    for other in (ResizedCrop(seed=1, epoch=0), ResizedCrop(seed=0, epoch=1)):
        differ = (next(part.batches(in_order(4, 4), other)) != whole).flatten(1).any(dim=1)
        assert differ.all()


def test_reading_leaves_the_callers_random_state_alone(photos: Path) -> None:
    before = torch.get_rng_state()
    for workers in (0, 1):
        list(streamed(photos, workers=workers).batches(in_order(4, 2), ResizedCrop(seed=0, epoch=0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_passes_may_overlap_end_early_and_repeat(tiny_folder: Path, workers: int) -> None:
    part = streamed(tiny_folder, workers=workers, image_size=None)
    forth, back = in_order(20, 5), [indices.flip(0) for indices in in_order(20, 5)]
    expected = part.subset(torch.arange(20)).images.split(5)
    next(part.batches(forth))  # abandoned
    for _ in range(2):
        for first, second, images in zip(part.batches(forth), part.batches(back), expected, strict=True):
            assert torch.equal(first, images)
            assert torch.equal(second, images.flip(0))


# ---- identity ----


def test_the_digest_knows_names_bytes_and_shape(photos: Path, tmp_path: Path) -> None:
    first = opened(photos, image_size=32).digest
    assert opened(photos, image_size=32, workers=2).digest == first
    shutil.copytree(photos, tmp_path / "copy")
    assert opened(tmp_path / "copy", image_size=32).digest == first
    assert opened(photos, image_size=16).digest != first
    assert opened(photos, image_size=32, stream=False).digest != first

    image = photos / "train" / "cat" / "1.png"
    content = bytearray(image.read_bytes())
    content[-1] ^= 1  # in the checksum of the last chunk, which PIL ignores
    image.write_bytes(content)
    os.utime(image, ns=(0, 0))
    changed = opened(photos, image_size=32).digest
    image.rename(image.with_name("3.png"))
    assert len({first, changed, opened(photos, image_size=32).digest}) == 3


def test_files_are_read_once_until_they_change(photos: Path, cache: Path) -> None:
    first = opened(photos, image_size=32).digest
    image = photos / "train" / "cat" / "1.png"
    status = image.stat()
    image.write_bytes(bytes(status.st_size))
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert opened(photos, image_size=32).digest == first
    os.utime(image)
    assert complaint(photos).startswith(f"{image} cannot be read as an image")

    shutil.rmtree(cache)
    cache.write_text("no folder")  # a memory that cannot be written
    shutil.copy(photos / "train" / "dog" / "1.png", image)
    assert len(opened(photos, image_size=32).digest) == 64


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stream": True, "image_size": 32}, "--image-size 32 --stream"),
        ({"stream": True, "image_size": 32, "skip_unreadable": True}, "--image-size 32 --stream --skip-unreadable"),
        ({"image_size": 8}, "--image-size 8"),
    ],
)
def test_a_data_set_says_how_it_was_opened(photos: Path, options: dict[str, int], words: str) -> None:
    assert open_dataset(f"folder:{photos}", **options).options == tuple(words.split())  # type: ignore[arg-type]


def test_large_folders_are_streamed_unless_told_otherwise(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_folders, "STREAM_ABOVE", 8 * 3 * 32 * 32)
    name = f"folder:{photos}"
    assert open_dataset(name, image_size=32).copy == "class folders"
    assert open_dataset(name, image_size=33).copy == "class folders, streamed"
    held = open_dataset(name, image_size=33, stream=False)
    assert (held.copy, held.options) == ("class folders", ("--image-size", "33", "--no-stream"))


# ---- what is wrong ----


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_cut_short_is_named_and_no_worker_is_left(photos: Path, workers: int) -> None:
    broken = cut_short(photos / "train" / "dog" / "2.jpg")
    part = streamed(photos, workers=workers)  # its header is whole
    with pytest.raises(UsageError, match=rf"^{re.escape(str(broken))} cannot be read .*; --skip-unreadable .*$"):
        list(part.batches(in_order(4, 1)))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("stream", [False, True])
def test_only_who_is_about_to_train_is_advised_to_skip_a_file(photos: Path, stream: bool) -> None:
    cut_short(photos / "train" / "dog" / "2.jpg")

    def read(division: Division | None) -> None:
        dataset = open_dataset(f"folder:{photos}", stream=stream, image_size=32, workers=0, division=division)
        list(dataset.train.batches(in_order(4, 1)))

    known = Division(classes=("cat", "dog"))  # of a finished run
    for division, end in ((None, r"\); --skip-unreadable leaves such files out$"), (known, r"[^;]*\)$")):
        with pytest.raises(UsageError, match=rf"2\.jpg cannot be read as an image \([^;]*{end}"):
            read(division)


def test_unreadable_images_are_left_out_on_request_counted_and_named(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut_short(photos / "train" / "dog" / "2.jpg")
    (photos / "test" / "cat" / "1.png").write_text("no picture")
    assert "1.png cannot be read" in complaint(photos)
    with caplog.at_level(logging.WARNING, logger="compress"):
        data = open_dataset(f"folder:{photos}", image_size=32, skip_unreadable=True)
    assert "2 unreadable images are left out: train/dog/2.jpg, test/cat/1.png" in caplog.text
    assert (data.skipped, len(data.train), len(data.test)) == (2, 3, 3)
    assert data.train.labels.tolist() == [0, 0, 1]
    assert len(data.train.images) == 3


def test_a_class_is_never_left_without_images(photos: Path) -> None:
    for file in (photos / "test" / "cat").iterdir():
        file.write_text("no picture")
    message = complaint(photos, skip_unreadable=True)
    assert message == f"{photos}/test/cat holds no readable images"


def test_mixed_sizes_and_modes_are_converted_and_counted(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    cat = photos / "train" / "cat"
    with Image.open(cat / "1.png") as image:
        image.convert("L").save(cat / "1.png")
        image.convert("P").resize((32, 32)).save(cat / "3.png")
    assert "images differ in size (train/cat/1.png is 44x30, train/cat/3.png is 32x32)" in complaint(
        photos, image_size=None
    )
    with caplog.at_level(logging.WARNING, logger="compress"):
        data = opened(photos, stream=False, image_size=32)
    assert "8 of 9 images are resized to 32x32 (there are 3 sizes)" in caplog.text
    assert "2 of 9 images are converted to RGB (1 L, 1 P)" in caplog.text
    assert data.input_shape == (3, 32, 32)
    grey = data.train.images[0]
    assert torch.equal(grey, grey[:1].expand(3, -1, -1))


def test_a_worker_that_dies_is_one_line(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker kills itself, while it holds nothing that the others wait for."""
    batches = streamed(tiny_folder, workers=1, image_size=None).batches(in_order(200, 1))
    monkeypatch.setattr(streaming, "decode", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UsageError, match=r"^a process that reads images has died .* fewer --workers than 1"):
        list(batches)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar10", {"image_size": 64}, "--image-size is for folder:PATH; the images of cifar10 come in one size"),
        ("cifar10", {"stream": True}, "--stream is for folder:PATH; cifar10 is read into memory, whole"),
        ("fashion-mini", {"skip_unreadable": True}, "--skip-unreadable is for folder:PATH; fashion-mini is read"),
        ("folder:/", {"workers": -1}, "--workers must be 0 or more, here "),
        ("folder:/", {"image_size": 0}, "--image-size must be 1 or more, here 8192 at most, not 0"),
    ],
)
def test_options_that_do_not_fit(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        open_dataset(name, **options)  # type: ignore[arg-type]
