"""Risks of early exit, as losses against the last exit, and the tests that such a risk is at most epsilon."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from compress.errors import UsageError, nearest

BETS = np.linspace(0.05, 0.95, 10)  # constant bets, as shares of the largest under which no loss takes everything
MOST_IMAGES = 10**9  # where more would be needed, none would do
BOUNDS = 400  # values between -1 and epsilon at which an upper bound is looked for
Losses = NDArray[np.int8]


class Risk(ABC):
    """The mean of a loss that early exit has against the last exit.

    Attributes:
        labelled: whether the loss needs the true labels.
    """

    name: ClassVar[str]
    labelled: ClassVar[bool]

    @abstractmethod
    def losses(self, logits: NDArray[Any], labels: NDArray[np.int64] | None, margin: float = 0.0) -> Losses:
        """The loss `(exits, N)` of leaving at each exit, from the logits `(exits, N, classes)`; 0 at the last.

        Where two classes are so close that rounding may swap them (`uncertain`), it is the larger of possible losses.
        """

    @abstractmethod
    def passes(self, losses: Losses, epsilon: float, delta: float) -> bool:
        """Whether a test with error probability `delta` rejects that the mean of losses `(N,)` is above epsilon."""

    @abstractmethod
    def bound(self, losses: Losses, epsilon: float, delta: float) -> float:
        """The upper confidence bound at 1 - delta of the mean of losses `(N,)` that pass at epsilon."""

    @abstractmethod
    def would_pass(self, losses: Losses, epsilon: float, delta: float, n: int) -> bool:
        """Whether n images would pass whose losses are mixed as these `(N,)` are."""

    def needed(self, losses: Losses, epsilon: float, delta: float) -> int | None:
        """The fewest images that would pass if losses went on as in these `(N,)`; None where no number would do.

        It is an estimate, unless there is no loss: then with fewer images nothing passes.
        """
        if losses.mean() >= epsilon:
            return None
        counts = range(1, MOST_IMAGES)
        place = bisect_left(counts, True, key=lambda n: self.would_pass(losses, epsilon, delta, n))
        return counts[place] if place < len(counts) else None


class Agreement(Risk):
    """The share of images whose label is not the last exit's; the test is binomial."""

    name = "agreement"
    labelled = False

    def losses(self, logits: NDArray[Any], labels: NDArray[np.int64] | None, margin: float = 0.0) -> Losses:
        """1 where the label may differ from the last exit's."""
        predicted, unsure = logits.argmax(axis=-1), uncertain(logits, margin)
        losses = (predicted != predicted[-1]) | unsure | unsure[-1]
        losses[-1] = False
        return np.asarray(losses, dtype=np.int8)

    def passes(self, losses: Losses, epsilon: float, delta: float) -> bool:
        """Whether so few disagreements have a probability of at most delta where the share is epsilon."""
        return bool(stats.binom.cdf(losses.sum(dtype=np.int64), len(losses), epsilon) <= delta)

    def bound(self, losses: Losses, epsilon: float, delta: float) -> float:
        """Clopper and Pearson's bound, which inverts the test."""
        disagreements = int(losses.sum(dtype=np.int64))
        return float(stats.beta.ppf(1 - delta, disagreements + 1, len(losses) - disagreements))

    def would_pass(self, losses: Losses, epsilon: float, delta: float, n: int) -> bool:
        """The binomial test, continued to a number of disagreements that is not whole."""
        disagreements = n * float(losses.mean())
        return bool(special.betainc(n - disagreements, disagreements + 1, 1 - epsilon) <= delta)


class Drop(Risk):
    """The accuracy of the last exit less that of early exit; the test bets against it, image after image.

    The wealth prod_i (1 - nu_i (L_i - epsilon)) is a non-negative supermartingale where the mean loss is above epsilon,
    so it ever reaches 1/delta with probability delta at most (Ville's inequality). Source: Waudby-Smith & Ramdas 2024,
    arXiv 2010.09686.
    """

    name = "drop"
    labelled = True

    def losses(self, logits: NDArray[Any], labels: NDArray[np.int64] | None, margin: float = 0.0) -> Losses:
        """1 where the last exit is right and the exit wrong, -1 where it is the reverse."""
        assert labels is not None
        right, unsure = logits.argmax(axis=-1) == labels, uncertain(logits, margin)
        losses = (right | unsure)[-1].astype(np.int8) - (right & ~unsure)
        losses[-1] = 0
        return np.asarray(losses, dtype=np.int8)

    def passes(self, losses: Losses, epsilon: float, delta: float) -> bool:
        """Whether the wealth reaches 1/delta."""
        return bool(log_wealth(losses, epsilon).max() >= -math.log(delta))

    def bound(self, losses: Losses, epsilon: float, delta: float) -> float:
        """The smallest of falling values, from epsilon on, before the first at which the losses do not pass."""
        lowest = epsilon
        for value in np.linspace(epsilon, -1, BOUNDS, endpoint=False):
            if not self.passes(losses, float(value), delta):
                break
            lowest = float(value)
        return lowest

    def would_pass(self, losses: Losses, epsilon: float, delta: float, n: int) -> bool:
        """Whether the wealth, the mean of that of the constant bets, ends at 1/delta if each goes on growing so."""
        growth = gains_of_bets(epsilon)[:, losses + 1].mean(axis=1)
        return bool(np.logaddexp.reduce(n * growth) >= math.log(len(BETS) / delta))


RISKS: dict[str, Risk] = {risk.name: risk for risk in (Drop(), Agreement())}


def risk_named(name: str) -> Risk:
    """The risk with this name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in RISKS:
        raise UsageError(f"risk {name!r}: {nearest(name, RISKS)}")
    return RISKS[name]


def uncertain(logits: NDArray[Any], margin: float) -> NDArray[np.bool_]:
    """Whether the two largest logits `(..., classes)` differ by no more than a margin, relative to the largest."""
    if not margin:
        return np.zeros(logits.shape[:-1], dtype=np.bool_)
    second, first = np.moveaxis(np.partition(logits, -2, axis=-1)[..., -2:], -1, 0)
    return np.asarray(first - second <= margin * np.abs(logits).max(axis=-1))


def log_wealth(losses: Losses, epsilon: float) -> NDArray[np.float64]:
    """The logarithm of the wealth `(N,)` after every image, from 1 on, of bets against a mean above epsilon."""
    return np.log1p(-bets(losses, epsilon) * (losses - epsilon)).cumsum(axis=-1)


def bets(losses: Losses, epsilon: float) -> NDArray[np.float64]:
    """The bet nu_i, `(N,)`, on each image, from the images before it alone: the mean of constant bets by their wealth.

    It earns what the mean of the constant bets does, so nearly what the best of them does, without knowing which.
    """
    before = earned_before(gains_of_bets(epsilon)[:, losses + 1])
    weights = np.exp(before - before.max(axis=0))
    return np.asarray(np.tensordot(BETS / (1 - epsilon), weights, axes=1) / weights.sum(axis=0))


def gains_of_bets(epsilon: float) -> NDArray[np.float64]:
    """The gain in log wealth of each constant bet at a loss of -1, 0 and 1, `(bets, 3)`."""
    return np.asarray(np.log1p(-np.multiply.outer(BETS / (1 - epsilon), np.array([-1, 0, 1]) - epsilon)))


def earned_before(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of the gains `(..., N)` of the images before each one: a bet must not know its own image."""
    before = np.zeros_like(gains)
    gains[..., :-1].cumsum(axis=-1, out=before[..., 1:])
    return before
