"""Gradual pruning: channels go while the network is trained, a few at a time, and nothing starts anew."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from baselines.channels import Channel, remove_channels
from baselines.evidence import Evidence
from compress.errors import UsageError
from compress.networks import Network
from compress.training import Hook
from compress.training.hooks import ReshapableTraining

LAST = 0.5  # the share of a training's steps after which nothing is pruned any more, so that the rest mends it


@dataclass(frozen=True, kw_only=True)
class Gradual:
    """Prunings at set shares of a training's steps, before which the network has the widths that it came with.

    The optimiser's momentum is sliced along with the weights, and schedule and costs go on; so an interrupted training
    goes on bit for bit, as long as `choose` gives the same channels for the same network.

    Attributes:
        shares: of the training's steps, one a pruning, ascending; see `even_shares`.
        choose: the channels to remove from a network at a stage, 0 for the first. It is given a copy in eval mode; when
            the last stage is over, the network must be what the budget asks.
        evidence: what `choose` looks at; what it adds to `evidence.macs` is charged to the training.

    Raises:
        UsageError: the shares do not ascend from 0 to below 1.
    """

    shares: tuple[float, ...]
    choose: Callable[[Network, int], Iterable[Channel]]
    evidence: Evidence

    def __post_init__(self) -> None:
        ascending = all(one < other for one, other in pairwise((*self.shares, 1.0)))
        if not self.shares or self.shares[0] < 0 or not ascending:
            raise UsageError(f"gradual pruning at {self.shares}: shares of the training, ascending from 0 to below 1")

    @property
    def hook(self) -> Hook:
        """What a training is given to be pruned on its way."""
        return Hook(before_step=self._before_step)

    def steps(self, total: int) -> list[int]:
        """The step, of so many, before which every pruning happens; short trainings have several before one."""
        return [min(round(share * total), total - 1) for share in self.shares]

    def _before_step(self, training: ReshapableTraining, done: int) -> None:
        for stage, step in enumerate(self.steps(training.recipe.epochs * training.steps)):
            if step == done:
                self._prune(training, stage, done)

    def _prune(self, training: ReshapableTraining, stage: int, done: int) -> None:
        started, before = time.monotonic(), self.evidence.macs
        channels = list(self.choose(copy.deepcopy(training.network).eval(), stage))
        training.spent.choosing_macs += self.evidence.macs - before
        training.spent.choosing_seconds += time.monotonic() - started
        if channels:
            training.reshape(lambda network: remove_channels(network, channels), done=done)


def even_shares(prunings: int) -> tuple[float, ...]:
    """Shares at equal distances over the first half of a training, the last one in its middle."""
    return tuple(LAST * number / prunings for number in range(1, prunings + 1))
