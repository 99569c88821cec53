"""The script in a bundle reads files as training did, and needs the runtime, numpy and Pillow alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from compress import Bundle, prediction
from compress.data.image_decoding import centre, decode, opened, pixels, preprocessing
from compress.export import image_reader
from compress.export.image_reader import image_files, read_image
from tests.data.test_image_decoding import FILES
from tests.export.conftest import Export

NO_TORCH = 'import os, runpy, sys; sys.modules["torch"] = sys.modules["compress"] = None; sys.argv = sys.argv[1:]; '
NO_TORCH += 'sys.path[0] = os.path.dirname(sys.argv[0]); runpy.run_path(sys.argv[0], run_name="__main__")'

SCRIPT = Path(image_reader.__file__).with_name("predict.py")


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def bundle(request: pytest.FixtureRequest, exported: Export) -> Bundle:
    return exported(1) if request.param == "onnx" else exported(format=request.param)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_awkward_files_give_the_pixels_of_training(channels: int, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for side in (16, 32):
        shape = (channels, side, side)
        rules = preprocessing(shape, resized=True) | {"channels": channels, "height": side, "width": side}
        for name, (picture, options) in FILES.items():
            picture.save(tmp_path / name, exif=exif, **options)
            with opened(tmp_path / name) as image:
                expected = pixels(centre(decode(image, grey=channels == 1), (side, side)))
            assert np.array_equal(read_image(tmp_path / name, rules), expected), name


def test_images_of_another_size_are_refused_where_training_resized_none(tmp_path: Path) -> None:
    rules = preprocessing((1, 8, 8), resized=False) | {"channels": 1, "height": 8, "width": 8}
    for given in (rules, {"channels": 1, "height": 8, "width": 8}):  # the latter: data that were no files
        Image.new("L", (8, 8), 7).save(tmp_path / "right.png")
        assert (read_image(tmp_path / "right.png", given) == np.full((1, 8, 8), 7)).all()
        Image.new("L", (8, 9)).save(tmp_path / "wrong.png")
        with pytest.raises(ValueError, match="8x9 pixels, where the model takes 8x8 alone"):
            read_image(tmp_path / "wrong.png", given)


def test_the_script_is_read_at_a_glance() -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 40


def test_files_and_folders_are_labelled_without_torch(bundle: Bundle, tiny_folder: Path, tmp_path: Path) -> None:
    """What cannot be read is named, the rest is done, and the exit status is 1."""
    files = sorted((tiny_folder / "test").rglob("*.png"))[:30:5]
    folder = tmp_path / "new" / "deeper"
    folder.mkdir(parents=True)
    for file in files[1:]:
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "broken.png").write_bytes(b"no image")
    for name in ("notes.txt", "scan.pdf", "clip.mpg", "._photo.jpg"):  # Pillow reads none of them
        (folder / name).write_text("no image either")
    command: list[str | Path] = [sys.executable, "-c", NO_TORCH, bundle.path / "predict.py", files[0], tmp_path / "new"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr == f"{folder / 'broken.png'} cannot be read: no image that Pillow reads\n"
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [Path(path) for path, *_ in rows] == [files[0], *sorted(folder / file.name for file in files[1:])]
    images = np.stack([read_image(file, bundle.preprocess) for file in (Path(path) for path, *_ in rows)])
    expected = bundle.infer()(images)
    assert [label for _, label, *_ in rows] == [bundle.labels[best] for best in expected.argmax(axis=1)]
    assert {exit for *_, exit in rows} == {str(bundle.manifest["source"]["exit"])}
    assert [float(probability) for *_, probability, _ in rows] == pytest.approx(expected.max(axis=1), abs=1e-4)


def test_what_stops_it_is_said_in_one_line(exported: Export, tmp_path: Path) -> None:
    bundle = exported(1)
    (tmp_path / "empty").mkdir()
    without = {
        name: NO_TORCH.replace("sys.modules", f"sys.modules[{name!r}] = sys.modules", 1)
        for name in ("onnxruntime", "PIL", "numpy")
    }
    for start, status, said in (
        (NO_TORCH, 1, f"{tmp_path / 'empty'} cannot be read: a folder without images\n"),
        (without["onnxruntime"], 2, "onnxruntime is not installed: pip install onnxruntime\n"),
        (without["PIL"], 2, "PIL is not installed: pip install pillow\n"),
        (without["numpy"], 2, "numpy is not installed: pip install numpy\n"),
    ):
        command: list[str | Path] = [sys.executable, "-c", start, bundle.path / "predict.py", tmp_path / "empty"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", said)


def test_it_ends_quietly_where_nobody_reads_on(exported: Export, tiny_folder: Path) -> None:
    command: list[str | Path] = [sys.executable, "-u", exported(1).path / "predict.py", tiny_folder / "test"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == -signal.SIGPIPE


def test_a_model_that_the_runtime_does_not_read_is_said_in_one_line(exported: Export, tmp_path: Path) -> None:
    """As of an older runtime, whose errors derive from Exception alone."""
    bundle = exported(1)
    older = "import onnxruntime\ndef read(*_, **__): raise Exception('IR version 13\\nmore')\n"
    older += "onnxruntime.InferenceSession = read\n" + NO_TORCH
    command: list[str | Path] = [sys.executable, "-c", older, bundle.path / "predict.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    said = "the runtime does not read the model; a newer one may: IR version 13\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_a_changed_file_is_refused_in_one_line(exported: Export, tmp_path: Path) -> None:
    bundle = shutil.copytree(exported(1).path, tmp_path / "bundle")
    labels = json.loads((bundle / "labels.json").read_text())
    (bundle / "labels.json").write_text(json.dumps(labels[::-1]))
    done = subprocess.run([sys.executable, bundle / "predict.py", tmp_path], capture_output=True, text=True)
    said = f"bundle {bundle}: labels.json is not the file that was exported (its SHA-256 differs)\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_it_takes_the_files_that_the_command_takes(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for name in ("b/1.tiff", "a/2.JPG", "a.png", ".thumbs/b.png", "b/.c.png", "b/notes.txt", "x.png/deep/3.webp"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / os.fsdecode(b"\xff.png")).touch()
    elsewhere.mkdir()
    (elsewhere / "linked.png").touch()
    for name, target in (("b/up", root), ("c", elsewhere), ("d", elsewhere), ("dead.png", tmp_path / "gone")):
        (root / name).symlink_to(target)
    given = [root, root / "b" / "1.tiff", root / ".thumbs", root / "b" / "notes.txt", tmp_path / "missing"]
    found = list(image_files(given))
    assert found == list(prediction.image_files(given))
    assert len(found) == 8 + 4
    assert {root / "c" / "linked.png", root / "d" / "linked.png"} < {*found}


def test_names_of_files_keep_their_bytes(exported: Export, tmp_path: Path) -> None:
    image = tmp_path / os.fsdecode(b"\xff.png")
    Image.new("L", (8, 8)).save(image)
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    command: list[str | Path] = [sys.executable, exported(1).path / "predict.py", tmp_path]
    done = subprocess.run(command, capture_output=True, env=strict)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(b"\t")[0] == os.fsencode(image)


def test_pt2_needs_torch_alone_and_takes_floats_and_logits(exported: Export, tiny_folder: Path) -> None:
    bundle = exported(format="pt2", input="float", output="logits")
    file = next((tiny_folder / "test").rglob("*.png"))
    no_package = NO_TORCH.replace('sys.modules["torch"] = ', "")
    command: list[str | Path] = [sys.executable, "-c", no_package, bundle.path / "predict.py", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path, label, probability, _ = done.stdout.rstrip("\n").split("\t")
    logits = torch.from_numpy(bundle.infer()(read_image(file, bundle.preprocess)[None].astype(np.float32) / 255))
    assert (path, label) == (str(file), bundle.labels[int(logits.argmax())])
    assert float(probability) == pytest.approx(float(logits.softmax(dim=1).max()), abs=1e-4)
