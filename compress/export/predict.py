"""Label image files by the model beside this file; needs Pillow, numpy, and the runtime of the model's format."""

import argparse
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
EIGHT_BITS = ("1", "L", "LA", "RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr")
FILES = ("bundle.json", "labels.json", "preprocess.json")
TURNED = dict(zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2), strict=True))  # EXIF orientation to PIL.Image.Transpose
UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError)


def open_model(folder: Path, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Open the model in a bundle as a function from images (N, C, H, W) to its output (N, classes)."""
    if (folder / "early_exit.py").exists():
        from early_exit import Cascade  # type: ignore[import-not-found]

        cascade = Cascade(folder, threads=threads)
        return lambda images: np.asarray(cascade(images).probabilities)
    if (folder / "model.onnx").exists():
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        return lambda images: np.asarray(session.run(None, {"images": images})[0])
    if (folder / "model.xml").exists():
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it reports to its makers
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        compiled = openvino.compile_model(folder / "model.xml", "CPU", settings)
        return lambda images: np.array(compiled(images)[0])
    import torch

    program = torch.export.load(folder / "model.pt2").module()
    return lambda images: np.asarray(program(torch.tensor(images)).detach())


def read_image(path: Path, rules: dict[str, Any]) -> np.ndarray:
    """Read a file as the images that the model was trained on: upright, on white, 8 bits, uint8 (C, H, W)."""
    image: Image.Image = Image.open(io.BytesIO(path.read_bytes()))
    deep = image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format == "PPM")
    if not deep and image.mode not in EIGHT_BITS:
        raise ValueError(f"pixels of PIL mode {image.mode}, whose range is unknown")
    image.load()
    try:
        turn = TURNED.get(int(image.getexif().get(ExifTags.Base.Orientation, 1)))
    except Exception:  # damaged EXIF data
        turn = None
    image = image if turn is None else image.transpose(Image.Transpose(turn))
    if deep:
        values = np.asarray(image).astype(np.uint16)
        values[values == image.info.get("transparency", -1)] = 0xFFFF
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = fitted(image.convert("L" if rules["channels"] == 1 else "RGB"), rules)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def fitted(image: Image.Image, rules: dict[str, Any]) -> Image.Image:
    """Return an image of the model's size: as it is, or its shorter side resized and its centre cropped."""
    (width, height), size = image.size, (rules["width"], rules["height"])
    if image.size == size:
        return image
    if not rules.get("resize"):
        raise ValueError(f"{width}x{height} pixels, where the model takes {size[0]}x{size[1]} alone")
    short = rules["shorter_side"]
    width, height = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    left, top = round((width - size[0]) / 2), round((height - size[1]) / 2)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + size[0], top + size[1]))


def main() -> int:
    """Print path, label and probability of every file; return 1 where a file was unreadable, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="image files, and folders of them")
    paths, here, failed = parser.parse_args().paths, Path(__file__).resolve().parent, 0
    images = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    about, labels, rules = (json.loads((here / file).read_text("utf-8")) for file in FILES)
    model = open_model(here)
    for given in paths:
        inside = sorted(path for path in given.rglob("*") if path.suffix.lower() in images and path.is_file())
        for path in inside if given.is_dir() else [given]:
            try:
                pixels = read_image(path, rules)[None]
            except UNREADABLE as error:
                failed += 1
                why = "no image that Pillow reads" if isinstance(error, UnidentifiedImageError) else error
                print(f"{path} cannot be read: {why}", file=sys.stderr)
                continue
            scores = model(pixels if about["input"] == "uint8" else pixels.astype(np.float32) / 255)[0]
            if about["output"] == "logits":
                scores = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            print(path, labels[scores.argmax()], f"{scores.max():.4f}", sep="\t")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
