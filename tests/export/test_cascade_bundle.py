"""The bundle of a cascade: what is in it, what it says of its certificate, and what is not made."""

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from compress import Place
from compress.data import Normalisation, normalise, open_dataset
from compress.errors import UsageError
from compress.export import cascade_bundle, export_bundle, read_bundle
from compress.export.cascade import write_stages
from compress.export.image_reader import read_image
from compress.inference import Certificate, Policy, policy_of_shares, simulate
from compress.network_cost import cost
from compress.networks import Network, digest_of_weights
from compress.recipes import Recipe
from compress.runs import Run, load
from compress.training import train

EXITS = 3


@pytest.fixture(scope="module")
def run(tiny_folder: Path, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """MW-BP with three exits on 8x8 grey images in class folders, some held out."""
    small = open_dataset(f"folder:{tiny_folder}", image_size=8)
    recipe, place = replace(brief, validation=0.2, calibration=0.2), Place(runs=tmp_path_factory.mktemp("runs"))
    return train("resnet8", small, method="mwbp", exits=EXITS, recipe=recipe, place=place)


@pytest.fixture(scope="module")
def chosen(run: Run) -> Policy:
    """A policy by which as many validation images leave at every exit."""
    with np.load(run.path / "predictions.npz") as kept:
        logits = kept["validation_logits"].astype(np.float32)
    weights = digest_of_weights(load(run))
    never = Policy(temperatures=(0.8, 1.0, 1.25), thresholds=(1.0,) * (EXITS - 1), weights=weights)
    return policy_of_shares(never, np.full(EXITS, 1 / EXITS), logits)


@pytest.fixture(scope="module", autouse=True)
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The stages of the run are written once for each input, and copied after that: the exporter takes seconds."""

    @functools.cache
    def written(bytes: bool, weights: str) -> Path:
        return tmp_path_factory.mktemp("stages")

    def write(network: Network, normalisation: Normalisation, folder: Path, *, bytes: bool = True) -> list[Path]:
        kept = written(bytes, digest_of_weights(network))
        paths = sorted(kept.iterdir()) or write_stages(network, normalisation, kept, bytes=bytes)
        return [Path(shutil.copy(path, folder)) for path in paths]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cascade_bundle, "write_stages", write)
        yield


def certified(policy: Policy, engine: str) -> Certificate:
    form = {"engine": engine, "precision": "fp32", "policy": policy.digest, "weights": policy.weights, "data": "d"}
    found = {"epsilon": 0.01, "delta": 0.05, "n": 40, "observed": 0.0, "bound": 0.009, "margin": 1e-6}
    return Certificate.from_json({"risk": "drop", "step": 1, "steps": 9, "seed": 0} | form | found)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_bundle_of_a_run(format: str, run: Run, chosen: Policy, tiny_folder: Path, tmp_path: Path) -> None:
    engine = {"onnx": "onnxruntime"}.get(format, format)
    out = tmp_path / "bundle"
    bundle = export_bundle(
        run, out=out, policy=chosen, certificate=certified(chosen, "onnxruntime"), format=format, cascade=True
    )
    cascade = bundle.cascade()
    assert (bundle.manifest["kind"], cascade.engine) == ("cascade", engine)
    files = sorted(tiny_folder.glob("test/*/*"))[::9]
    pixels = np.random.default_rng(0).integers(0, 256, (128, 1, 8, 8), dtype=np.uint8)
    with torch.inference_mode():
        eager = torch.stack(load(run)(normalise(torch.from_numpy(pixels), run.normalisation))).numpy()
    np.testing.assert_array_equal(cascade(pixels).exits, simulate(eager, chosen).exits)
    np.testing.assert_array_equal(bundle.infer()(pixels), cascade(pixels).probabilities)
    notice = None if format == "onnx" else "not certified for this engine: run compress exits --engine openvino"
    policy, card = json.loads((out / "policy.json").read_text()), (out / "README.md").read_text()
    for said in (cascade.notice, policy["notice"], bundle.manifest["early_exit"]["notice"]):
        assert said is None if notice is None else notice in str(said)
    assert (notice is None) or notice in card
    assert "certified on 40 images for onnxruntime in fp32" in card
    assert sum(bundle.manifest["early_exit"]["shares"]) == pytest.approx(1)
    whole, suffixes = load(run), (".onnx", ".xml", ".bin")
    macs, params = cost(whole).macs, sum(map(torch.numel, whole.parameters()))
    graphs = sum(file.stat().st_size for file in out.iterdir() if file.suffix in suffixes)
    assert bundle.manifest["cost"] == {"macs": macs, "params": params, "bytes": graphs}
    assert bundle.manifest["early_exit"]["macs"][-1] == macs > run.exits[-1]["macs"]
    assert f"{macs:,} MACs an image that leaves at the last exit, {params:,} parameters, {graphs:,} bytes" in card
    assert ("its temperature in `policy.json` (0.8, 1, 1.25)" in card, "not calibrated" in card) == (True, False)
    assert card.startswith(f"# {run.id}, all {EXITS} exits\n")
    predicted = subprocess.run([sys.executable, out / "predict.py", *files], capture_output=True, text=True, check=True)
    assert (predicted.stderr == "") if notice is None else (notice in predicted.stderr)
    rows = [line.split("\t") for line in predicted.stdout.splitlines()]
    answers = cascade(np.stack([read_image(file, bundle.preprocess) for file in files]))
    assert [Path(path) for path, *_ in rows] == files
    assert [(label, int(exit)) for _, label, _, exit in rows] == [
        (bundle.labels[label], exit) for label, exit in zip(answers.labels, answers.exits, strict=True)
    ]
    assert len(set(answers.exits)) > 1
    assert [float(row[2]) for row in rows] == pytest.approx(answers.probabilities.max(axis=1), abs=1e-4)
    weights = out / ("stage1.onnx" if format == "onnx" else "stage1.bin")
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    refused = subprocess.run([sys.executable, out / "predict.py", *files], capture_output=True, text=True)
    said = f"bundle {out}: {weights.name} is not the file that was exported (its SHA-256 differs)\n"
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", said)


def test_what_does_not_fit_a_cascade_is_refused(run: Run, chosen: Policy, tmp_path: Path) -> None:
    other = replace(chosen, weights="0" * 64)
    fewer = replace(chosen, temperatures=chosen.temperatures[1:], thresholds=chosen.thresholds[1:])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"policy": other}, "other weights"),
        ({"policy": fewer}, "it is for 2 exits"),
        ({}, "needs a policy: run compress exits"),
        ({"policy": chosen, "exit": 1}, "a cascade has all exits"),
        ({"policy": chosen, "format": "pt2"}, "a cascade is in onnx or openvino"),
        ({"policy": chosen, "precision": "int8"}, "a cascade is in onnx or openvino"),
        ({"policy": chosen, "cascade": False}, "ask for one with cascade=True"),
        (
            {"policy": chosen, "certificate": certified(replace(chosen, thresholds=(1.0, 1.0)), "openvino")},
            "of another policy",
        ),
    ]
    for arguments, message in wrong:
        with pytest.raises(UsageError, match=message):
            export_bundle(run, out=tmp_path / "bundle", **({"cascade": True} | arguments))
    assert not list(tmp_path.iterdir())


def test_a_wrong_stage_is_not_written(
    run: Run, chosen: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*arguments: Any, **options: Any) -> list[Path]:
        paths: list[Path] = right(*arguments, **options)
        model = onnx.load(paths[0])
        kernel = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * 1.1, kernel.name))
        onnx.save(model, paths[0])
        return paths

    right = vars(cascade_bundle)["write_stages"]
    monkeypatch.setattr(cascade_bundle, "write_stages", write)
    with pytest.raises(UsageError, match=r"exit 1, onnx cascade: logits deviate"):
        export_bundle(run, out=tmp_path / "bundle", policy=chosen, cascade=True)
    assert not list(tmp_path.iterdir())


def test_a_cascade_of_floats_is_read_again(run: Run, chosen: Policy, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    export_bundle(run, out=out, policy=chosen, cascade=True, input="float")
    assert "not certified" in (read_bundle(out).cascade(engine="openvino").notice or "")
    (out / "stage1.onnx").write_bytes(b"")
    with pytest.raises(UsageError, match=r"stage1\.onnx is not the file"):
        read_bundle(out)


def test_the_command(
    run: Run, chosen: Policy, tmp_path: Path, compress: Callable[..., tuple[int, str, str]], refused: Callable[..., str]
) -> None:
    out, file = tmp_path / "bundle", tmp_path / "policy.json"
    file.write_text(json.dumps(chosen.to_json()))
    assert "no certified policy: run compress exits" in refused("export", run.path, "--cascade", "--out", out)
    assert "it is for --cascade" in refused("export", run.path, "--policy", file, "--out", out)
    status, _, err = compress("export", run.path, "--cascade", "--policy", file, "--out", out)
    assert status == 0, err
    assert "not certified: run compress exits --engine onnxruntime" in err
    assert read_bundle(out).manifest["kind"] == "cascade"
    file.write_text("{}")
    assert f"--policy {file}: " in refused("export", run.path, "--cascade", "--policy", file, "--out", tmp_path / "b")
