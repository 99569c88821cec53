"""Candidates: the networks that are timed, one for every exit of every run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.measuring.engines import Source
from compress.data import normalise
from compress.ensemble_exit import ENSEMBLE, ExitName
from compress.export.held_out import HeldOut
from compress.inference import network_at
from compress.network_cost import Cost, cost, exit_costs
from compress.networks import Network, Spec, initialised
from compress.runs import WEIGHTS, Run, load

CHECKED_IMAGES = 32  # images on which the logits of engines are compared


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One exit of one run, or its ensemble, as a network of its own.

    Attributes:
        drawn: whether its weights are random, since the run's own are missing.
    """

    run: Run
    exit: ExitName
    cost: Cost
    source: Source
    drawn: bool = False

    def __str__(self) -> str:
        return f"{self.run.id} exit {self.exit}"

    def sizes(self, precision: str) -> dict[str, int]:
        """`bytes` in fp32: of parameters and buffers; in int8: of the ONNX file, and `fp32_bytes` of it in fp32."""
        if precision == "int8":
            quantised, whole = (self.source.onnx(each).stat().st_size for each in ("int8", "fp32"))
            return {"bytes": quantised, "fp32_bytes": whole}
        return {"bytes": self.cost.bytes} if precision == "fp32" else {}

    @cached_property
    def checked_images(self) -> tuple[Tensor, Tensor]:
        """Images, held-out ones where there are any, and their logits by eager in fp32."""
        images = random_images(CHECKED_IMAGES, self.run.spec.input_shape)
        if self.source.calibration is not None:
            images = self.source.calibration[:CHECKED_IMAGES]
        with torch.inference_mode():
            return images, self.source.network(images)[-1]


def candidates(
    runs: Iterable[Run], folder: Path, held_out: HeldOut | None = None, *, draw: bool = False
) -> list[Candidate]:
    """A candidate for every exit of every run and for its ensemble; ONNX files made from them go into `folder`.

    Args:
        draw: whether a run without weights gets random ones.

    Raises:
        UsageError: weights are missing, corrupt, or do not fit the spec.
    """
    found = []
    for run in runs:
        drawn = draw and not (run.path / WEIGHTS).exists()
        network = _with_random_weights(run.spec) if drawn else load(run)
        images = normalise(held_out.calibration_images, run.normalisation) if held_out and not drawn else None
        costs = exit_costs(network)
        for row in run.predictions:
            exit, alone = row["exit"], network_at(run, network, row["exit"])
            source, own = Source(alone, folder / run.id / str(exit), images), cost(alone) if exit == ENSEMBLE else None
            found.append(Candidate(run=run, exit=exit, cost=own or costs[exit - 1], source=source, drawn=drawn))
    return found


def _with_random_weights(spec: Spec) -> Network:
    """A network with random weights, as fast as a trained one, in eval mode."""
    network = initialised(spec, 0).train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0  # otherwise activations of deep networks grow until half precisions overflow
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # dropout draws random numbers
        network(random_images(CHECKED_IMAGES, spec.input_shape))
    return network.eval()


def random_images(count: int, shape: tuple[int, ...]) -> Tensor:
    """Images `(count, *shape)` of normal noise, equal in every call."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
