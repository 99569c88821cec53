"""The subject of an export: one exit of a run as a network of its own, and the images that the export is checked on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compress.data import normalise
from compress.data.catalogue import FOLDER
from compress.ensemble_exit import ENSEMBLE, ExitName
from compress.errors import UsageError
from compress.export.form import Form
from compress.export.held_out import HeldOut, NoImagesError, open_held_out
from compress.export.stated_latency import Latency
from compress.inference import network_at
from compress.network_cost import cost
from compress.networks import Network, digest_of_weights
from compress.runs import Run, load

RANDOM = "random pixels"
RANDOM_IMAGES = 64
_log = logging.getLogger("compress")


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is exported.

    Attributes:
        exit: 1-based, of the run's network; or ``ensemble``.
        whole: the run's network, in eval mode.
        form: the form of the bundle.
        part: where the images come from: calibration, validation, or random pixels.
        images: uint8 `(N, C, H, W)`, which no training has seen.
        held_out: None where the data are not here, or nothing was held out.
        latencies: measured just before, for the model card.
    """

    run: Run
    exit: ExitName
    whole: Network
    form: Form
    part: str
    images: Tensor
    held_out: HeldOut | None
    latencies: Sequence[Latency] = ()

    @property
    def network(self) -> Network:
        """The network, cut at the exit; or the ensemble's."""
        return network_at(self.run, self.whole, self.exit)

    @property
    def row(self) -> dict[str, Any]:
        """The exit's row in the run's results."""
        return self.run.prediction(self.exit)

    @property
    def cost(self) -> dict[str, int]:
        """MACs of an image and parameters; of a cascade with all its heads, as for an image that leaves at the last."""
        if self.form.cascade:
            whole = cost(self.whole)
            return {"macs": whole.macs, "params": whole.params}
        return {name: self.row[name] for name in ("macs", "params")}

    @property
    def labels(self) -> list[str]:
        """The name of every class."""
        return list(self.run.record.data["classes"])

    @property
    def data_name(self) -> str:
        """The name of the data set; of class folders without their place, which is nobody else's business."""
        name: str = self.run.record.data["name"]
        return f"{FOLDER}{Path(name).name}" if name.startswith(FOLDER) else name

    @property
    def preprocess(self) -> dict[str, Any]:
        """How a file becomes pixels, as in the record, and the shape of the images."""
        channels, height, width = self.run.spec.input_shape
        shape = {"channels": channels, "height": height, "width": width}
        return (self.run.record.data.get("preprocessing") or {}) | shape

    @property
    def source(self) -> dict[str, Any]:
        """Where the model comes from, for the manifest; `weights` is the digest of the run's whole network."""
        return {
            "run": self.run.id,
            "arch": self.run.record.arch,
            "exit": self.exit,
            "exits": len(self.run.exits),
            "weights": digest_of_weights(self.whole),
            "data": self.run.record.data["digest"],
        }

    def taken(self, images: Tensor) -> Tensor:
        """Uint8 images as the model takes them."""
        return images if self.form.input == "uint8" else images.float() / 255

    def logits(self) -> list[Tensor]:
        """The logits for `images` by eager in fp32, the truth that exports must meet.

        Those of every exit up to this one, or of the ensemble alone.
        """
        with torch.inference_mode():
            normalised = normalise(self.images, self.run.normalisation)
            averaged = self.exit == ENSEMBLE
            logits: list[Tensor] = self.network(normalised) if averaged else self.whole(normalised)[: self.exit]
        return logits


def subject_of(run: Run, exit: ExitName | None, form: Form, data_dir: Path | None) -> Subject:
    """The subject of an export; `exit` None is the last.

    In fp32 its images are random pixels, and a warning says so, where the run held nothing out, or where its data are
    not here and `data_dir` does not say that they are.

    Raises:
        UsageError: the run has no such exit or no weights; its data are damaged or were changed; or there are no
            held-out images, and int8 or `data_dir` asks for them.
    """
    number = len(run.exits) if exit is None else exit
    if number not in (row["exit"] for row in run.predictions):
        others = ", and an ensemble" if run.ensemble else ""
        raise UsageError(f"exit {exit}: run {run.id} has exits 1 to {len(run.exits)}{others}")
    whole = load(run)
    try:
        held_out = open_held_out([run], data_dir, download=False, calibration=form.calibration)
        part, images = held_out.name, held_out.calibration_images
    except NoImagesError:
        if form.precision == "int8":
            raise
        _log.warning("%s: compared with PyTorch on %s alone: no images that the run held out are here", run.id, RANDOM)
        held_out, part, generator = None, RANDOM, torch.Generator().manual_seed(0)
        shape = (RANDOM_IMAGES, *run.spec.input_shape)
        images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    return Subject(run=run, exit=number, whole=whole, form=form, part=part, images=images, held_out=held_out)
