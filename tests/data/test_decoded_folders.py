"""Class folders of CIFAR-10: decoded once, by several processes if there are many, and again where anything changed."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compress.data import Dataset, decoded_folders, open_dataset
from compress.data.own_folders import open_folder
from compress.data.sets import CIFAR10_CLASSES
from compress.errors import UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two photos a class and part, as JPEG."""
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in CIFAR10_CLASSES:
            folder = tmp_path / "cifar10" / part / label
            folder.mkdir(parents=True)
            for number in range(2):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return tmp_path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "multiway-compress" / "decoded"


def opened(root: Path) -> Dataset:
    return open_dataset("cifar10", data_dir=root, download=False)


@pytest.mark.parametrize("few", [1000, 15])
def test_images_are_those_of_the_files_however_many_processes_decode(
    few: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_folders, "FEW", few)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    found, plain = opened(root), open_folder(root / "cifar10", stream=False)
    assert found.digest == plain.digest
    assert torch.equal(found.test.images, plain.test.images)
    assert (found.copy, found.preprocessing, found.options) == (plain.copy, plain.preprocessing, ())


def test_what_was_decoded_is_read_again_until_a_file_changes(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(root)
    with monkeypatch.context() as patched:
        patched.setattr(decoded_folders, "_decoded", lambda *_: pytest.fail("must not decode"))
        assert opened(root).digest == first.digest
    assert len(list(cache.iterdir())) == 1
    Image.new("RGB", (32, 32)).save(root / "cifar10" / "train" / "cat" / "0.jpg")
    assert opened(root).digest != first.digest


@pytest.mark.parametrize("how", ["cut short", "a pixel", "empty"])
def test_a_damaged_cache_is_decoded_again(how: str, root: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = opened(root)
    [kept] = cache.iterdir()
    content = bytearray(kept.read_bytes())
    content[-5] ^= 1
    kept.write_bytes(bytes({"cut short": content[:-100], "a pixel": content, "empty": b""}[how]))
    with caplog.at_level(logging.WARNING, logger="compress"):
        assert opened(root).digest == first.digest
    assert "is damaged" in caplog.text
    caplog.clear()
    assert opened(root).digest == first.digest
    assert "is damaged" not in caplog.text


@pytest.mark.parametrize("few", [1000, 15])
def test_a_file_that_is_no_image_of_that_size_is_named(
    few: int, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_folders, "FEW", few)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    Image.new("RGB", (16, 16)).save(root / "cifar10" / "train" / "dog" / "1.jpg")
    with pytest.raises(UsageError, match=r"dog/1\.jpg has 16x16 pixels, not 32x32"):
        opened(root)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_left_out(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    assert opened(root).digest == opened(root).digest
