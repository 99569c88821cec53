"""Gradual pruning: channels are removed a few at a time while the network is trained."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from baselines.channels import Channel, remove_channels
from baselines.scoring_data import ScoringData
from compress.errors import UsageError
from compress.networks import Network
from compress.training import Hook
from compress.training.hooks import ReshapableTraining

LAST = 0.5  # share of a training's steps at which the last pruning happens; the rest recovers accuracy


@dataclass(frozen=True, kw_only=True)
class GradualPruning:
    """Prunings of a network at given shares of its training.

    Learning rates, costs and the optimiser's momentum, sliced like the weights, go on. An interrupted training resumes
    bit for bit if `choose` returns the same channels for the same network.

    Attributes:
        shares: shares of the training's steps, ascending, one for each pruning; see `even_shares`.
        choose: returns the channels to remove, given a copy of the network in eval mode and the pruning's index from 0.
        scoring: data that `choose` scores with; what it adds to `scoring.macs` is charged to the training.

    Raises:
        UsageError: the shares do not ascend from 0 to below 1.
    """

    shares: tuple[float, ...]
    choose: Callable[[Network, int], Iterable[Channel]]
    scoring: ScoringData

    def __post_init__(self) -> None:
        ascending = all(earlier < later for earlier, later in pairwise((*self.shares, 1.0)))
        if not self.shares or self.shares[0] < 0 or not ascending:
            raise UsageError(f"gradual pruning at {self.shares}: shares of the training, ascending from 0 to below 1")

    @property
    def hook(self) -> Hook:
        """The hook that prunes a training's network."""
        return Hook(before_step=self._before_step)

    def steps(self, total: int) -> list[int]:
        """The training steps before which the prunings happen; in short trainings several share a step."""
        return [min(round(share * total), total - 1) for share in self.shares]

    def _before_step(self, training: ReshapableTraining, done: int) -> None:
        for index, step in enumerate(self.steps(training.recipe.epochs * training.steps)):
            if step == done:
                self._prune(training, index, done)

    def _prune(self, training: ReshapableTraining, index: int, done: int) -> None:
        started, before = time.monotonic(), self.scoring.macs
        channels = list(self.choose(copy.deepcopy(training.network).eval(), index))
        training.spent.choosing_macs += self.scoring.macs - before
        training.spent.choosing_seconds += time.monotonic() - started
        if channels:
            training.reshape(lambda network: remove_channels(network, channels), done=done)


def even_shares(prunings: int) -> tuple[float, ...]:
    """Shares at equal distances over the first half of a training, the last in its middle."""
    return tuple(LAST * number / prunings for number in range(1, prunings + 1))
