"""Readers on small files in the real formats, whole and damaged."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compress.data.own_folders import open_folder
from compress.data.readers import read_idx
from compress.errors import UsageError


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def picture(value: int, size: tuple[int, int] = (4, 3), mode: str = "RGB") -> Image.Image:
    """Return a picture of one value, ``size`` (width, height)."""
    return Image.new(mode, size, value if mode in ("L", "P", "I;16") else (value,) * len(mode))


def class_folders(root: Path, *parts: str, mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> Path:
    """Two images in each of the classes ant and bee of each part, every one with a value of its own."""
    value = 0
    for part in parts:
        for name in ("bee", "ant"):
            (root / part / name).mkdir(parents=True)
            for file in ("2.png", "1.PNG"):
                value += 10
                picture(value, size, mode).save(root / part / name / file)
    return root


def complaint(root: Path) -> str:
    with pytest.raises(UsageError) as error:
        open_folder(root)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- idx ----


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("shape", [(5,), (3, 4, 2), (0, 4, 2)])
def test_idx_files_plain_and_compressed(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = tmp_path / f"data{suffix}"
    path.write_bytes(gzip.compress(idx(array)) if suffix else idx(array))
    result = read_idx(path, dimensions=len(shape))
    assert result.dtype == torch.uint8
    np.testing.assert_array_equal(result.numpy(), array)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


WHOLE = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", WHOLE[:-1], "a has 23 bytes of data where its header says 24"),
        ("a", WHOLE + b"\x00", "a has 25 bytes of data where its header says 24"),
        ("a", WHOLE[:9], "a is not an idx file of bytes in 3 dimensions"),
        ("a", b"\x00\x00\x0d\x03" + WHOLE[4:], "a is not an idx file of bytes in 3 dimensions"),
        ("a", idx(np.zeros(24, np.uint8)), "a is not an idx file of bytes in 3 dimensions"),
        ("a.gz", gzip.compress(WHOLE, mtime=0)[:-12], "a.gz is missing, cut short or damaged"),
        ("a.gz", WHOLE, "a.gz is missing, cut short or damaged"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path}/{message}")):
        read_idx(tmp_path / name, dimensions=3)


# ---- class folders ----


def test_class_folders_in_the_order_of_their_names(tmp_path: Path) -> None:
    data = open_folder(class_folders(tmp_path, "train", "test"))
    assert data.classes == ("ant", "bee")
    assert data.train.images.shape == (4, 3, 3, 4)
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.train.images[:, 0, 0, 0].tolist() == [40, 30, 20, 10]  # written from bee/2.png to ant/1.PNG
    assert data.test.images[:, 0, 0, 0].tolist() == [80, 70, 60, 50]
    assert data.validation is None


def test_channels_and_pixels_stay_in_place(tmp_path: Path) -> None:
    class_folders(tmp_path, "train", "test")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "train" / "ant" / "1.PNG")
    images = open_folder(tmp_path).train.images
    np.testing.assert_array_equal(images[0].numpy(), pixels.transpose(2, 0, 1))


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    data = open_folder(class_folders(tmp_path, "train", "test", mode="L"))
    assert data.train.images.shape == (4, 1, 3, 4)
    assert data.train.images[:, 0, 2, 3].tolist() == [40, 30, 20, 10]


def test_images_of_several_sizes_need_an_image_size(tmp_path: Path) -> None:
    class_folders(tmp_path, "train", "test")
    picture(1, (9, 7)).save(tmp_path / "test" / "ant" / "1.PNG")
    expected = f"{tmp_path}: images differ in size (train/ant/1.PNG is 4x3, test/ant/1.PNG is 9x7): give --image-size"
    assert complaint(tmp_path) == f"{expected}, such as 3"


@pytest.mark.parametrize("kept", [0, -40])
def test_an_image_that_is_none_or_cut_short_is_named(kept: int, tmp_path: Path) -> None:
    broken = class_folders(tmp_path, "train", "test") / "train" / "bee" / "x.jpg"
    picture(9).save(broken)
    broken.write_bytes(broken.read_bytes()[:kept])
    assert complaint(tmp_path).startswith(f"{broken} cannot be read as an image")


def test_pixels_without_a_known_range_are_refused_rather_than_cut_off(tmp_path: Path) -> None:
    deep = class_folders(tmp_path, "train", "test") / "train" / "ant" / "3.tif"
    Image.new("F", (4, 3), 0.5).save(deep)
    message = f"{deep} has pixels of PIL mode F, whose range is unknown: convert it to 8 bits per channel"
    assert complaint(tmp_path) == f"{message}; --skip-unreadable leaves such files out"


@pytest.mark.parametrize(("part", "other"), [("test", "train"), ("train", "test")])
def test_all_parts_need_the_same_classes(tmp_path: Path, part: str, other: str) -> None:
    class_folders(tmp_path, "train", "test")
    (tmp_path / part / "cat").mkdir()
    picture(1).save(tmp_path / part / "cat" / "1.png")
    assert complaint(tmp_path) == f"{tmp_path}: class 'cat' is in {part}/ but not in {other}/; both need the same"


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    class_folders(tmp_path, "train")
    assert complaint(tmp_path).startswith(f"{tmp_path}/test is not a folder; expected train/CLASS/*, test/CLASS/*")
    (tmp_path / "test").mkdir()
    assert complaint(tmp_path) == f"{tmp_path}/test has no class folders; expected test/CLASS/*"
    (tmp_path / "test" / "ant").mkdir()
    assert complaint(tmp_path).startswith(f"{tmp_path}/test/ant holds no images; known suffixes: .apng, .avif")
