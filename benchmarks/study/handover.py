"""The handover: the network that a study selects among its runs, exported, and one prediction by what was exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compress.data import Dataset
from compress.ensemble_exit import ExitName
from compress.errors import UsageError, checked
from compress.runs import Run

if TYPE_CHECKING:
    from compress.export import Bundle

MODEL, EXAMPLE = "model", "example.png"  # in the directory of the report


@checked
@dataclass(frozen=True, kw_only=True)
class Handover:
    """What a study hands over: the table `[handover]` of its file.

    Attributes:
        max_macs: most multiply-accumulates of the network that is selected.
        format: format of the bundle.
    """

    max_macs: float
    format: Literal["onnx", "openvino", "pt2"] = "onnx"


def hand_over(handover: Handover, runs: Sequence[Run], dataset: Dataset, out: Path) -> list[str]:
    """Select a network, export it into `out`, and predict a test image with it; returns a line on each.

    Policies of early exit take no part: what they spend is a mean, and `max_macs` is the most; and a format as pt2 has
    no cascade.

    A bundle of the same network that is there already is kept.

    Raises:
        UsageError: nothing is within the limit, the format's packages are not installed, or another bundle is there.
    """
    import torch  # here and below, as reading a study does without what exports
    from torchvision.transforms.functional import to_pil_image

    from benchmarks.selection.explanation import reasons
    from benchmarks.selection.select import select
    from benchmarks.selection.selection_limits import Limits
    from compress.export import export_bundle
    from compress.prediction import predictor

    networks = [f"{run.path}:{row['exit']}" for run in runs for row in run.predictions]
    selection = select(networks, limits=Limits(macs=handover.max_macs))
    chosen = selection.chosen
    if chosen is None:
        raise UsageError(reasons(selection)[0])
    model = out / MODEL
    bundle = _kept(model, chosen.run, chosen.exit, handover.format)
    bundle = bundle or export_bundle(chosen.run, chosen.exit, format=handover.format, out=model)
    [image] = dataset.test.subset(torch.tensor([0])).images
    example, label = out / EXAMPLE, dataset.classes[int(dataset.test.labels[0])]
    to_pil_image(image).save(example)
    [predicted] = predictor(bundle.path).predict(example)
    return [
        f"selected: {reasons(selection)[0]}",
        f"exported: {bundle.path}",
        f"predicted: {example} is {predicted.label!r}, by {predicted.probability:.0%}; it is {label!r}",
    ]


def _kept(model: Path, run: Run, exit: ExitName, form: str) -> Bundle | None:
    """The bundle that is there already, if it is of this exit of this run, in that format."""
    from compress.export import read_bundle

    if not model.exists():
        return None
    bundle = read_bundle(model)
    source = bundle.manifest["source"]
    if (source["run"], source["exit"]) != (run.id, exit):
        raise UsageError(f"{model} holds exit {source['exit']} of {source['run']}, not {exit} of {run.id}: remove it")
    if bundle.manifest["format"] != form:
        raise UsageError(f"{model} holds {bundle.manifest['format']}, not {form}: remove it")
    return bundle
