"""Averaged weights: an exponential moving average of those after every step (ema), or the mean of epochs' (swa)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from compress.networks import Network
from compress.recipes import Recipe


class Averaging:
    """The averaged weights of a training with `steps` steps an epoch; nothing where the recipe averages nothing.

    The first average is a copy. From then on an ema moves within the step (`move`), which touches the device alone, and
    everything else happens between steps.

    Attributes:
        averaged: torch's averaged network, None without averaging. Buffers are copied at the end of an epoch.
    """

    def __init__(self, network: Network, recipe: Recipe, steps: int) -> None:
        self.ema, self.decay, self.steps = recipe.averaging == "ema", recipe.ema_decay, steps
        self.start = recipe.averaging_start * recipe.epochs * steps
        average = get_ema_multi_avg_fn(recipe.ema_decay) if self.ema else None
        self.averaged = None if recipe.averaging == "none" else AveragedModel(network, multi_avg_fn=average)

    @property
    def begun(self) -> bool:
        """Whether there are averaged weights."""
        return self.averaged is not None and bool(self.averaged.n_averaged > 0)  # a count on the host

    def parameters(self) -> Iterator[Tensor]:
        """The averaged weights."""
        yield from self.averaged.parameters() if self.averaged else ()

    @property
    def moving(self) -> bool:
        """Whether steps are to call `move`."""
        return self.ema and self.begun

    @torch.no_grad()
    def move(self, network: Network) -> None:
        """Move the averaged weights towards the network's; what torch does, without its questions and counts."""
        torch._foreach_lerp_([*self.parameters()], [*network.parameters()], 1 - self.decay)

    def after(self, network: Network, done: int) -> None:
        """Count the step after `done` others, or average the weights that it left."""
        if not self.averaged or done + 1 < self.start:
            return
        if self.moving:
            self.averaged.n_averaged += 1
        elif self.ema or (done + 1) % self.steps == 0:
            self.averaged.update_parameters(network)

    @torch.no_grad()
    def end_epoch(self, network: Network) -> None:
        """Copy the buffers, which are not averaged."""
        if self.averaged and self.begun:
            for own, buffer in zip(self.averaged.module.buffers(), network.buffers(), strict=True):
                own.copy_(buffer)
