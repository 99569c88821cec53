"""Exports of every family, kind of head, pruned networks and foreign ones answer as eager does, or are not kept."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from baselines.channels import remove_channels
from baselines.coupling import Coupling
from compress import Architecture, create, export_bundle, normalise, read_bundle
from compress.errors import UsageError
from compress.export import exporting, model_files
from compress.export.form import Form
from compress.export.model_card import model_card
from compress.export.parity import check_parity
from compress.export.subject import subject_of
from compress.networks import Network
from compress.networks.heads import HEADS
from compress.runs import Run, load
from tests.baselines.networks import trained_like
from tests.export.conftest import Export, MakeRun

SHAPE = (1, 8, 8)
OURS = (
    *("resnet8", "resnet8v1", "resnet8nl", Architecture("resnet8", blocks="1,2,1", widths="4,6,8")),
    *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("mobilenetv2", Architecture("resnet8", width=2))),
)
QUICK = ("torchvision:squeezenet1_1", "timm:test_efficientnet")
# fmt: off
FOREIGN = (
    "torchvision:resnet18", "torchvision:mobilenet_v3_small", "torchvision:regnet_y_400mf", "torchvision:densenet121",
    "torchvision:efficientnet_b0", "torchvision:googlenet", "torchvision:swin_t", "torchvision:convnext_tiny",
    "timm:mobilevit_xxs", "timm:vit_tiny_patch16_224", "timm:ghostnet_050", "timm:edgenext_xx_small",
    "torchvision:shufflenet_v2_x0_5", "timm:lcnet_050", "timm:test_resnet", "timm:test_convnext",
)
# fmt: on


def small(arch: Architecture | str, exits: Any = 1) -> Network:
    torch.manual_seed(0)
    return trained_like(create(arch, exits=exits, input_shape=SHAPE))


def with_data(run: Run, **changes: str) -> Run:
    """The run, as if it had been trained on other data."""
    return Run(run.path, dataclasses.replace(run.record, data=run.record.data | changes))


def answers_as_eager(run: Run, exit: int | None, out: Path, **form: Any) -> None:
    """Compare a bundle with the run's network on other images than the export did."""
    bundle = export_bundle(run, exit, out=out, **form)
    images = np.random.default_rng(1).integers(0, 256, (5, *SHAPE), dtype=np.uint8)
    with torch.inference_mode():
        expected = load(run)(normalise(torch.from_numpy(images), run.normalisation))[(exit or 0) - 1].softmax(dim=1)
    infer = bundle.infer()
    for count in (1, 5):
        np.testing.assert_allclose(infer(images[:count]), expected[:count].numpy(), atol=1e-4)


@pytest.mark.parametrize("arch", OURS, ids=str)
def test_every_family_cut_at_an_exit(arch: Architecture | str, run_of: MakeRun, tmp_path: Path) -> None:
    answers_as_eager(run_of(small(arch, 2)), 1, tmp_path / "bundle")


@pytest.mark.parametrize("head", [head for head in HEADS if head != "bn-relu-gap-fc"])
def test_every_kind_of_head(head: str, run_of: MakeRun, tmp_path: Path) -> None:
    answers_as_eager(run_of(small(Architecture("resnet8", head=head), 2)), 1, tmp_path / "bundle", format="pt2")


def test_a_pruned_network(run_of: MakeRun, tmp_path: Path) -> None:
    network = small("resnet8")
    units = Coupling(network).groups
    pruned = remove_channels(network, {0: [0, 2], len(units) - 1: [1]})
    assert sum(map(torch.numel, pruned.parameters())) < sum(map(torch.numel, network.parameters()))
    answers_as_eager(run_of(pruned.eval()), None, tmp_path / "bundle", format="openvino")


@pytest.mark.parametrize("arch", [*QUICK, *(pytest.param(arch, marks=pytest.mark.slow) for arch in FOREIGN)])
def test_foreign_networks(arch: str, run_of: MakeRun, tmp_path: Path) -> None:
    size = 32 if arch in QUICK or arch.startswith("timm:test_") else 64
    answers_as_eager(run_of(small(Architecture(arch, image_size=size))), None, tmp_path / "bundle")


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.slow), "pt2"])
def test_floats_in_logits_out_at_any_batch_size(format: str, trained: Run, exported: Export) -> None:
    """The last exit is the default."""
    bundle = exported(format=format, input="float", output="logits")
    images = torch.rand(9, *SHAPE, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in vars(trained.normalisation).values())
    with torch.inference_mode():
        expected = load(trained)((images - mean) / std)[-1].numpy()
    infer = bundle.infer()
    for count in (9, 1, 4):
        np.testing.assert_allclose(infer(images[:count].numpy()), expected[:count], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_int8_is_calibrated_on_held_out_images_and_its_accuracy_is_the_bundles_own(
    format: str, trained: Run, exported: Export
) -> None:
    from compress.training import data_of

    bundle = exported(1, format=format, precision="int8")
    manifest, test = bundle.manifest, data_of(trained).test
    assert (manifest["calibration"]["part"], manifest["calibration"]["images"]) == ("calibration", 40)
    assert 1e-4 < manifest["parity"]["deviation"] < 0.5
    found = bundle.infer()(test.images.numpy()).argmax(axis=1)
    accuracy = float((torch.from_numpy(found) == test.labels).double().mean())
    assert (manifest["accuracy"]["test"], manifest["accuracy"]["measured_with"]) == (accuracy, "the bundle")
    assert f"{accuracy:.2%}" in (bundle.path / "README.md").read_text()


@pytest.mark.parametrize("form", [{}, {"input": "float", "output": "logits"}], ids=["probabilities", "logits"])
def test_a_graph_with_other_weights_is_not_kept(
    form: dict[str, Any], trained: Run, exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exit = None if form else 1
    right = exported(exit, **form).path / "model.onnx"

    def written(module: nn.Module, images: Tensor, path: Path, *, outputs: Sequence[str]) -> None:
        model = onnx.load(right)
        kernel = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * 1.1, kernel.name))
        onnx.save(model, path)

    monkeypatch.setattr(model_files, "write_graph", written)
    with pytest.raises(UsageError, match=r"exit ., onnx fp32: logits deviate by .* more than 0\.001: nothing is writ"):
        export_bundle(trained, exit, out=tmp_path / "new" / "bundle", **form)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["link", "."])
def test_an_empty_directory_is_filled_and_stays(
    place: str, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "link").symlink_to(empty)
    before = empty.stat().st_ino
    monkeypatch.chdir(empty if place == "." else tmp_path)
    bundle = export_bundle(trained, 1, out=place, format="pt2")
    assert read_bundle(empty).manifest == bundle.manifest
    assert {*os.listdir(empty)} == {"bundle.json", *bundle.manifest["files"]}
    assert (empty.stat().st_ino, (tmp_path / "link").is_symlink()) == (before, True)


def fill(place: Path, meanwhile: tuple[str, ...] = ()) -> None:
    """Write a manifest and a model into a directory; `meanwhile` somebody else writes files there."""
    with exporting.new_directory(place) as folder:
        for file in (folder / "bundle.json", folder / "model.onnx", *map(place.joinpath, meanwhile)):
            file.touch()


def test_files_are_moved_into_a_directory_manifest_last_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(file: Path, target: Path) -> Path:
        if file.name == "bundle.json":
            assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["model.onnx"]
            raise OSError(28, "No space left on device")
        return renamed(file, target)

    with pytest.raises(UsageError, match="not empty"):
        fill(tmp_path, meanwhile=("model.onnx",))
    (tmp_path / "model.onnx").unlink()  # it was not ours
    renamed = Path.rename
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(UsageError, match="No space left"):
        fill(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_stops_it_leaves_nothing(
    error: Any, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: object, folder: Path) -> None:
        (folder / "model.onnx").write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(exporting, "write_model", stop)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else UsageError):
        export_bundle(trained, out=tmp_path / "new" / "bundle")
    assert not list(tmp_path.iterdir())


def test_without_the_data_it_is_checked_on_random_pixels_and_the_card_says_so(
    trained: Run, exported: Export, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = with_data(trained, name=f"folder:{tmp_path / 'gone'}")
    subject, bundle = subject_of(run, 1, Form(), None), exported(1)
    assert f"{run.id}: compared with PyTorch on random pixels alone" in caplog.text
    assert (subject.part, subject.images.shape) == ("random pixels", (64, *SHAPE))
    parity = check_parity(bundle.infer(), subject, "the same network")
    assert parity.part == "random pixels"
    card = model_card(subject, bundle.manifest | {"parity": parity.to_json()})
    assert "compared with PyTorch on random pixels alone" in card
    with pytest.raises(UsageError, match="are not found"):
        export_bundle(run, out=tmp_path / "int8", precision="int8")


def test_data_that_are_here_but_changed_or_damaged_are_an_error(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "photos" / "train" / "mug").mkdir(parents=True)
    (tmp_path / "photos" / "train" / "mug" / "1.png").write_bytes(b"no image")
    for run, message in (
        (with_data(trained, digest="0" * 64), "was trained on other images"),
        (with_data(trained, name=f"folder:{tmp_path / 'photos'}"), "photos"),
    ):
        with pytest.raises(UsageError, match=message):
            subject_of(run, 1, Form(), None)


def test_a_run_that_held_nothing_out_is_checked_on_random_pixels(
    trained: Run, tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = trained.record.config
    nothing = config | {"recipe": config["recipe"] | {"validation": 0.0, "calibration": 0.0}}
    run = Run(trained.path, dataclasses.replace(trained.record, config=nothing))
    for data_dir in (None, tiny_folder):
        assert subject_of(run, 1, Form(), data_dir).part == "random pixels"
        assert "no images that the run held out are here" in caplog.text
        caplog.clear()
    with pytest.raises(UsageError, match="leave none"):
        subject_of(run, 1, Form(precision="int8"), None)


class Bessel(nn.Module):
    """Has no counterpart among the operators of ONNX."""

    def forward(self, features: Tensor) -> Tensor:
        transformed: Tensor = torch.special.bessel_j0(features)
        return transformed


class Branching(nn.Module):
    """Does what depends on values, so that no static graph holds it."""

    def forward(self, features: Tensor) -> Tensor:
        return features if float(features.sum()) > 0 else -features


@pytest.mark.parametrize(
    ("part", "format", "exporter"),
    [pytest.param(Bessel, "onnx", "onnx", marks=pytest.mark.slow), (Branching, "pt2", "export")],
)
def test_the_module_that_cannot_be_exported_is_named(
    part: type[nn.Module], format: str, exporter: str, run_of: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = small("resnet8")
    spoilt.heads["3"].insert(2, part())  # type: ignore[operator]
    monkeypatch.setattr("compress.export.subject.load", lambda run: spoilt)
    run = run_of(small("resnet8"))
    with pytest.raises(
        UsageError, match=rf"resnet8: torch\.{exporter} cannot export module heads\.3\.2 of this network"
    ):
        export_bundle(run, out=tmp_path / "bundle", format=format)
    assert not (tmp_path / "bundle").exists()
