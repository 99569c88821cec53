"""Contrasts: which networks are compared, with the difference in accuracy, its interval and its p of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage

from benchmarks.results.cells import millions
from benchmarks.statistics.difference import ALPHA, MARGIN, Difference, difference, holm, p_value
from benchmarks.statistics.scores import ENOUGH_SEEDS, Scores

CLASS = 0.02  # networks whose MACs differ by no more are of one budget class


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A network, and another that it is compared with, by their series.

    Attributes:
        p: of no difference; Holm-adjusted for all exploratory contrasts of the report's section.
        family: how many these are; 1 for the primary contrast.
    """

    network: str
    against: str
    found: Difference
    p: float
    family: int = 1
    primary: bool = False

    @property
    def pair(self) -> tuple[str, str]:
        """Both series."""
        return self.network, self.against

    @property
    def reversed(self) -> Contrast:
        """The same, seen from the other side."""
        found = Difference(estimate=-self.found.estimate, draws=-self.found.draws, seeds=self.found.seeds[::-1])
        return replace(self, network=self.against, against=self.network, found=found)

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves out zero, and the adjusted p-value does not take that back."""
        low, high = self.found.interval()
        return not low <= 0 <= high and self.p < ALPHA

    @property
    def verdict(self) -> str:
        """As in ``not distinguishable``, and whatever limits it. Equivalence is tested for the primary contrast."""
        low, high = self.found.interval()
        words = "not distinguishable"
        if self.distinguishable:
            words = "more accurate" if low > 0 else "less accurate"
        elif not low <= 0 <= high:
            words += (
                f" once {self.family} comparisons are corrected for" if self.family > 1 else f" at p = {self.p:.3f}"
            )
        seeds = min(self.found.seeds)
        if seeds < ENOUGH_SEEDS:
            return f"{words} (preliminary)"
        if self.primary and self.found.equivalent():
            words += f", and equivalent within {100 * MARGIN:g} points"
        return words


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What can be said of the networks of a section.

    Attributes:
        last: a row a network, its last exit, by series; `class` numbers its budget class.
        contrasts: the primary one first.
        notes: a line on what could not be compared.
    """

    last: pd.DataFrame
    reference: str | None
    contrasts: Sequence[Contrast]
    notes: Sequence[str]

    @property
    def primary(self) -> Contrast | None:
        """The contrast that was declared before the runs, if it could be made."""
        return next((one for one in self.contrasts if one.primary), None)

    @property
    def bold(self) -> frozenset[str]:
        """The series, of three seeds or more, that cannot be distinguished from the best of their class of several."""
        enough = {
            best: [one for one in contrasts if min(one.found.seeds) >= ENOUGH_SEEDS]
            for best, contrasts in self.within_classes.items()
        }
        equals = [key for own in enough.values() for one in own if not one.distinguishable for key in one.pair]
        return frozenset([*equals, *(best for best, own in enough.items() if own)])

    @property
    def within_classes(self) -> dict[str, list[Contrast]]:
        """The contrasts of every class of several networks with the best of it, by the best's series."""
        number = self.last["class"]
        return {
            best: [one for one in self.contrasts if best in one.pair and {number[key] for key in one.pair} == {own}]
            for own, best in _best(self.last).items()
        }


def judge(
    summary: pd.DataFrame,
    scores: Mapping[str, Scores],
    reference: str | None,
    primary: tuple[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Verdicts:
    """All contrasts that may be made: the primary one, with the reference, and within budget classes with the best.

    Args:
        summary: of `tables.summarise`, of networks on the same test images.
        scores: by series; networks without are not compared, and where the best of a class has none, nor is the class.
        primary: two series, declared before the runs; of different classes only if one is the reference.
        notes: are kept, with one more where the primary contrast is none that may be made.
    """
    last = summary[summary["last"]].set_index("series")
    last = last.assign(**{"class": budget_classes(last["macs"])})
    if primary and (reason := _inadmissible(primary, last, scores, reference)):
        primary, notes = None, [*notes, f"the primary contrast, as {reason}"]
    pairs = [pair for pair in _pairs(last, reference) if set(pair) <= scores.keys() and set(pair) != set(primary or ())]
    declared = [_contrast(primary, scores, primary=True)] if primary else []
    return Verdicts(last=last, reference=reference, contrasts=[*declared, *compare(pairs, scores)], notes=notes)


def compare(pairs: Sequence[tuple[str, str]], scores: Mapping[str, Scores]) -> list[Contrast]:
    """The exploratory contrasts of these pairs, their p-values adjusted by Holm's method for all of them."""
    found = [_contrast(pair, scores) for pair in pairs]
    adjusted = holm([contrast.p for contrast in found])
    return [replace(one, p=p, family=len(pairs)) for one, p in zip(found, adjusted, strict=True)]


def _contrast(pair: tuple[str, str], scores: Mapping[str, Scores], *, primary: bool = False) -> Contrast:
    one, two = (scores[key] for key in pair)
    found = difference(one, two)
    return Contrast(network=pair[0], against=pair[1], found=found, p=p_value(one, two, found), primary=primary)


def _inadmissible(
    primary: tuple[str, str], last: pd.DataFrame, scores: Mapping[str, Scores], reference: str | None
) -> str | None:
    """Why the primary contrast is none that may be made, if so."""
    if primary[0] == primary[1]:
        return "both of its networks are the same"
    if not set(primary) <= scores.keys():
        return "one of its networks has no predictions"
    if reference not in primary and last["class"][primary[0]] != last["class"][primary[1]]:
        sizes = " and ".join(f"{last['network'][key]} of {millions(last['macs'][key])} MACs" for key in primary)
        return f"{sizes} are of different budget classes and neither is the reference"
    return None


def budget_classes(macs: pd.Series) -> pd.Series:
    """A number for each network's budget class, cheapest first: all of one are within 2% of one another's MACs."""
    if len(macs) < 2:
        return pd.Series(1, index=macs.index)
    points = macs.astype(float).map(math.log).to_numpy()[:, None]
    found = fcluster(linkage(points, "complete"), math.log1p(CLASS), "distance")
    return macs.groupby(found).transform("min").rank(method="dense").astype(int)


def same_class(one: Mapping[Any, Any], two: Mapping[Any, Any]) -> bool:
    """Whether the MACs of two rows are within 2% of one another."""
    return abs(math.log(one["macs"] / two["macs"])) <= math.log1p(CLASS)


def _best(last: pd.DataFrame) -> dict[int, str]:
    """The most accurate network, by its mean, of every class with several."""
    classes = last["class"]
    several = sorted(classes[classes.duplicated()].unique())
    return {int(number): str(last["test_accuracy"][classes == number].idxmax()) for number in several}


def _pairs(last: pd.DataFrame, reference: str | None) -> list[tuple[str, str]]:
    """Every network with the reference, then within its class with the best, no two twice."""
    pairs = [(str(key), reference) for key in last.index if reference is not None]
    best = _best(last)
    pairs += [(str(key), best[number]) for key, number in last["class"].items() if number in best]
    return list({frozenset(pair): pair for pair in pairs if pair[0] != pair[1]}.values())


def beaten(last: pd.DataFrame) -> set[str]:
    best = _best(last)
    return {str(key) for key, number in last["class"].items() if best.get(number, key) != key}


def row_of(last: pd.DataFrame, key: str) -> pd.Series:
    row = last.loc[key]
    assert isinstance(row, pd.Series)  # series are there once
    return row
