"""Gradual pruning: channels are removed a few at a time while the network is trained."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

from baselines.channels import Channels, remove_channels
from baselines.scoring_data import ScoringData
from compress.networks import Network
from compress.training import Hook
from compress.training.hooks import ReshapableTraining

LAST = 0.5  # share of a training's steps at which the last pruning happens; the rest recovers accuracy


def even_shares(prunings: int) -> tuple[float, ...]:
    """Shares at equal distances over the first half of a training, the last in its middle."""
    return tuple(LAST * number / prunings for number in range(1, prunings + 1))


def steps_at(shares: Sequence[float], total: int) -> list[int]:
    """The training steps before which prunings at these shares happen; in short trainings several share a step."""
    return [min(round(share * total), total - 1) for share in shares]


def gradual_pruning(shares: Sequence[float], choose: Callable[[Network, int], Channels], scoring: ScoringData) -> Hook:
    """A hook that prunes a network at given shares of its training.

    Learning rates, costs and the optimiser's momentum, sliced like the weights, go on. An interrupted training resumes
    bit for bit if `choose` returns the same channels for the same network.

    Args:
        shares: shares of the training's steps, ascending, one for each pruning; see `even_shares`.
        choose: returns the channels to remove, given a copy of the network in eval mode and the pruning's index from 0.
        scoring: data that `choose` scores with; what it adds to `scoring.macs` is charged to the training.
    """

    def prune(training: ReshapableTraining, index: int, done: int) -> None:
        started, before = time.monotonic(), scoring.macs
        channels = choose(copy.deepcopy(training.network).eval(), index)
        training.spent.choosing_macs += scoring.macs - before
        training.spent.choosing_seconds += time.monotonic() - started
        if any(channels.values()):
            training.reshape(lambda network: remove_channels(network, channels), done=done)

    def before_step(training: ReshapableTraining, done: int) -> None:
        for index, step in enumerate(steps_at(shares, training.recipe.epochs * training.steps)):
            if step == done:
                prune(training, index, done)

    return Hook(before_step=before_step)
