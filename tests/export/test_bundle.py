"""A bundle is read back as it was written, says what it is in all its papers, and is refused where it was changed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from scipy import stats

from compress import Bundle, export_bundle, read_bundle
from compress.errors import UsageError
from compress.export.form import Form
from compress.export.model_card import model_card
from compress.export.subject import subject_of
from compress.networks import digest_of_weights
from compress.runs import Run, load, write_json
from tests.export.conftest import Export


@pytest.fixture(scope="module")
def bundle(exported: Export) -> Bundle:
    """Exit 1, as an ONNX graph."""
    return exported(1)


def test_the_manifest_says_what_the_files_are_and_where_they_come_from(bundle: Bundle, trained: Run) -> None:
    manifest, record = bundle.manifest, trained.record
    assert {"bundle.json", *manifest["files"]} == {file.name for file in bundle.path.iterdir()}
    scripts = {"predict.py", "image_reader.py", "model_runner.py", "manifest.py"}
    assert set(manifest["files"]) == {"README.md", "labels.json", "model.onnx", "preprocess.json"} | scripts
    assert (manifest["bundle_version"], manifest["kind"]) == (1, "model")
    source = manifest["source"]
    assert (source["run"], source["exit"], source["exits"]) == (trained.id, 1, 2)
    assert (source["weights"], source["data"]) == (digest_of_weights(load(trained)), record.data["digest"])
    assert bundle.labels == tuple(record.data["classes"])
    assert bundle.preprocess == record.data["preprocessing"] | {"channels": 1, "height": 8, "width": 8}
    parity, accuracy = manifest["parity"], manifest["accuracy"]
    assert (parity["part"], parity["images"], parity["tolerance"], parity["same_class"]) == ("calibration", 40, 1e-3, 1)
    assert parity["deviation"] < 1e-5
    share = trained.exits[0]["test_accuracy"]
    low, high = stats.binomtest(round(100 * share), 100).proportion_ci(0.95, method="wilson")
    assert (accuracy["test"], accuracy["images"], accuracy["interval"]) == (share, 100, [low, high])
    assert manifest["cost"]["bytes"] == (bundle.path / "model.onnx").stat().st_size


def test_the_models_own_file_says_labels_and_preprocessing_and_nothing_of_this_machine(
    bundle: Bundle, exported: Export
) -> None:
    model = onnx.load(bundle.path / "model.onnx")
    described = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert (described["labels"], described["preprocess"]) == (list(bundle.labels), bundle.preprocess)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert str(Path(__file__).parents[2]).encode() not in (bundle.path / "model.onnx").read_bytes()

    written = exported(format="openvino").path / "model.xml"
    import openvino  # first by the export

    intermediate = openvino.Core().read_model(written)
    assert json.loads(intermediate.get_rt_info(["model_info", "labels"]).value) == list(bundle.labels)
    assert sys.modules.get("openvino_telemetry") is None  # it would report to its makers
    told = {"labels": "", "preprocess": ""}
    pt2 = exported(format="pt2", input="float", output="logits").path / "model.pt2"
    torch.export.load(pt2, extra_files=told)
    assert json.loads(told["labels"]) == list(bundle.labels)


def test_the_card_says_how_good_how_large_how_fast_and_how_it_was_made(trained: Run, bundle: Bundle) -> None:
    row = {"exit": 1, "macs": 1, "params": 1, "batch_size": 1, "seconds": [1e-3, 2e-3, 3e-3], "ratio": [1, 1, 1]}
    untimed = {name: value for name, value in row.items() if name not in ("seconds", "ratio")}
    measured = {
        **{"session": "s", "engine": "onnxruntime", "precision": "fp32", "device": "cpu", "threads": 1, "rounds": 9},
        **{"reference": {"run": "r", "exit": 1}, "environment": {"cpu": "a CPU", "gpu": None}, "rows": [untimed, row]},
    }
    write_json(trained.path / "bench.json", {"schema": 2, "measurements": [measured]})
    try:
        card = model_card(subject_of(trained, 1, Form(), None), bundle.manifest)
    finally:
        (trained.path / "bench.json").unlink()
    assert (bundle.path / "README.md").read_text() == "".join(
        line for line in card.splitlines(keepends=True) if "Latency" not in line
    )
    record, exit = trained.record, trained.exits[0]
    data = record.data["name"]
    for said in (
        f"{exit['test_accuracy']:.2%} (Wilson's 95% interval",
        f"{exit['macs']:,} MACs an image, {exit['params']:,} parameters",
        "Latency at batch 1: 2.00 ms (median of 9 rounds, onnxruntime fp32, 1 thread(s), a CPU)",
        *(record.command.replace(data, f"folder:{Path(data).name}"), record.data["digest"]),
        *("seed 0", "recipe quick", "softmax of the logits, not calibrated"),
    ):
        assert said in card
    assert str(Path(data.removeprefix("folder:")).parent) not in card  # where photos lie is nobody else's business


def spoil(name: str, content: str | None) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content) if content is not None else (folder / name).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil("labels.json", '["a", "b"]'), r"labels\.json is not the file that was exported"),
        (spoil("model.onnx", ""), r"model\.onnx is not the file that was exported"),
        (spoil("predict.py", None), r"predict\.py is missing there"),
        (spoil("bundle.json", None), r"bundle\.json is missing there"),
        (spoil("bundle.json", "{}"), "missing required field"),
        (spoil("bundle.json", "{"), "not JSON"),
    ],
)
def test_a_bundle_that_was_changed_is_refused(
    change: Callable[[Path], object], message: str, bundle: Bundle, tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    copied.mkdir()
    for file in bundle.path.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    assert read_bundle(copied).labels == bundle.labels
    change(copied)
    with pytest.raises(UsageError, match=message):
        read_bundle(copied)


def test_a_manifest_of_another_version_or_with_files_elsewhere_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    manifest = bundle.manifest
    for changed, message in (
        (manifest | {"bundle_version": 2}, "bundle_version: 2, this version reads 1"),
        (manifest | {"files": {"../x": "0"}}, r"\.\./x is not the file"),
    ):
        write_json(tmp_path / "bundle.json", changed)
        with pytest.raises(UsageError, match=message):
            read_bundle(tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": "onx"}, "format 'onx': did you mean 'onnx'"),
        ({"precision": "int4"}, "precision 'int4': bundles in onnx have fp32, int8"),
        ({"format": "pt2", "precision": "int8"}, "bundles in pt2 have fp32"),
        ({"input": "uint"}, "input 'uint': did you mean 'uint8'"),
        ({"calibration": "folder:photos"}, "calibration folder:photos: it is for precision int8"),
        ({"precision": "int8", "calibration": "folder:nowhere"}, "folder:nowhere is not a folder"),
        ({"output": "logit"}, "did you mean 'logits'"),
        ({"exit": 3}, "exit 3: run .* has exits 1 to 2"),
        ({"data_dir": Path("nowhere")}, "nowhere"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    given: dict[str, object], message: str, trained: Run, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        export_bundle(trained, out=tmp_path / "bundle", **given)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_not_empty_is_refused(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(UsageError, match="name a directory that is new or empty"):
            export_bundle(trained, out=place)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_int8_is_calibrated_on_ones_own_images_where_a_folder_is_named(trained: Run, tmp_path: Path) -> None:
    for number in range(3):
        Image.effect_noise((20, 30), 60).save(tmp_path / f"{number}.png")
    subject = subject_of(trained, 1, Form(precision="int8", calibration=f"folder:{tmp_path}"), None)
    assert (subject.part, subject.images.shape) == ("own", (3, 1, 8, 8))
    assert subject.held_out is not None
    assert len(subject.held_out.test) == 100


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openvino" else name)
    Form().check_installed()
    with pytest.raises(UsageError, match=r"needs openvino, which is not installed: pip install .*\[deploy\]"):
        Form(format="openvino").check_installed()


def test_inference_takes_the_batch_as_it_comes(bundle: Bundle) -> None:
    infer = bundle.infer(threads=2)
    images = np.zeros((3, 1, 8, 8), dtype=np.uint8)
    assert infer(images).shape == (3, 10)
    assert infer(images[:1]).sum() == pytest.approx(1, abs=1e-5)
