"""A step of a training: one function on every device, which `capture` records as a CUDA graph.

What changes from step to step is filled into tensors before (`Step.prepare`); in the step itself nothing is asked of
the device and nothing is copied to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compress.hardware import Precision, repeatable
from compress.networks import Network
from compress.recipes import Recipe
from compress.training.averaging import Averaging
from compress.training.objectives import Objective
from compress.training.updates import Update


class Tally:
    """What the steps of an epoch add up, on the device.

    Attributes:
        losses: sum of the batches' losses, `(exits,)`.
        correct: number of images with the right answer, `(exits,)`.
    """

    def __init__(self, exits: int, device: torch.device) -> None:
        self.losses, self.correct = torch.zeros(exits, device=device), torch.zeros(exits, device=device)

    def reset(self) -> None:
        """Begin an epoch."""
        self.losses.zero_()
        self.correct.zero_()

    def of_last_exit(self, batches: int, images: int) -> tuple[float, float]:
        """Mean loss and accuracy (a fraction) of the last exit over so many batches and images; waits for a GPU."""
        return float(self.losses[-1]) / batches, float(self.correct[-1]) / images

    def add(self, losses: Tensor, logits: list[Tensor], labels: Tensor) -> None:
        """Add a batch, given its losses `(exits,)`, the logits `(N, classes)` of every exit, and labels `(N,)`."""
        self.losses += losses
        self.correct += torch.stack([(exit.argmax(dim=1) == labels).sum() for exit in logits])


@dataclass(kw_only=True, eq=False)
class Step:
    """Forward and backward pass, update, tally and moving average for a batch, in place.

    Attributes:
        network: network that is trained.
        model: what runs it: the network itself, compiled, or parallel.
        recipe: gives schedule and label smoothing.
        teacher: network whose last exit's logits are distilled.
        class_weights: weight of every class in the cross-entropy, `(classes,)`.
        progress: share of the training that is done at the middle of the step, a 0-dim tensor on the device.
    """

    network: Network
    model: nn.Module
    update: Update
    objective: Objective
    recipe: Recipe
    precision: Precision
    averaging: Averaging
    tally: Tally
    teacher: Network | None = None
    class_weights: Tensor | None = None
    progress: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.progress = torch.zeros((), device=self.tally.losses.device)

    def prepare(self, progress: float) -> None:
        """Fill the rates and the share of the training that is done."""
        self.update.set_rate(self.recipe.rate_factor(progress))
        self.progress.fill_(progress)

    def __call__(self, images: Tensor, labels: Tensor, *, average: bool = False) -> Tensor:
        """Train on normalised images `(N, C, H, W)` with labels `(N,)`; returns the detached losses `(exits,)`.

        Args:
            average: move the averaged weights, too.
        """
        with repeatable(images.device):
            with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
                logits = self.model(images, self.objective.trunk_share(self.progress))
                taught = self._taught(images)
            losses = self.objective.losses(
                logits, labels, self.recipe.label_smoothing, taught, self.class_weights, self.progress
            )
            self.update.step(losses)
            self.tally.add(losses.detach(), logits, labels)
            if average:
                self.averaging.move(self.network)
        return losses.detach()

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that steps change in place; momentum is there after the first step."""
        yield from self.network.parameters()
        yield from self.network.buffers()
        for optimizer in self.update.optimizers:
            for state in optimizer.state.values():
                yield from (value for value in state.values() if isinstance(value, Tensor))
        yield from self.averaging.parameters()
        yield from (self.tally.losses, self.tally.correct)

    def _taught(self, images: Tensor) -> Tensor | None:
        if self.teacher is None:
            return None
        with torch.no_grad():
            logits: list[Tensor] = self.teacher(images)
        return logits[-1]
