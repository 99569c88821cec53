"""Difference: how much two networks' accuracies differ, with intervals and p-values over seeds and test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from benchmarks.statistics.scores import CONFIDENCE, Scores

DRAWS = 10_000  # of the bootstrap
JOINT_DRAWS = 2_000  # of the bootstrap of many networks at once, which gives a share to 1 point
BLOCK = 1_000_000  # images drawn at a time
ALPHA = 1 - CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One network's mean accuracy minus another's, a fraction.

    Attributes:
        draws: bootstrap draws of it, `(DRAWS,)`, see `difference`.
        seeds: number of seeds of each network.
    """

    estimate: float
    draws: np.ndarray = field(repr=False)
    seeds: tuple[int, int]

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """The central interval of the draws that holds a share `confidence` of them."""
        low, high = np.percentile(self.draws, [50 * (1 - confidence), 50 * (1 + confidence)])
        return float(low), float(high)

    @property
    def p(self) -> float:
        """Two-sided p-value: twice the share of draws on the rarer side of zero, at least 2 in `DRAWS`."""
        rarer = min((self.draws <= 0).sum(), (self.draws >= 0).sum())
        return min(1.0, 2 * float(rarer + 1) / (len(self.draws) + 1))


def difference(first: Scores, second: Scores) -> Difference:
    """How much more accurate the first network is on the same images, by a bootstrap over images and seeds.

    Images are resampled, jointly for both networks. Then Student's t is added, scaled to the scatter between seeds that
    the choice of images does not explain: resampling three to five seeds never shows more than these, and its intervals
    held the truth in 76 and 88% of simulations in which seeds decide; this method's did in 92 to 97%. Seeds are paired
    where both networks have the same ones, and otherwise independent. A single seed has no scatter.
    """
    rng = np.random.default_rng(0)
    ours, theirs = first.right.astype(float), second.right.astype(float)
    by_image = ours.mean(axis=0) - theirs.mean(axis=0)
    draws = _over_images(by_image, rng)
    for values in [ours - theirs] if first.seeds == second.seeds else [ours, theirs]:
        draws += _over_seeds(values, rng)
    return Difference(estimate=float(by_image.mean()), draws=draws, seeds=(len(first.seeds), len(second.seeds)))


def _over_images(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means `(DRAWS,)` over resampled images; equal values are drawn together, by their number."""
    found, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(len(values), counts / len(values), size=DRAWS) @ found
    return np.asarray(drawn / len(values), dtype=float)


def _over_seeds(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Errors `(DRAWS,)` that seeds cause in the mean of values `(seeds, images)`; zero for one seed."""
    seeds, images = values.shape
    if seeds == 1:
        return np.zeros(DRAWS)
    explained = values.var(axis=0, ddof=1).mean() / images  # luck with single images is drawn with the images
    scatter = max(0.0, values.mean(axis=1).var(ddof=1) - explained)
    drawn = stats.t.rvs(seeds - 1, size=DRAWS, random_state=rng)
    return np.asarray(drawn * (scatter / seeds) ** 0.5, dtype=float)


def accuracy_draws(networks: Sequence[Scores]) -> np.ndarray:
    """Bootstrap draws of accuracies, `(JOINT_DRAWS, networks)`, on jointly resampled images.

    As in `difference`, Student's t of the seeds' scatter is added; networks with the same seeds share its random
    numbers, so that they move together as their seeds did.
    """
    rng = np.random.default_rng(0)
    right = np.stack([network.right.sum(axis=0, dtype=np.float32) for network in networks], axis=1)
    images, seeds = len(right), np.array([len(network.seeds) for network in networks])
    block = max(1, BLOCK // images)
    sizes = [min(block, JOINT_DRAWS - first) for first in range(0, JOINT_DRAWS, block)]
    # Products of whole numbers, exact in single precision: equal values stay equal, on every machine.
    drawn = np.concatenate([_image_counts(images, size, rng) @ right for size in sizes])
    draws: np.ndarray = drawn.astype(float) / (images * seeds)
    for shared in dict.fromkeys(network.seeds for network in networks if len(network.seeds) > 1):
        columns = [column for column, network in enumerate(networks) if network.seeds == shared]
        draws[:, columns] += _over_shared_seeds([networks[column].right for column in columns], rng)
    return draws


def _image_counts(images: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often every image is drawn, `(draws, images)`."""
    drawn = rng.integers(images, size=(draws, images)) + images * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * images).reshape(draws, images)
    return np.asarray(counts, dtype=np.float32)


def _over_shared_seeds(right: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Errors `(JOINT_DRAWS, networks)` that shared seeds cause in the means of `(seeds, images)`: multivariate t."""
    seeds = len(right[0])
    deviations = np.stack([_unexplained(values.astype(float)) for values in right], axis=1)
    normal = rng.standard_normal((JOINT_DRAWS, seeds))
    scale = np.sqrt(seeds * rng.chisquare(seeds - 1, size=(JOINT_DRAWS, 1)))
    return np.asarray(normal @ deviations / scale, dtype=float)


def _unexplained(values: np.ndarray) -> np.ndarray:
    """The deviation of each seed's mean, `(seeds,)`, shrunk by what the choice of images explains."""
    explained = values.var(axis=0, ddof=1).mean() / values.shape[1]
    means = values.mean(axis=1)
    scatter = means.var(ddof=1)
    return np.asarray((means - means.mean()) * max(0.0, 1 - explained / scatter) ** 0.5 if scatter else 0 * means)


def mcnemar_p(first: np.ndarray, second: np.ndarray) -> float:
    """P-value of McNemar's exact test of two trained networks, given the images each got right, bools `(images,)`.

    It is the two-sided binomial test of the images that only one of them got right.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    apart = only_first + only_second
    return float(stats.binomtest(only_first, apart).pvalue) if apart else 1.0


def p_value(first: Scores, second: Scores, found: Difference) -> float:
    """P-value of no difference: McNemar's between single seeds, otherwise the bootstrap's."""
    return mcnemar_p(first.right[0], second.right[0]) if found.seeds == (1, 1) else found.p


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's method, which rejects any true hypothesis in at most 5% of families at 5%."""
    order = np.argsort(p_values)
    factors = np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors))
    return [float(p) for p in adjusted]
