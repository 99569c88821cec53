"""A cascade decides as the simulation does and computes as eager does, in both runtimes, and really stops."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.data import Dataset, Normalisation, normalise
from compress.errors import UsageError
from compress.export.cascade import opened_cascade, write_policy, write_stage_digests, write_stages
from compress.export.early_exit_runner import Cascade, _confidences, _leaves
from compress.export.papers import write_scripts
from compress.inference import Policy, confidences, leave, policy_of_shares, simulate
from compress.networks import Network, digest_of_weights
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
    write_scripts(folder, cascade=True)
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
def test_logits_are_eagers(engine: str, folder: Path, images: NDArray[np.uint8], eager: NDArray[Any]) -> None:
    cascade = Cascade(folder, engine=engine)
    found = np.concatenate([cascade.logits(part) for part in (images[:1], images[1:50], images[50:])], axis=1)
    np.testing.assert_allclose(found, eager, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("temperature", "confidence"), [(1e30, 0.1), (1e-9, 1.0)], ids=["tied", "sure"])
def test_a_confidence_at_the_threshold_stays(
    temperature: float, confidence: float, engine: str, network: Network, images: NDArray[np.uint8], broken: Path
) -> None:
    """Scaled by such temperatures all classes are equally probable, or one is for certain, both to the last bit."""
    for threshold, exit in ((confidence, 3), (float(np.nextafter(confidence, 0)), 1)):
        temperatures, weights = (temperature, temperature, 1.0), digest_of_weights(network)
        policy = Policy(temperatures=temperatures, thresholds=(threshold, confidence), weights=weights)
        for name in ("policy.json", "bundle.json"):
            (broken / name).unlink()
        write_policy(broken, policy, None, engine=engine, input="uint8")
        write_stage_digests(broken, format="onnx", input="uint8")
        cascade = Cascade(broken, engine=engine)
        logits = cascade.logits(images[:7])
        assert (confidences(logits[0], temperature) == confidence).all()
        np.testing.assert_array_equal(leave(logits, policy), exit)
        np.testing.assert_array_equal(cascade(images[:7]).exits, exit)


def test_the_runners_confidences_are_the_librarys_bit_for_bit() -> None:
    logits = np.random.default_rng(0).normal(scale=20, size=(500, 10)).astype(np.float32)
    for temperature in (0.05, 1.0, 3.3):
        np.testing.assert_array_equal(_confidences(logits, temperature), confidences(logits, temperature))
        for count in (1, 7):
            np.testing.assert_array_equal(
                _confidences(logits[:count], temperature), _confidences(logits, temperature)[:count]
            )


@pytest.mark.parametrize("temperature", [0.05, 1.0, 3.3])
def test_the_runner_decides_on_one_image_as_on_many_bit_for_bit(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(scale=5, size=(300, 10)).astype(np.float32)
    for row, confidence in zip(logits, _confidences(logits, temperature), strict=True):
        near = (np.nextafter(confidence, 0), confidence, np.nextafter(confidence, 2))
        assert [_leaves(row[None], temperature, float(threshold)) for threshold in near] == [True, False, False]


def test_stages_keep_their_features_in_blocks_of_channels(folder: Path, tmp_path: Path) -> None:
    """As far as ONNX Runtime has kernels for such blocks here: then no batch norm or addition is left outside them."""
    import onnx
    import onnxruntime

    for number in range(1, EXITS + 1):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3  # it warns that the file is for this CPU
        onnxruntime.InferenceSession(str(folder / f"stage{number}.onnx"), options, providers=["CPUExecutionProvider"])
        kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
        if "ReorderOutput" not in kinds:
            pytest.skip("ONNX Runtime has no kernels for blocks of channels on this CPU")
        assert not {"BatchNormalization", "Add"} & set(kinds)
        assert kinds.count("ReorderInput") == (number > 1)


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


@pytest.mark.slow
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
    for file in filter(Path.is_file, folder.iterdir()):  # the runner may have been compiled there
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
        ("missing", "stage2.onnx is missing there"),
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
