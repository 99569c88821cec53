"""Contrasts: the pairs of networks that are compared, each with its difference in accuracy, interval and p-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from benchmarks.results.budget_classes import budget_classes
from benchmarks.results.caveats import with_caveat
from benchmarks.results.rulings import Ruling
from benchmarks.statistics.difference import ALPHA, Difference, difference, holm, p_value
from benchmarks.statistics.scores import ENOUGH_SEEDS, Scores


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A network and another that it is compared with, by their series.

    Attributes:
        p: p-value, adjusted by Holm's method for all contrasts of the report's section.
        family: their number.
        ruling: what the primary contrasts say of the pair, if it was declared: it stands for the verdict.
    """

    network: str
    against: str
    found: Difference
    p: float
    family: int = 1
    ruling: Ruling | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """Both series."""
        return self.network, self.against

    @property
    def reversed(self) -> Contrast:
        """The contrast of the second network with the first."""
        found = Difference(estimate=-self.found.estimate, draws=-self.found.draws, seeds=self.found.seeds[::-1])
        ruling = self.ruling and self.ruling.reversed
        return replace(self, network=self.against, against=self.network, found=found, ruling=ruling)

    @property
    def sign(self) -> int:
        """1 where the first network is shown to be the more accurate, -1 where the other is, 0 where neither is.

        Shown is what the interval and the adjusted p-value both say; of a declared pair, what its ruling says.
        """
        if self.ruling:
            return self.ruling.sign
        low, high = self.found.interval()
        if low <= 0 <= high or self.p >= ALPHA:
            return 0
        return 1 if low > 0 else -1

    @property
    def distinguishable(self) -> bool:
        """Whether one of both is shown to be the more accurate."""
        return self.sign != 0

    @property
    def verdict(self) -> str:
        """As in ``more accurate (preliminary)`` or ``primary contrast 1: open``."""
        if self.ruling:
            return str(self.ruling)
        low, high = self.found.interval()
        words = {1: "more accurate", -1: "less accurate", 0: "not distinguishable"}[self.sign]
        if not self.sign and not low <= 0 <= high:
            words += (
                f" once {self.family} comparisons are corrected for" if self.family > 1 else f" at p = {self.p:.3f}"
            )
        return with_caveat(words, self.found.seeds)


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """All contrasts of a section's networks.

    Attributes:
        last: a row a network, for its last exit, indexed by series; `class` numbers its budget class.
        notes: a line on everything that could not be compared.
    """

    last: pd.DataFrame
    reference: str | None
    contrasts: Sequence[Contrast]
    notes: Sequence[str]

    @property
    def bold(self) -> frozenset[str]:
        """The series with enough seeds that are the best of their budget class, or not distinguishable from it."""
        bold = set()
        for best, contrasts in self.within_classes.items():
            enough = [contrast for contrast in contrasts if min(contrast.found.seeds) >= ENOUGH_SEEDS]
            bold |= {best} if enough else set()
            bold |= {key for contrast in enough if not contrast.distinguishable for key in contrast.pair}
        return frozenset(bold)

    @property
    def within_classes(self) -> dict[str, list[Contrast]]:
        """The contrasts with the best network of each budget class, by the best network's series."""
        classes = self.last["class"]
        return {
            best: [
                contrast
                for contrast in self.contrasts
                if best in contrast.pair and all(classes[key] == number for key in contrast.pair)
            ]
            for number, best in _best(self.last).items()
        }


def judge(
    summary: pd.DataFrame,
    scores: Mapping[str, Scores],
    reference: str | None,
    notes: Sequence[str] = (),
    rulings: Mapping[tuple[str, str], Ruling] = {},
) -> Verdicts:
    """All contrasts with the reference, and those with the best of a budget class.

    Args:
        summary: by `rows.summarise`, of networks on the same test images.
        scores: by series; networks without scores are not compared.
        notes: a line on everything that could not be compared.
        rulings: on the pairs that were declared in the study's file.
    """
    last = summary[summary["last"]].set_index("series")
    last = last.assign(**{"class": budget_classes(last["macs"])})
    pairs = [pair for pair in _pairs(last, reference) if set(pair) <= scores.keys()]
    return Verdicts(last=last, reference=reference, contrasts=compare(pairs, scores, rulings), notes=notes)


def compare(
    pairs: Sequence[tuple[str, str]],
    scores: Mapping[str, Scores],
    rulings: Mapping[tuple[str, str], Ruling] = {},
) -> list[Contrast]:
    """Contrasts of the pairs, with p-values adjusted by Holm's method for all of them, and the rulings on them."""
    found = [_contrast(pair, scores) for pair in pairs]
    adjusted = holm([contrast.p for contrast in found])
    return [
        replace(contrast, p=p, family=len(pairs), ruling=rulings.get(contrast.pair))
        for contrast, p in zip(found, adjusted, strict=True)
    ]


def _contrast(pair: tuple[str, str], scores: Mapping[str, Scores]) -> Contrast:
    first, second = (scores[key] for key in pair)
    found = difference(first, second)
    return Contrast(network=pair[0], against=pair[1], found=found, p=p_value(first, second, found))


def _best(last: pd.DataFrame) -> dict[int, str]:
    """The series with the highest mean accuracy in every budget class of several networks, by the class's number."""
    classes = last["class"]
    several = sorted(classes[classes.duplicated()].unique())
    return {int(number): str(last["test_accuracy"][classes == number].idxmax()) for number in several}


def _pairs(last: pd.DataFrame, reference: str | None) -> list[tuple[str, str]]:
    """Each network with the reference and with the best of its budget class, every pair once."""
    pairs = [(str(key), reference) for key in last.index if reference is not None]
    best = _best(last)
    pairs += [(str(key), best[number]) for key, number in last["class"].items() if number in best]
    return list({frozenset(pair): pair for pair in pairs if pair[0] != pair[1]}.values())


def row_of(last: pd.DataFrame, key: str) -> pd.Series:
    """The row of a series."""
    row = last.loc[key]
    assert isinstance(row, pd.Series)  # every series has one row
    return row
