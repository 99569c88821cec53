"""Image files: what is named, then what is below what is named, in order, each once for every time that it is named."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from compress.export.image_reader import image_suffixes
from compress.prediction import image_files

IMAGES = ("a/2.png", "a/inner/deep/1.JPG", "a/x.webp", "a.png", "b/1.tiff")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in folders, among files that are none."""
    for name in (*IMAGES, ".hidden.png", "a/.hidden/1.png", "a/notes.txt", "b/data.h5", "c/README"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(found: Iterator[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


def test_a_folder_stands_for_the_images_below_it_by_name(folder: Path) -> None:
    assert names(image_files([folder]), folder) == list(IMAGES)
    assert names(image_files([str(folder / "b"), folder / "a" / "inner"]), folder) == ["b/1.tiff", "a/inner/deep/1.JPG"]


def test_what_is_named_is_taken_whatever_its_name(folder: Path) -> None:
    named = ["missing", "a/notes.txt", ".hidden.png", "a/notes.txt"]
    assert names(image_files(folder / name for name in named), folder) == named


def test_links_are_followed_but_not_in_circles(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "linked.png").touch()
    (folder / "c" / "there").symlink_to(elsewhere)
    (folder / "c" / "up").symlink_to(folder)
    (folder / "c" / "itself").symlink_to(folder / "c" / "itself")
    (folder / "c" / "itself.png").symlink_to(folder / "c" / "itself.png")
    assert names(image_files([folder]), folder) == [*IMAGES, "c/itself.png", "c/there/linked.png"]


def test_a_folder_that_cannot_be_listed_is_yielded_for_its_reader_to_complain(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir

    def scandir(path: Path) -> Iterator[os.DirEntry[str]]:
        if path == folder / "a":  # as the system does for all but root
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert names(image_files([folder]), folder) == ["a", "a.png", "b/1.tiff"]


def test_every_format_that_pillow_reads_has_its_suffixes() -> None:
    Image.init()
    assert {
        ".jpg",
        ".jpeg",
        ".png",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".jp2",
    } < image_suffixes()
    assert not {".pdf", ".h5", ".txt", ".mpg"} & image_suffixes()
