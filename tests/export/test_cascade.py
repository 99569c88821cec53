"""A cascade decides as the simulation does and computes as eager does, in both runtimes, and really stops."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress import Place
from compress.data import Dataset, Normalisation, normalise, open_dataset
from compress.errors import UsageError
from compress.export import export_bundle, read_bundle
from compress.export.cascade import opened_cascade, stage_logits, write_policy, write_stage_digests, write_stages
from compress.export.early_exit_runner import Cascade, _confidences
from compress.inference import Certificate, Policy, confidences, leave, policy_of_shares, simulate
from compress.networks import Network, digest_of_weights
from compress.recipes import Recipe
from compress.runs import Run, load
from compress.training import train
from tests.baselines.networks import network_of

ENGINES = ("onnxruntime", "openvino")
GREY = Normalisation(mean=(0.3,), std=(0.35,))
EXITS = 3


def policy_for(network: Network, logits: NDArray[Any]) -> Policy:
    """A policy by which as many of these images leave at every exit; its thresholds are between their confidences."""
    exits = len(logits)
    temperatures = tuple(float(exit.std()) for exit in logits)
    never = Policy(temperatures=temperatures, thresholds=(1.0,) * (exits - 1), weights=digest_of_weights(network))
    return policy_of_shares(never, np.full(exits, 1 / exits), logits)


def write(folder: Path, network: Network, policy: Policy, *, input: str = "uint8") -> Path:
    """What a runner needs of a cascade."""
    write_stages(network, GREY, folder, bytes=input == "uint8")
    write_policy(folder, policy, None, engine="onnxruntime", input=input)
    write_stage_digests(folder, format="onnx", input=input)
    return folder


@pytest.fixture(scope="module")
def network() -> Network:
    return network_of("resnet8", exits=EXITS, size=14)


@pytest.fixture(scope="module")
def images(tiny: Dataset) -> NDArray[np.uint8]:
    """128 real images, uint8 (N, 1, 14, 14)."""
    [images] = tiny.train.batches([torch.arange(128)])
    return np.asarray(images)


@pytest.fixture(scope="module")
def eager(network: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Eager's logits of every exit."""
    with torch.inference_mode():
        return torch.stack(network(normalise(torch.from_numpy(images), GREY))).numpy()


@pytest.fixture(scope="module")
def policy(network: Network, eager: NDArray[np.float32]) -> Policy:
    return policy_for(network, eager)


@pytest.fixture(scope="module")
def folder(network: Network, policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("cascade"), network, policy)


@pytest.mark.parametrize("count", [1, 7, 128])
@pytest.mark.parametrize("engine", ENGINES)
def test_decisions_are_the_simulations(
    engine: str, count: int, folder: Path, images: NDArray[np.uint8], eager: NDArray[np.float32], policy: Policy
) -> None:
    cascade, simulated = Cascade(folder, engine=engine), simulate(eager, policy)
    assert set(simulated.exits) == {1, 2, 3}
    batches = [cascade(images[start : start + count]) for start in range(0, 128, count)]
    found = [np.concatenate(part) for part in zip(*batches, strict=True)]
    np.testing.assert_array_equal(found[0], simulated.labels)
    np.testing.assert_array_equal(found[1], simulated.exits)
    np.testing.assert_allclose(found[2], simulated.probabilities, atol=1e-5)
    assert [part.dtype for part in found] == [np.int64, np.int64, np.float32]


@pytest.mark.parametrize("engine", ENGINES)
def test_logits_are_eagers(engine: str, network: Network, images: NDArray[np.uint8], eager: NDArray[Any]) -> None:
    found = stage_logits(network, GREY, [images[:1], images[1:50], images[50:]], engine=engine)
    np.testing.assert_allclose(found, eager, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("threshold", [0.1, np.nextafter(0.1, 0)])
def test_ties_stay(engine: str, threshold: float, images: NDArray[np.uint8], tmp_path: Path) -> None:
    equal = network_of("resnet8", exits=2, size=14)
    for head in equal.heads.values():
        torch.nn.init.zeros_(list(head.modules())[-1].weight)  # type: ignore[arg-type]
    tied = Policy(temperatures=(0.7, 1.0), thresholds=(float(threshold),), weights=digest_of_weights(equal))
    cascade = Cascade(write(tmp_path, equal, tied), engine=engine)
    expected = leave(cascade.logits(images[:7]), tied)
    assert set(expected) == ({2} if threshold == 0.1 else {1})
    np.testing.assert_array_equal(cascade(images[:7]).exits, expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("threshold", [1.0, np.nextafter(1, 0)])
def test_no_confidence_passes_one(engine: str, threshold: float, images: NDArray[np.uint8], tmp_path: Path) -> None:
    sure = network_of("resnet8", exits=2, size=14)
    with torch.no_grad():
        list(sure.heads["2"].modules())[-1].get_parameter("bias")[4] = 1e4
    policy = Policy(temperatures=(1.0, 1.0), thresholds=(float(threshold),), weights=digest_of_weights(sure))
    cascade = Cascade(write(tmp_path, sure, policy), engine=engine)
    assert (confidences(cascade.logits(images[:7])[0], 1.0) == 1.0).all()
    np.testing.assert_array_equal(cascade(images[:7]).exits, 2 if threshold == 1.0 else 1)


def test_the_runners_confidences_are_the_librarys_bit_for_bit() -> None:
    logits = np.random.default_rng(0).normal(scale=20, size=(500, 10)).astype(np.float32)
    for temperature in (0.05, 1.0, 3.3):
        np.testing.assert_array_equal(_confidences(logits, temperature), confidences(logits, temperature))
        for count in (1, 7):
            np.testing.assert_array_equal(
                _confidences(logits[:count], temperature), _confidences(logits, temperature)[:count]
            )


class Counted:
    """A stage that notes the batch sizes that it is called with."""

    def __init__(self, stage: Any) -> None:
        self._stage, self.sizes = stage, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def __call__(self, features: Any) -> Any:
        self.sizes.append(len(features))
        return self._stage(features)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_lies_behind_is_not_computed(engine: str, folder: Path, images: NDArray[np.uint8]) -> None:
    cascade = Cascade(folder, engine=engine)
    exits = cascade(images).exits
    cascade._stages = stages = [Counted(stage) for stage in cascade._stages]
    cascade(images)
    assert [stage.sizes for stage in stages] == [[int((exits >= number).sum())] for number in (1, 2, 3)]
    for exit in (1, 2, 3):
        for stage in stages:
            stage.sizes.clear()
        cascade(images[exits == exit][:1])
        assert [stage.sizes for stage in stages] == [[1]] * exit + [[]] * (3 - exit)


def test_a_foreign_network(images: NDArray[np.uint8]) -> None:
    foreign = network_of("timm:test_convnext", exits=2, size=14)
    with torch.inference_mode():
        expected = torch.stack(foreign(normalise(torch.from_numpy(images[:9]), GREY))).numpy()
    for engine in ENGINES:
        with opened_cascade(foreign, GREY, engine=engine) as cascade:
            np.testing.assert_allclose(cascade.logits(images[:9]), expected, atol=1e-4)
            np.testing.assert_allclose(cascade.logits(images[:1]), expected[:, :1], atol=1e-4)


def test_a_stage_that_hands_on_more_than_one_tensor_is_refused(tmp_path: Path) -> None:
    class Pair(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return features, features

    class FirstOf(torch.nn.Module):
        def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return pair[0]

    paired = network_of("resnet8", exits=2, size=14)
    paired.blocks[1] = torch.nn.Sequential(paired.blocks[1], Pair())
    paired.heads["2"] = torch.nn.Sequential(FirstOf(), paired.heads["2"])
    paired.blocks[2] = torch.nn.Sequential(FirstOf(), paired.blocks[2])
    if "2" not in {str(exit.block) for exit in paired.spec.exits}:
        pytest.fail("the exit has moved: put the pair where it is now")
    with pytest.raises(UsageError, match=r"one tensor from stage to stage, and .* returns tuple"):
        write_stages(paired, GREY, tmp_path)


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import numpy as np
from early_exit import Cascade
cascade = Cascade(engine={engine!r})
print(cascade(np.load(sys.argv[1])).exits.tolist(), not {{"torch", "compress"}} & set(sys.modules))
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_the_runner_needs_numpy_and_one_runtime(
    engine: str, folder: Path, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", images[:7])
    absent = {"torch", "compress", "onnx", "PIL", *ENGINES} - {engine}
    script = WITHOUT.format(absent=absent, engine=engine)
    found = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "images.npy"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == f"{Cascade(folder, engine=engine)(images[:7]).exits.tolist()} True"


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    for file in folder.iterdir():
        os.link(file, tmp_path / file.name)
    return tmp_path


def replaced(path: Path, **changes: Any) -> None:
    """Replace fields of a JSON file, which other folders share."""
    document = json.loads(path.read_text()) | changes
    path.unlink()
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("stage", "stage2.onnx is not the file that was exported"),
        ("policy", "policy.json is not the file that was exported"),
        ("missing", "not a whole bundle"),
        ("exits", "the policy is for 2 exits, and there are 3 stages"),
        ("kind", "a bundle of one model, not a cascade"),
    ],
)
def test_files_that_do_not_fit_are_refused(changed: str, message: str, broken: Path) -> None:
    if changed in ("stage", "missing"):
        content = (broken / "stage2.onnx").read_bytes()
        (broken / "stage2.onnx").unlink()
        if changed == "stage":
            (broken / "stage2.onnx").write_bytes(content[:-1] + b"?")
    elif changed == "kind":
        replaced(broken / "bundle.json", kind="model")
    else:
        replaced(broken / "policy.json", temperatures=[1.0, 1.0])
        if changed == "exits":
            (broken / "bundle.json").unlink()
            write_stage_digests(broken, format="onnx", input="uint8")
    with pytest.raises(ValueError, match=message):
        Cascade(broken)


def test_images_that_do_not_fit_are_refused(folder: Path, images: NDArray[np.uint8]) -> None:
    cascade = Cascade(folder)
    for wrong in (images[:0], images[..., :-1], images.astype(np.float32), images[0], images.tolist()):
        with pytest.raises(ValueError, match=r"the network takes uint8 \(N, 1, 14, 14\), N above 0"):
            cascade(wrong)


@pytest.mark.parametrize("engine", ENGINES)
def test_views_and_read_only_images(engine: str, folder: Path, images: NDArray[np.uint8]) -> None:
    cascade, frozen = Cascade(folder, engine=engine), images.copy()
    frozen.setflags(write=False)
    expected = cascade(images).exits
    np.testing.assert_array_equal(cascade(frozen).exits, expected)
    np.testing.assert_array_equal(cascade(images[:9:2]).exits, expected[:9:2])


def test_float_images(
    network: Network, policy: Policy, images: NDArray[np.uint8], folder: Path, tmp_path: Path
) -> None:
    cascade = Cascade(write(tmp_path, network, policy, input="float"))
    np.testing.assert_array_equal(cascade(images.astype(np.float32) / 255).exits, Cascade(folder)(images).exits)


@pytest.mark.parametrize(("engine", "message"), [("tensorrt", "does not read onnx"), ("onnxruntime", "pip install")])
def test_engines_that_are_not_there_are_refused(
    engine: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=message):
        Cascade(folder, engine=engine)


@pytest.fixture(scope="module")
def run(tiny_folder: Path, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """MW-BP with three exits on 8x8 grey images in class folders, some held out."""
    small = open_dataset(f"folder:{tiny_folder}", image_size=8)
    recipe, place = replace(brief, validation=0.2, calibration=0.2), Place(runs=tmp_path_factory.mktemp("runs"))
    return train("resnet8", small, method="mwbp", exits=EXITS, recipe=recipe, place=place)


@pytest.fixture(scope="module")
def chosen(run: Run) -> Policy:
    with np.load(run.path / "predictions.npz") as kept:
        return policy_for(load(run), kept["validation_logits"].astype(np.float32))


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
    predicted = subprocess.run([sys.executable, out / "predict.py", *files], capture_output=True, text=True, check=True)
    assert len(predicted.stdout.splitlines()) == len(files)


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
    forward = "compress.export.cascade.Pixels.forward"
    monkeypatch.setattr(forward, lambda self, images: images.float() / 255)  # forgets the normalisation
    with pytest.raises(UsageError, match=r"exit 1, onnx cascade: logits deviate"):
        export_bundle(run, out=tmp_path / "bundle", policy=chosen, cascade=True)
    assert not list(tmp_path.iterdir())


def test_a_cascade_is_read_again(run: Run, chosen: Policy, tmp_path: Path) -> None:
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
