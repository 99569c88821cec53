"""One preprocessing: every file gives the same pixels in memory and on disk, those that a viewer shows."""

import io
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps
from torchvision.transforms import v2

from compress.data import open_dataset
from compress.data.image_decoding import centre, decode, is_grey, opened, upright_size
from compress.errors import UsageError
from compress.export.image_reader import read_image

RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (30, 44, 4), dtype=np.uint8), "RGBA")
COLOUR = NOISE.convert("RGB")
PALETTE = COLOUR.quantize(16)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def sixteen_bits() -> Image.Image:
    return Image.fromarray(RNG.integers(0, 2**16, (30, 44), dtype=np.uint16))


# Every mode that Pillow reads out of a file, by the name of the file that holds it and how it is saved.
FILES: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "colour.jpg": (COLOUR, {}),
    "cmyk.jpg": (COLOUR.convert("CMYK"), {}),
    "grey.png": (COLOUR.convert("L"), {}),
    "grey-with-one-transparent.png": (COLOUR.convert("L"), {"transparency": COLOUR.convert("L").getpixel((0, 0))}),
    "grey-and-alpha.png": (NOISE.convert("LA"), {}),
    "black-or-white.png": (COLOUR.convert("1"), {}),
    "palette.png": (PALETTE, {}),
    "palette-with-one-transparent.png": (PALETTE, {"transparency": 3}),
    "palette-with-alphas.png": (PALETTE, {"transparency": bytes(range(0, 256, 16))}),
    "palette-with-one-transparent.gif": (PALETTE, {"transparency": 3}),
    "alpha.png": (NOISE, {}),
    "alpha.webp": (NOISE, {"lossless": True, "exact": True}),
    "alpha.tif": (NOISE, {}),
    "colour-with-one-transparent.png": (COLOUR, {"transparency": COLOUR.getpixel((0, 0))}),
    "ycbcr.tif": (COLOUR.convert("YCbCr"), {}),
    "sixteen.png": (sixteen_bits(), {}),
    "sixteen.tif": (sixteen_bits(), {}),
    "sixteen.pgm": (sixteen_bits(), {}),
}


def write_class(folder: Path, names: Iterable[str], orientation: int) -> None:
    """Write images as train and test images of one class; those that can carry EXIF data are seen upright."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for part, name in product(("train", "test"), names):
        picture, options = FILES[name]
        (folder / part / "a").mkdir(parents=True, exist_ok=True)
        if name.endswith((".gif", ".pgm")) and orientation == 6:
            picture = picture.transpose(Image.Transpose.ROTATE_270)
        picture.save(folder / part / "a" / name, exif=exif, **options)


@pytest.mark.parametrize("image_size", [None, 16, 32])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_file_gives_the_same_bits_in_memory_and_on_disk(
    channels: int, orientation: int, image_size: int | None, tmp_path: Path
) -> None:
    grey = [name for name, (picture, _) in FILES.items() if is_grey(picture.mode)]
    write_class(tmp_path, grey if channels == 1 else FILES, orientation)
    memory, disk = (
        open_dataset(f"folder:{tmp_path}", stream=stream, image_size=image_size, workers=0).train.images
        for stream in (False, True)
    )
    assert torch.equal(memory, disk)
    assert memory.shape[1] == channels
    upright = (30, 44) if orientation == 1 else (44, 30)
    assert memory.shape[2:] == (upright if image_size is None else (image_size, image_size))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_are_turned_as_their_exif_tag_says(orientation: int, format: str, tmp_path: Path) -> None:
    path, exif = tmp_path / "image", Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    COLOUR.save(path, format, exif=exif)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image)
    with opened(path) as image:
        assert upright_size(image) == expected.size
        assert np.array_equal(np.asarray(decode(image, grey=False)), np.asarray(expected))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says what is damaged
@settings(deadline=None, max_examples=100)
@given(st.data())
def test_damaged_exif_data_leave_an_image_as_it_is(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "a maker of cameras"
    content = bytearray(exif.tobytes())
    for place, value in data.draw(st.lists(st.tuples(st.integers(6, len(content) - 1), st.integers(0, 255)))):
        content[place] = value
    buffer = io.BytesIO()
    COLOUR.save(buffer, "PNG", exif=bytes(content[: data.draw(st.integers(7, len(content)))]))
    path = tmp_path_factory.getbasetemp() / "damaged-exif"
    path.write_bytes(buffer.getvalue())
    with opened(path) as image:
        size = upright_size(image)
        assert decode(image, grey=False).size == size


@pytest.mark.parametrize(
    "name", ["alpha.png", "alpha.webp", "palette-with-one-transparent.png", "grey-with-one-transparent.png"]
)
def test_what_alpha_hides_is_never_seen(name: str, tmp_path: Path) -> None:
    picture, options = FILES[name]
    if picture.mode == "RGBA":
        picture = picture.copy()
        picture.putalpha(0)
    path = tmp_path / name
    picture.save(path, **options)
    with opened(path) as image:
        alpha = np.asarray(image.copy().convert("RGBA"))[..., 3]
        seen = np.asarray(decode(image, grey=is_grey(image.mode)))
    assert (alpha == 0).any()
    assert (seen[alpha == 0] == 255).all()


def test_sixteen_bits_keep_their_upper_eight(tmp_path: Path) -> None:
    for name in ("sixteen.png", "sixteen.tif", "sixteen.pgm"):
        picture, _ = FILES[name]
        picture.save(tmp_path / name)
        with opened(tmp_path / name) as image:
            assert is_grey(image.mode)
            assert np.array_equal(np.asarray(decode(image, grey=True)), np.asarray(picture) >> 8)


@settings(deadline=None, max_examples=60)
@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 40), grey=st.booleans())
def test_other_sizes_are_seen_as_imagenets_evaluation_sees_them(width: int, height: int, size: int, grey: bool) -> None:
    image = Image.effect_noise((width, height), 80)
    image = image if grey else Image.merge("RGB", [image, image.rotate(180), image])
    usual = v2.Compose([v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)])
    expected = image if image.size == (size, size) else usual(image)
    assert np.array_equal(np.asarray(centre(image, (size, size))), np.asarray(expected))


def test_the_data_set_says_how_files_became_images(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        COLOUR.save(tmp_path / part / "a" / "1.png")
    how = [
        open_dataset(f"folder:{tmp_path}", stream=stream, image_size=size, workers=0).preprocessing
        for stream, size in product((False, True), (None, 28))
    ]
    assert how[:2] == how[2:]
    whole, fitted = how[:2]
    assert whole is not None
    assert fitted is not None
    assert (whole["mode"], whole["orientation"], whole["background"]) == ("RGB", "EXIF", "white")
    assert (whole["resize"], whole["crop"]) == (None, None)
    assert fitted["resize"] == "shorter side to 256/224 of the size, bilinear, antialiased"
    assert (fitted["shorter_side"], fitted["size"], fitted["crop"]) == (32, [28, 28], "centre")
    assert open_dataset("fashion-mini").preprocessing is None


def test_a_file_that_is_no_image_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_text("no picture")
    whole = r"/x\.png cannot be read as an image \(of no format that Pillow reads\)$"  # without a memory address
    with pytest.raises(UsageError, match=whole), opened(tmp_path / "x.png"):
        pass
    with pytest.raises(UsageError, match=r"none\.png .* \(No such file or directory\)$"), opened(tmp_path / "none.png"):
        pass
    monkeypatch.setattr(Image, "open", Mock(side_effect=RuntimeError("no such decoder")))  # as of a damaged AVIF
    with pytest.raises(UsageError, match=r"x\.png cannot be read as an image"), opened(tmp_path / "x.png"):
        pass
    with pytest.raises(ValueError, match="no such decoder"):
        read_image(tmp_path / "x.png", {})
