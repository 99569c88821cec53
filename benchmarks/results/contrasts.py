"""Contrasts: the pairs of networks that are compared, each with its difference in accuracy, interval and p-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from benchmarks.results.budget_classes import budget_classes
from benchmarks.statistics.difference import ALPHA, Difference, difference, holm, p_value
from benchmarks.statistics.scores import ENOUGH_SEEDS, Scores


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A network and another that it is compared with, by their series.

    Attributes:
        p: p-value, adjusted by Holm's method for all exploratory contrasts of the report's section.
        family: their number.
    """

    network: str
    against: str
    found: Difference
    p: float
    family: int = 1

    @property
    def pair(self) -> tuple[str, str]:
        """Both series."""
        return self.network, self.against

    @property
    def reversed(self) -> Contrast:
        """The contrast of the second network with the first."""
        found = Difference(estimate=-self.found.estimate, draws=-self.found.draws, seeds=self.found.seeds[::-1])
        return replace(self, network=self.against, against=self.network, found=found)

    @property
    def distinguishable(self) -> bool:
        """Whether the interval excludes zero and the adjusted p-value is significant as well."""
        low, high = self.found.interval()
        return not low <= 0 <= high and self.p < ALPHA

    @property
    def verdict(self) -> str:
        """As in ``more accurate (preliminary)``."""
        low, high = self.found.interval()
        words = "not distinguishable"
        if self.distinguishable:
            words = "more accurate" if low > 0 else "less accurate"
        elif not low <= 0 <= high:
            words += (
                f" once {self.family} comparisons are corrected for" if self.family > 1 else f" at p = {self.p:.3f}"
            )
        return f"{words} (preliminary)" if min(self.found.seeds) < ENOUGH_SEEDS else words


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
) -> Verdicts:
    """All contrasts with the reference, and those with the best of a budget class.

    Args:
        summary: by `rows.summarise`, of networks on the same test images.
        scores: by series; networks without scores are not compared.
        notes: a line on everything that could not be compared.
    """
    last = summary[summary["last"]].set_index("series")
    last = last.assign(**{"class": budget_classes(last["macs"])})
    pairs = [pair for pair in _pairs(last, reference) if set(pair) <= scores.keys()]
    return Verdicts(last=last, reference=reference, contrasts=compare(pairs, scores), notes=notes)


def compare(pairs: Sequence[tuple[str, str]], scores: Mapping[str, Scores]) -> list[Contrast]:
    """Exploratory contrasts of the pairs, with p-values adjusted by Holm's method for all of them."""
    found = [_contrast(pair, scores) for pair in pairs]
    adjusted = holm([contrast.p for contrast in found])
    return [replace(contrast, p=p, family=len(pairs)) for contrast, p in zip(found, adjusted, strict=True)]


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
