"""The cascade: a multi-exit network as one graph a stage, so that early exit runs where there is no PyTorch."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.data import Normalisation
from compress.errors import UsageError
from compress.export import early_exit_runner
from compress.export.early_exit_runner import Cascade
from compress.export.manifest import MANIFEST, digest_of
from compress.export.onnx_graph import IMAGES, LEAST_IMAGES, LOGITS, refusing, write_graph
from compress.export.served_network import Pixels
from compress.export.unexportable import exportable
from compress.inference import Certificate, Policy
from compress.inference.policy import NEVER
from compress.networks import Network, digest_of_weights, standalone
from compress.runs import write_json

POLICY = "policy.json"
FEATURE_MAP = 3  # dimensions: channels, height, width


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


def stages_of(network: Network, normalisation: Normalisation, *, bytes: bool = True) -> list[Stage]:
    """A copy of a network as stages, one an exit, on the CPU, in fp32 and eval mode; the first one normalises."""
    # From channels-last weights the exporter makes graphs with transpositions.
    copied = copy.deepcopy(network).to("cpu", torch.float32).to(memory_format=torch.contiguous_format)
    ends = [exit.block for exit in copied.spec.exits]
    segments = copied.segments(ends)
    segments[0].insert(0, Pixels(normalisation, bytes=bytes))
    for segment, end in zip(segments[1:], ends, strict=False):
        if len(copied.spec.shapes[end - 1]) == FEATURE_MAP:
            # It changes nothing, but has ONNX Runtime lay out the features in blocks of channels at once; a stage that
            # begins with a residual block would have it convert them in every block.
            segment.insert(0, nn.MaxPool2d(1))
    return [
        Stage(segment, standalone(copied.heads[str(end)]), last=end == ends[-1]).eval()
        for segment, end in zip(segments, ends, strict=True)
    ]


def write_stages(network: Network, normalisation: Normalisation, folder: Path, *, bytes: bool = True) -> list[Path]:
    """Write a network as one ONNX graph a stage, with an open batch size; returns the files, in order.

    Raises:
        UsageError: a stage hands on something else than one tensor, or cannot be exported; it names the module.
    """
    arch, paths = network.spec.arch, list[Path]()
    features = torch.zeros(LEAST_IMAGES, *network.spec.input_shape, dtype=torch.uint8 if bytes else torch.float32)
    for number, stage in enumerate(stages_of(network, normalisation, bytes=bytes), start=1):
        paths.append(folder / f"stage{number}.onnx")
        with torch.no_grad():
            passed = None if stage.last else stage(features)[0]
        if not (stage.last or isinstance(passed, Tensor)):
            block = network.spec.blocks[network.spec.exits[number - 1].block - 1]
            raise UsageError(
                f"{arch}: a cascade hands one tensor from stage to stage, and {getattr(block, 'module', block.kind)} "
                f"returns {type(passed).__name__}"
            )
        with exportable(arch, stage, features, torch.onnx.export):
            given = IMAGES if number == 1 else f"features{number - 1}"
            outputs = [LOGITS] if stage.last else [f"features{number}", LOGITS]
            write_graph(stage, features, paths[-1], input=given, outputs=outputs)
        if passed is not None:
            features = passed
    return paths


def write_policy(
    folder: Path, policy: Policy, certificate: Certificate | None, *, engine: str, input: str
) -> str | None:
    """Write `policy.json`; returns why nothing is guaranteed for the engine, None where it is."""
    notice = not_certified(policy, certificate, engine=engine, input=input)
    guarantee = None if certificate is None else certificate.to_json()
    document = {"engine": engine, "precision": "fp32", "input": input, "certificate": guarantee, "notice": notice}
    write_json(folder / POLICY, policy.to_json() | document)
    return notice


def not_certified(policy: Policy, certificate: Certificate | None, *, engine: str, input: str) -> str | None:
    """Why nothing is guaranteed of what an engine answers by a policy, in fp32; None where a certificate holds."""
    if certificate is not None and certificate.policy != policy.digest:
        raise UsageError("certificate: it is of another policy")
    document = {"certificate": None if certificate is None else certificate.to_json()}
    return early_exit_runner.not_certified(document, engine=engine, precision="fp32", input=input)


def write_stage_digests(folder: Path, *, format: str, input: str) -> None:
    """Write as much of `bundle.json` as the runner reads."""
    files = {path.name: digest_of(path) for path in sorted(folder.iterdir())}
    form = {"kind": "cascade", "format": format, "precision": "fp32", "input": input}
    write_json(folder / MANIFEST, form | {"files": files})


@contextlib.contextmanager
def opened_cascade(
    network: Network, normalisation: Normalisation, *, engine: str, threads: int = 1, policy: Policy | None = None
) -> Iterator[Cascade]:
    """The stages of a network, run by an engine from a temporary folder; without a policy no image leaves early.

    Raises:
        UsageError: the engine is not installed, or a stage cannot be exported.
    """
    exits = len(network.spec.exits)
    policy = policy or Policy(
        temperatures=(1.0,) * exits, thresholds=(NEVER,) * (exits - 1), weights=digest_of_weights(network)
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_stages(network, normalisation, folder)
        write_policy(folder, policy, None, engine=engine, input="uint8")
        write_stage_digests(folder, format="onnx", input="uint8")
        with refusing(f"engine {engine}"):
            cascade = Cascade(folder, engine=engine, threads=threads)
        yield cascade
        del cascade  # it may hold files open
