"""Preparation: what is wrong with a file is said in its own words, and nothing is prepared by other rules."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.data.image_decoding import preprocessing
from compress.data.preparation import Preparation
from compress.data.streaming import read_image
from compress.errors import UsageError

SHAPE = (3, 16, 12)


@pytest.mark.parametrize("shape", [SHAPE, (1, 16, 16)])
def test_pixels_are_those_that_training_reads(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    Image.fromarray(values, "RGBA").save(tmp_path / "photo.png")
    prepared = Preparation.of(preprocessing(shape, resized=True), shape).read(tmp_path / "photo.png")
    assert prepared.dtype == np.uint8
    assert np.array_equal(prepared, read_image(tmp_path / "photo.png", shape).numpy())


def test_every_reason_is_one_line_without_advice_for_trainings(tmp_path: Path) -> None:
    Image.new("F", (12, 16)).save(tmp_path / "float.tif")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    Image.effect_noise((12, 16), 50).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:100])
    said = {}
    for name in ("float.tif", "text.png", "empty.png", "folder.png", "cut.png", "missing.png"):
        with pytest.raises(UsageError) as error:
            Preparation.of(None, SHAPE).read(tmp_path / name)
        said[name] = str(error.value).removeprefix(f"{tmp_path}/")
    unknown, rest = "cannot be read as an image (of no format that Pillow reads)", "cannot be read as an image ("
    assert said["float.tif"].startswith("float.tif has pixels of PIL mode F")
    assert said["text.png"] == f"text.png {unknown}"
    assert said["empty.png"] == f"empty.png {unknown}"
    assert said["folder.png"] == f"folder.png {rest}Is a directory)"
    assert said["missing.png"] == f"missing.png {rest}No such file or directory)"
    assert said["cut.png"].startswith(f"cut.png {rest}")
    assert not any("\n" in text or "--skip" in text or "0x" in text for text in said.values())


def test_what_a_decoder_raises_is_a_reason_whatever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (12, 16)).save(tmp_path / "fine.png")

    def fail(*_: object) -> None:
        raise struct.error("unpack requires 4 bytes")

    monkeypatch.setattr(Image.Image, "load", fail)
    with pytest.raises(UsageError, match=r"fine\.png cannot be read as an image \(unpack requires 4 bytes\)"):
        Preparation.of(None, SHAPE).read(tmp_path / "fine.png")


def test_sizes_are_refused_unless_training_resized(tmp_path: Path) -> None:
    Image.new("RGB", (16, 12)).save(tmp_path / "turned.png")
    for rules in (None, preprocessing(SHAPE, resized=False)):
        with pytest.raises(UsageError, match=r"turned\.png has 16x12 pixels .* takes images of 12x16 alone"):
            Preparation.of(rules, SHAPE).read(tmp_path / "turned.png")
    assert Preparation.of(preprocessing(SHAPE, resized=True), SHAPE).read(tmp_path / "turned.png").shape == SHAPE


def test_other_rules_are_refused() -> None:
    for name in ("background", "resize", "crop", "orientation"):
        with pytest.raises(UsageError, match=f"preprocessing: its {name} is 'other'; this version of compress has"):
            Preparation.of(preprocessing(SHAPE, resized=True) | {name: "other"}, SHAPE)
