"""Class folders of one's own: one data set under every spelling of its path, found where it lies now."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compress.data import open_dataset
from compress.data.catalogue import find_folder
from compress.data.division import Division
from compress.data.own_folders import folders_like
from compress.errors import UsageError


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("COMPRESS_DATA", raising=False)


def photos(root: Path, *, parts: tuple[str, ...] = ("",), count: int = 6, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for part in parts:
        for label in ("mug", "leaf"):
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / label / f"{number}.png")
    return root


def test_every_spelling_is_one_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = photos(tmp_path / "place" / "base")
    (tmp_path / "place" / "link").symlink_to(base)
    monkeypatch.chdir(tmp_path / "place")
    monkeypatch.setenv("HOME", str(tmp_path / "place"))
    spellings = ["base", "./base", "base/", "base/../base", str(base), f"{base}/", "link", "~/base"]
    opened = [open_dataset(f"folder:{spelling}") for spelling in spellings]
    monkeypatch.chdir(base)
    opened.append(open_dataset("folder:."))
    assert {data.name for data in opened} == {f"folder:{base}"}
    assert len({data.digest for data in opened}) == 1


def test_a_folder_is_looked_for_in_the_data_directory_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here, given, environment = (photos(tmp_path / place / "base").parent for place in ("here", "given", "environment"))
    monkeypatch.chdir(here)
    monkeypatch.setenv("COMPRESS_DATA", str(environment))
    assert find_folder("folder:base") == here / "base"
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING, logger="compress"):
        assert find_folder("folder:base", given) == given / "base"
    assert f"folder:base: reading {given / 'base'}" in caplog.text
    assert find_folder("folder:base", given / "base") == given / "base"
    assert find_folder(f"folder:{here / 'base'}", given) == here / "base"
    os.rename(here / "base", here / "moved")
    assert find_folder("folder:base") == environment / "base"
    assert find_folder(f"folder:{here / 'base'}", given) == given / "base"
    with pytest.raises(UsageError, match=rf"^folder:nowhere is not a folder, nor in {given}; expected train/CLASS"):
        find_folder("folder:nowhere", given)


def test_a_home_that_nobody_has_is_named() -> None:
    with pytest.raises(UsageError, match=r"^folder:~nobody-here/base: there is no such home directory"):
        find_folder("folder:~nobody-here/base")


def test_folders_with_the_same_classes_are_found_below_a_directory(tmp_path: Path) -> None:
    here, there = photos(tmp_path / "here"), photos(tmp_path / "there")
    photos(tmp_path / "no" / "classes")
    (tmp_path / "third" / "mug").mkdir(parents=True)
    assert list(folders_like("folder:/far/there", ["leaf", "mug"], tmp_path)) == [there, here]
    assert list(folders_like("folder:/far/away", ["leaf", "mug"], here)) == [here]
    assert list(folders_like("folder:/far/away", ["leaf", "cup"], tmp_path)) == []


def test_flat_folders_are_split_and_the_record_says_how(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = photos(tmp_path / "base", count=20)
    (base / "mug" / "notes.txt").touch()

    with caplog.at_level(logging.WARNING, logger="compress"):
        data = open_dataset(f"folder:{base}")
    assert (
        f"{base}: 2 classes in every part; 28 train, 6 test, 6 val images; split by what each file holds, 70% train, "
        "15% val, 15% test, seed 0; not used: 1 with suffix .txt (mug/notes.txt)" in caplog.text
    )
    assert data.validation is not None
    assert [len(part) for part in data.parts.values()] == [28, 6, 6]
    assert data.test.labels.bincount().tolist() == [3, 3]
    assert data.division == {
        "seed": 0,
        "shares": {"train": 0.7, "test": 0.15, "val": 0.15},
        "by": "SHA-256 of each file's content",
    }
    assert open_dataset(f"folder:{base}").digest == data.digest
    streamed = open_dataset(f"folder:{base}", stream=True, workers=0)
    assert all(torch.equal(part.images, streamed.parts[name].images) for name, part in data.parts.items())


def test_one_file_in_train_and_test_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = photos(tmp_path / "base", parts=("train", "test"))
    (base / "test/mug/9.png").write_bytes((base / "train/mug/0.png").read_bytes())
    with caplog.at_level(logging.WARNING, logger="compress"):
        assert open_dataset(f"folder:{base}").division is None
    assert "1 image is in more than one part, such as train/mug/0.png and test/mug/9.png" in caplog.text


def test_a_split_as_asked_has_its_options_and_is_refused_where_there_are_parts(tmp_path: Path) -> None:
    base = photos(tmp_path / "base", count=20)
    data = open_dataset(f"folder:{base}", division=Division.asked("80/20", 5))
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 32, "test": 8}
    assert data.options == ("--split", "80/20", "--split-seed", "5")
    assert data.division == {"seed": 5, "shares": {"train": 0.8, "test": 0.2}, "by": "SHA-256 of each file's content"}
    assert open_dataset(f"folder:{base}").digest != data.digest
    parted = photos(tmp_path / "parted", parts=("Train", "TEST", "Validation"))
    assert open_dataset(f"folder:{parted}").options == ()
    with pytest.raises(UsageError, match=r"has train/ and test/ already: --split is for class folders without parts$"):
        open_dataset(f"folder:{parted}", division="80/20")
    with pytest.raises(UsageError, match="fashion-mini has its own"):
        open_dataset("fashion-mini", division="80/20")
    with pytest.raises(UsageError, match="there is no such file"):
        open_dataset(f"folder:{base}", division="nowhere")


def test_what_divided_folders_use_is_said_in_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = photos(tmp_path / "base", parts=("Train", "TEST", "Validation"))
    (base / "Train" / "mug" / "deeper").mkdir()
    (base / "Train" / "mug" / "0.png").rename(base / "Train" / "mug" / "deeper" / "0.png")
    (base / "TEST" / "leaf" / "0.png").write_text("no picture")
    with caplog.at_level(logging.WARNING, logger="compress"):
        open_dataset(f"folder:{base}", skip_unreadable=True)
    assert (
        f"{base}: 2 classes in every part; 12 train, 11 test, 12 val images; not used: 1 unreadable "
        "(TEST/leaf/0.png)" in caplog.text
    )


def test_what_may_pass_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the system would not give is no unreadable image; one that holds none is, and stays one."""
    base, read, refused = photos(tmp_path / "base"), Path.read_bytes, {"3.png"}
    (base / "mug" / "5.png").write_bytes(b"no image")

    def read_bytes(path: Path) -> bytes:
        if path.name in refused:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    data = [open_dataset(f"folder:{base}", skip_unreadable=True)]
    refused.clear()
    data += [open_dataset(f"folder:{base}", skip_unreadable=True) for _ in range(2)]
    assert [each.skipped for each in data] == [3, 1, 1]


def test_a_class_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    base = photos(tmp_path / "base")
    (base / "mug").rename(base / os.fsdecode(b"caf\xe9"))
    with pytest.raises(UsageError, match=r"the name of class 'caf\\udce9' is no UTF-8"):
        open_dataset(f"folder:{base}")


def test_the_division_of_nobodys_home_is_not_there() -> None:
    with pytest.raises(UsageError, match="~nobody-here/run"):
        Division.asked("~nobody-here/run", None)
