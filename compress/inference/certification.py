"""Certification: learn-then-test with a fixed sequence, along a path of policies that was chosen on other images.

Source: Angelopoulos et al. 2021, Learn then Test (arXiv 2110.01052); for early exit Jazbec et al. 2024 (arXiv
2405.20915). Every policy is tested at the full error probability, since the walk ends at the first failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.inference.policy import Policy
from compress.inference.possible_exits import possible_exits
from compress.inference.risks import Losses, Risk

ABSENT = np.int8(-2)  # below every loss


def certify_path(
    path: Sequence[Policy],
    logits: NDArray[Any],
    labels: NDArray[np.int64] | None,
    risk: Risk,
    *,
    epsilon: float,
    delta: float,
    margin: float,
    seed: int,
) -> tuple[int, Losses] | None:
    """The most eager policy that is certified: its place on the path, and its losses `(N,)` on the images.

    None where the images are too few for any: even the first policy, without a loss, fails.

    Args:
        path: from conservative to eager.
        logits: of calibration images at every exit, `(exits, N, classes)`; the path must not depend on them.
        labels: of the images `(N,)`; None where the risk needs none.
        margin: of the logits, see `possible_exits`.
        seed: of the order in which the images are taken.
    """
    order = np.random.default_rng(seed).permutation(logits.shape[1])
    logits, labels = logits[:, order], None if labels is None else labels[order]
    at_exits = risk.losses(logits, labels, margin)
    losses = (worst_losses(policy, logits, at_exits, margin) for policy in path)
    step = last_passed(losses, lambda losses: risk.passes(losses, epsilon, delta))
    return None if step is None else (step, worst_losses(path[step], logits, at_exits, margin))


def last_passed(losses: Iterable[Losses], passes: Callable[[Losses], bool]) -> int | None:
    """The place of the last losses before the first that do not pass; None where the first do not."""
    last = None
    for place, each in enumerate(losses):
        if not passes(each):
            break
        last = place
    return last


def worst_losses(policy: Policy, logits: NDArray[Any], losses: Losses, margin: float) -> Losses:
    """The loss `(N,)` of each image by a policy, from those at every exit `(exits, N)`; the largest possible one."""
    return np.asarray(np.where(possible_exits(logits, policy, margin), losses, ABSENT).max(axis=0), dtype=np.int8)
