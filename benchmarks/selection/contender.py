"""Contender: one network that may be selected, what it costs and which validation images it classifies correctly."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.certifying.exits_file import ExitPolicy
from benchmarks.selection.serving import Serving
from compress.accuracy_interval import accuracy_interval
from compress.ensemble_exit import ExitName
from compress.networks import display_name
from compress.runs import Run

Quartiles = tuple[float, float, float]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Contender:
    """One exit of a run, or its ensemble, as a network of its own; or the run's network with an early-exit policy.

    Attributes:
        exit: 1-based, or ``ensemble``; the last one of a network with a policy.
        macs: of an image; with a policy the mean over validation images, heads passed by included.
        bytes: of parameters and buffers; in int8 of the ONNX file, None until it is written.
        val_accuracy: a fraction, in the precision that will serve; None until it is measured.
        right: which validation images it classifies correctly, bools `(N,)`.
        seconds, seconds_interval: quartiles of the time of a batch, and the 95% interval of its median.
        misses: by what factor, above 1, it misses each limit.
        left_out: why it cannot be chosen; empty if it can.
    """

    run: Run
    exit: ExitName
    early: ExitPolicy | None = None
    macs: float
    params: int
    bytes: int | None
    val_accuracy: float | None
    right: np.ndarray = field(repr=False)
    seconds: Quartiles | None = None
    seconds_interval: Interval | None = None
    misses: dict[str, float] = field(default_factory=dict)
    left_out: str = ""

    def __str__(self) -> str:
        if self.early is None:
            return f"{self.run.id}:{self.exit}" if len(self.run.exits) > 1 else self.run.id
        certificate = self.early.certificate
        if certificate is None:
            return f"{self.run.id} early exit ({self.macs / 1e6:.3g}M MACs)"
        return f"{self.run.id} early exit ({certificate.risk} <= {100 * certificate.epsilon:g}%)"

    @property
    def costs(self) -> dict[str, float | None]:
        """What it costs, by the names of `selection_limits.COSTS`; None where it is not known."""
        seconds = self.seconds[1] if self.seconds else None
        return {"seconds": seconds, "macs": self.macs, "bytes": self.bytes, "params": self.params}

    @property
    def val_interval(self) -> Interval | None:
        """The 95% interval (Wilson) of its accuracy over the choice of validation images."""
        return None if self.val_accuracy is None else accuracy_interval(self.val_accuracy, len(self.right))

    def unserved(self, serving: Serving) -> str:
        """Why its policy is not for what will serve; empty where it is, and without a policy.

        Confidences are those of one engine, precision and device: elsewhere other images leave, and nothing is certain.
        """
        if self.early is None or self.early.server == (serving.engine, serving.precision, serving.place.type):
            return ""
        engine, precision, device = self.early.server
        return f"its policy is for {engine} in {precision} on {device}; compress exits makes others"

    @property
    def uncertified(self) -> str | None:
        """Why nothing is guaranteed of its policy as it was chosen; None where something is, or no policy."""
        if self.early is None:
            return None
        if self.early.certificate is None:
            return "nothing is guaranteed of its policy, which was chosen for a budget of MACs"
        engine, precision, device = self.early.server
        return self.early.certificate.void(self.early.policy, engine=engine, precision=precision, device=device)

    def to_json(self) -> dict[str, Any]:
        """What is known of it as JSON-ready data; of test images nothing."""
        certificate = self.early.certificate if self.early else None
        return {
            "name": str(self),
            "run": self.run.id,
            "network": display_name(self.run.spec),
            "exit": self.exit,
            "policy": self.early.policy.to_json() if self.early else None,
            "certificate": certificate.to_json() if certificate else None,
            "seed": self.run.record.seed,
            "macs": self.macs,
            "params": self.params,
            "bytes": self.bytes,
            "val_accuracy": self.val_accuracy,
            "val_interval": self.val_interval,
            "seconds": self.seconds,
            "seconds_interval": self.seconds_interval,
            "misses": {name: factor for name, factor in self.misses.items() if math.isfinite(factor)},
            "left_out": self.left_out or None,
        }
