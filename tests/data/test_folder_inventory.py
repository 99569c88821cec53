"""The inventory of class folders: what `compress data folder:PATH` shows."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root, value = tmp_path / "photos", 0
    for part, label, count in (("train", "a", 6), ("train", "b", 2), ("Test", "a", 2), ("Test", "b", 1)):
        (root / part / label).mkdir(parents=True)
        for number in range(count):
            value += 1
            Image.new("RGB", (4 + value % 2, 4), (value, 0, 0)).save(root / part / label / f"{number}.png")
    (root / "Test" / "b" / "1.png").write_bytes((root / "train" / "b" / "0.png").read_bytes())
    (root / "train" / "a" / "broken.jpg").write_text("no picture")
    (root / "train" / "a" / "notes.txt").touch()
    return root


def test_a_table_and_lines_on_everything_else(photos: Path, compress: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = compress("data", f"folder:{photos}")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{photos}: 2 classes"
    assert [line.split() for line in lines[1:5]] == [
        ["class", "train", "test"],
        ["a", "6", "2"],
        ["b", "2", "2"],
        ["(all)", "8", "4"],
    ]
    assert lines[5] == "sizes: 2, 7 of 5x4, 5 of 4x4; modes: 12 of RGB"
    assert lines[6] == "imbalance: the largest class has 3 times the training images of the smallest"
    assert lines[7] == "duplicates: 1 files hold what another one does"
    assert "1 image is in more than one part, such as train/b/0.png and Test/b/1.png" in lines[8]
    assert lines[9] == "unused: 1 with suffix .txt, such as train/a/notes.txt"
    what = f"{photos}/train/a/broken.jpg cannot be read as an image (of no format that Pillow reads)"
    assert lines[10] == f"unreadable: {what}; --skip-unreadable leaves such files out"

    status, out, _ = compress("data", f"folder:{photos}", "--json")
    document = json.loads(out)
    assert document["images"] == {"train": {"a": 6, "b": 2}, "test": {"a": 2, "b": 2}}
    assert document["imbalance"] == 3
    assert document["duplicates"]["copies"] == 1
    assert document["unused"] == {"with suffix .txt": ["train/a/notes.txt"]}


def test_a_flat_folder_is_shown_as_it_is_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: Callable[..., tuple[int, str, str]]
) -> None:
    for label in ("mug", "leaf"):
        (tmp_path / "flat" / label).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (3, 3), number + 10 * (label == "mug")).save(tmp_path / "flat" / label / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    _, out, _ = compress("data", "folder:flat")
    assert [line.split() for line in out.splitlines()[1:3]] == [
        ["class", "train", "test", "val"],
        ["leaf", "6", "2", "2"],
    ]
    assert "no train/ and test/: split by what each file holds" in out
