"""Duplicates: the same bytes in two parts or two classes, counted, with an example."""

from pathlib import Path

from compress.data.class_folders import ClassFolders
from compress.data.duplicates import Duplicates


def test_the_same_bytes_in_two_parts_or_classes_are_counted_and_one_pair_is_named() -> None:
    files = {
        "train": {"a": ["train/a/1", "train/a/2", "train/a/3"], "b": ["train/b/1"]},
        "test": {"a": ["test/a/1", "test/a/2"], "b": ["test/b/1"]},
    }
    held = {"train/a/1": "x", "train/a/2": "x", "train/a/3": "y", "train/b/1": "z"}
    held |= {"test/a/1": "x", "test/a/2": "y", "test/b/1": "y"}
    folders = ClassFolders(root=Path("data"), files=files, places={"train": "train", "test": "test"})
    found = Duplicates.of(folders, held)
    assert found.copies == 4
    assert found.parts == [("train/a/1", "test/a/1"), ("train/a/3", "test/a/2")]
    assert found.classes == [("train/a/3", "test/b/1")]
    assert found.warnings(folders.root) == [
        "data: 2 images are in more than one part, such as train/a/1 and test/a/1: what the network has trained on is "
        "no test of it",
        "data: 1 image is in more than one class, such as train/a/3 and test/b/1: no network can be right about both",
    ]
