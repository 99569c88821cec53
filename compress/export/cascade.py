"""The cascade: a multi-exit network as one graph a stage, so that early exit runs where there is no PyTorch."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.data import Normalisation
from compress.errors import UsageError, first_line
from compress.export import early_exit_runner
from compress.export.early_exit_runner import Cascade
from compress.inference import Certificate
from compress.inference.policy import NEVER, Policy
from compress.networks import Network, digest_of_weights
from compress.runs import write_json

Format = Literal["onnx", "openvino"]
Input = Literal["uint8", "float"]
POLICY, RUNNER, LOGITS, BATCH = "policy.json", "early_exit.py", "logits", "batch"

logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # other notices are for the exporter's developers


class Pixels(nn.Module):
    """Images to what the network takes: `(pixel / 255 - mean) / std` of uint8, or of float from 0 to 1."""

    def __init__(self, normalisation: Normalisation, input: Input) -> None:
        super().__init__()
        self.full = 255 if input == "uint8" else 1
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", normalisation.mean), ("std", normalisation.std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() / self.full - self.mean) / self.std


class Stage(nn.Module):
    """The blocks up to an exit and its head: features to features and logits; the last stage to logits alone.

    Attributes:
        last: whether it is the last stage.
    """

    def __init__(self, parts: Iterable[nn.Module], head: nn.Module, *, last: bool) -> None:
        super().__init__()
        self.parts, self.head, self.last = nn.Sequential(*parts), head, last

    def forward(self, features: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = self.parts(features)
        logits: Tensor = self.head(features).float()
        return logits if self.last else (features, logits)


def stages_of(network: Network, normalisation: Normalisation, input: Input = "uint8") -> list[Stage]:
    """A copy of a network as stages, one an exit, on the CPU, in fp32 and eval mode; the first one normalises."""
    # From channels-last weights the exporter makes graphs with transpositions.
    copied = copy.deepcopy(network).to("cpu", torch.float32).to(memory_format=torch.contiguous_format)
    ends = [exit.block for exit in copied.spec.exits]
    segments = copied.segments(ends)
    segments[0].insert(0, Pixels(normalisation, input))
    return [
        Stage(segment, copied.heads[str(end)], last=end == ends[-1]).eval()
        for segment, end in zip(segments, ends, strict=True)
    ]


def write_stages(stages: list[Stage], images: Tensor, folder: Path, format: Format) -> list[str]:
    """Write one graph a stage, with an open batch size, for images `(N, C, H, W)` like these; returns the files' names.

    Raises:
        UsageError: a stage hands on something else than one tensor, or cannot be exported.
    """
    names: list[str] = []
    for number, stage in enumerate(stages, start=1):
        path = folder / f"stage{number}.onnx"
        with refusing(f"stage {number}: torch.onnx cannot export it"):
            passed = _export(stage, images, path, number)
        if passed is not None:
            images = passed
        names += [path.name] if format == "onnx" else _converted(path)
    return names


def _export(stage: Stage, features: Tensor, path: Path, number: int) -> Tensor | None:
    """Write a stage; returns what it hands on."""
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        found = stage(features)
        program = torch.onnx.export(
            stage,
            (features,),
            input_names=["images" if number == 1 else f"features{number - 1}"],
            output_names=[LOGITS] if stage.last else [f"features{number}", LOGITS],
            dynamic_shapes=({0: BATCH},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(path)
    return None if stage.last else found[0]


def _converted(path: Path) -> list[str]:
    """Replace an ONNX file by OpenVINO's two files, in fp32; returns their names."""
    import openvino

    model = openvino.convert_model(path)
    openvino.save_model(model, path.with_suffix(".xml"), compress_to_fp16=False)
    path.unlink()
    return [path.with_suffix(suffix).name for suffix in (".xml", ".bin")]


@contextlib.contextmanager
def opened_cascade(
    network: Network, normalisation: Normalisation, *, engine: str, threads: int = 1, policy: Policy | None = None
) -> Iterator[Cascade]:
    """The stages of a network, run by an engine from a temporary folder; without a policy no image leaves early.

    Raises:
        UsageError: the engine is not installed, or a stage cannot be exported.
    """
    policy = policy or Policy(
        temperatures=(1.0,) * len(network.spec.exits),
        thresholds=(NEVER,) * (len(network.spec.exits) - 1),
        weights=digest_of_weights(network),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = torch.zeros(
            2, *network.spec.input_shape, dtype=torch.uint8
        )  # of one image the exporter fixes the batch
        files = write_stages(stages_of(network, normalisation), images, folder, "onnx")
        write_policy(folder, policy, engine=engine, precision="fp32")
        files = [*files, POLICY]
        manifest = {"kind": "cascade", "format": "onnx", "precision": "fp32", "files": digests(folder, files)}
        write_json(folder / "bundle.json", manifest)
        with refusing(f"engine {engine}"):
            cascade = Cascade(folder, engine=engine, threads=threads)
        yield cascade


def stage_logits(
    network: Network,
    normalisation: Normalisation,
    batches: Iterable[NDArray[np.uint8]],
    *,
    engine: str,
    threads: int = 1,
) -> NDArray[np.float32]:
    """The logits `(exits, N, classes)` of uint8 images, in batches `(n, C, H, W)`, as a cascade computes them.

    Policies that are chosen and certified on them hold for the cascades that `compress export --cascade` writes.

    Args:
        engine: onnxruntime or openvino, in fp32.

    Raises:
        UsageError: the engine is not installed, or a stage cannot be exported.
    """
    with opened_cascade(network, normalisation, engine=engine, threads=threads) as cascade:
        return np.concatenate([cascade.logits(images) for images in batches], axis=1)


def write_policy(
    folder: Path, policy: Policy, *, engine: str, precision: str, certificate: Certificate | None = None
) -> str | None:
    """Write `policy.json` and the runner; returns why the certificate does not hold for the engine, None if it does."""
    notice = not_certified(policy, certificate, engine, precision)
    guarantee = None if certificate is None else certificate.to_json()
    document = {"engine": engine, "precision": precision, "certificate": guarantee, "notice": notice}
    write_json(folder / POLICY, policy.to_json() | document)
    shutil.copyfile(early_exit_runner.__file__, folder / RUNNER)
    return notice


def not_certified(policy: Policy, certificate: Certificate | None, engine: str, precision: str) -> str | None:
    """Why nothing is guaranteed of a policy that an engine runs in a precision; None where its certificate holds."""
    if certificate is None:
        return f"not certified: run compress exits --engine {engine}"
    if certificate.void(policy, engine=engine, precision=precision):
        return f"not certified for this engine: run compress exits --engine {engine}"
    return None


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 (hex) of files, by name."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn any error of a package into one line for the user that begins with `what`; raises UsageError."""
    try:
        yield
    except Exception as error:  # the packages' errors have no common class
        raise UsageError(f"{what}: {first_line(error)}") from error
