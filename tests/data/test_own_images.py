"""Images of one's own: which are read, with which labels, and that copies of seen ones are left out."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from compress.data import Labelled
from compress.data.image_decoding import preprocessing
from compress.data.own_images import UNLABELLED, read_own_images, without_copies
from compress.data.preparation import Preparation
from compress.errors import UsageError

SHAPE = (1, 2, 2)
PREPARATION = Preparation.of(preprocessing(SHAPE, resized=False), SHAPE)


def write(path: Path, value: int, size: tuple[int, int] = (2, 2)) -> None:
    """Write a grey image of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def test_labels_are_the_places_of_the_classes_whatever_the_order_of_the_folders(tmp_path: Path) -> None:
    for label, value in (("ant", 1), ("bee/deep", 2), ("cat", 3)):
        write(tmp_path / label / "0.png", value)
    read = read_own_images(tmp_path, PREPARATION, ("cat", "ant", "bee"))
    assert (read.images[:, 0, 0, 0].tolist(), read.labels.tolist()) == ([1, 2, 3], [1, 2, 0])


def test_without_classes_any_folder_will_do(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.png", ".hidden.png"):
        write(tmp_path / name, len(name))
    (tmp_path / "notes.txt").write_text("none")
    read = read_own_images(tmp_path, PREPARATION, None)
    assert (read.images[:, 0, 0, 0].tolist(), read.labels.tolist()) == ([7, 5], [UNLABELLED] * 2)


def test_links_bring_no_image_twice(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.png", 1)
    write(tmp_path / "b" / "2.png", 2)
    (tmp_path / "a" / "to_b").symlink_to("../b")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    for classes in (None, ("a", "b")):
        assert read_own_images(tmp_path, PREPARATION, classes).images[:, 0, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("files", "classes", "message"),
    [
        ((), None, "holds no images; known suffixes"),
        (
            ("a/0.png", "b/0.png", "c/0.png"),
            ("a", "b"),
            "'c' is a folder, but no class of the run; the classes are a, b",
        ),
        (("a/0.png", "b/0.png"), ("a", "b", "c"), "'c' is a class, but no folder here"),
        (("train/a/0.png", "test/a/0.png"), ("a", "b"), "is divided into parts: name one of them .*/test"),
        (("a/large.png", "b/0.png"), ("a", "b"), "large.png has 3x3 pixels .* takes images of 2x2 alone"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, files: Sequence[str], classes: Sequence[str] | None, message: str
) -> None:
    for name in files:
        write(tmp_path / name, 1, (3, 3) if "large" in name else (2, 2))
    with pytest.raises(UsageError, match=message):
        read_own_images(tmp_path, PREPARATION, classes)


def images_of(*values: int) -> Labelled:
    """An image of each value."""
    images = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, *SHAPE)
    return Labelled(images=images.contiguous(), labels=torch.arange(len(values)))


def test_copies_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        kept = without_copies(images_of(9, 1, 5, 9, 3, 5), [images_of(1, 2), images_of(3)], Path("own"))
    assert kept.labels.tolist() == [0, 2]
    assert "own: 4 of 6 images are left out: 2 have the pixels of one that" in caplog.text
    assert "tested on, 2 those of one another" in caplog.text
    caplog.clear()
    assert len(without_copies(kept, [images_of(4)], Path("own"))) == 2
    assert not caplog.text


def test_nothing_but_copies_is_refused() -> None:
    with pytest.raises(UsageError, match="own: none of 3 images is left: 3 have the pixels"):
        without_copies(images_of(1, 1, 2), [images_of(2, 1)], Path("own"))
