"""Verdicts: which networks differ from the reference and within a budget class, in words that their intervals carry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage

from benchmarks.escaping import SENTENCE, inline
from benchmarks.statistics import ALPHA, DRAWS, MARGIN, Difference, Scores, difference, holm, p_value
from benchmarks.tables import CONFIDENCE, ENOUGH_SEEDS, MISSING, exit_name, markdown, millions

CLASS = 0.02  # networks whose MACs differ by no more are of one budget class
SENTENCES = 12  # more comparisons are put into words for the best of their class alone
METHOD = (
    f"Differences in test accuracy of last exits, in points, with {CONFIDENCE:.0%} intervals: test images are "
    f"resampled {DRAWS:,} times, the same for both networks, and Student's t adds the scatter of seeds, paired where "
    "both networks have the same. Compared are every network with the reference and, in each budget class (MACs within "
    f"{CLASS:.0%} of one another), every network with the most accurate one. p is the bootstrap's or, between single "
    "seeds, that of McNemar's exact test. Images are compared by stored predictions, rounded to float16, which turns "
    "one or two of them: a difference may be off that of the tables by as much."
)


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


def verdicts_section(verdicts: Verdicts) -> list[str]:
    """The verdicts in words, the primary contrast apart, and a table of all contrasts; nothing where there is none."""
    lines = [f"- not compared: {inline(note, SENTENCE)}" for note in verdicts.notes]
    notes = ["\n".join(lines)] if lines else []
    if not verdicts.contrasts:
        return ["### Verdicts", *notes] if notes else []
    primary = [one for one in verdicts.contrasts if one.primary]
    others = [one for one in verdicts.contrasts if not one.primary]
    spoken = others
    if len(others) > SENTENCES:
        alone_or_best = set(verdicts.last.index) - _beaten(verdicts.last)
        spoken = [one for one in others if one.network in alone_or_best and one.against == verdicts.reference]
    lines = [f"- {sentence(one, verdicts.last)}" for one in spoken]
    if len(others) > SENTENCES:
        lines += _class_lines(verdicts)
    declared = [f"**Primary contrast**, declared before the runs: {sentence(one, verdicts.last)}." for one in primary]
    equivalence = (
        f" Equivalent: the {1 - 2 * ALPHA:.0%} interval is within ±{100 * MARGIN:g} points." if primary else ""
    )
    comparisons = f"{len(others)} comparison{'s' if len(others) > 1 else ''} of this section"
    correction = f"Exploratory, p adjusted by Holm for {comparisons}:"
    exploratory = [correction, "\n".join(lines)] if lines else [correction] if others else []
    return [
        "### Verdicts",
        f"{METHOD}{equivalence}",
        *declared,
        *exploratory,
        markdown(contrasts_table(verdicts)),
        *notes,
    ]


def sentence(contrast: Contrast, last: pd.DataFrame) -> str:
    """As in ``A (exit 5) against B: +0.21 points, 95% interval [-0.05, 0.47], n = 5: not distinguishable; at ...``."""
    one, two = _row(last, contrast.network), _row(last, contrast.against)
    low, high = contrast.found.interval()
    said = (
        f"{exit_name(one)} against {exit_name(two)}: {100 * contrast.found.estimate:+z.2f} points, "
        f"{CONFIDENCE:.0%} interval [{100 * low:z.2f}, {100 * high:z.2f}], n = {_seeds(contrast)}: {contrast.verdict}"
    )
    alone = [exit_name(row) for row, seeds in zip((one, two), contrast.found.seeds, strict=True) if seeds == 1]
    if alone:
        whose = "" if len(alone) == 2 else f" of {alone[0]}"
        said += f"; one seed{whose}: training's own scatter is not in the interval"
    return f"{said}; at {100 * one['macs'] / two['macs']:.0f}% of its MACs{_latency(one, two)}"


def contrasts_table(verdicts: Verdicts) -> pd.DataFrame:
    """A row a contrast, as text."""
    rows = [
        {
            "network": exit_name(_row(verdicts.last, one.network)),
            "against": exit_name(_row(verdicts.last, one.against)),
        }
        | contrast_cells(one)
        for one in verdicts.contrasts
    ]
    table = pd.DataFrame(rows).fillna(MISSING)
    return table[[*(column for column in table if column != "verdict"), "verdict"]]


def contrast_cells(contrast: Contrast) -> dict[str, str]:
    """What a table says of a contrast, by column; the verdict last."""
    p = {"p" if contrast.primary else "p, adjusted": _p(contrast.p)}
    return difference_cells(contrast) | p | {"verdict": contrast.verdict}


def difference_cells(contrast: Contrast) -> dict[str, str]:
    """The same without a verdict."""
    low, high = contrast.found.interval()
    return {
        "difference, points": f"{100 * contrast.found.estimate:+z.2f}",
        f"{CONFIDENCE:.0%} interval": f"{100 * low:z.2f} to {100 * high:z.2f}",
        "n": _seeds(contrast),
    }


def _class_lines(verdicts: Verdicts) -> list[str]:
    """A line on every class of several networks: how many of them can be told from the best."""
    lines = []
    for best, own in verdicts.within_classes.items():
        told, row = sum(one.distinguishable for one in own), _row(verdicts.last, best)
        if own:
            few = min(min(one.found.seeds) for one in own) < ENOUGH_SEEDS
            others = f"{len(own)} other{'' if len(own) == 1 else 's'}"
            lines.append(
                f"- {exit_name(row)} has the highest accuracy at {millions(row['macs'])} MACs: of {others} {told} can "
                f"be distinguished from it{' (preliminary)' if few else ''}"
            )
    return lines


def _beaten(last: pd.DataFrame) -> set[str]:
    best = _best(last)
    return {str(key) for key, number in last["class"].items() if best.get(number, key) != key}


def _row(last: pd.DataFrame, key: str) -> pd.Series:
    row = last.loc[key]
    assert isinstance(row, pd.Series)  # series are there once
    return row


def _seeds(contrast: Contrast) -> str:
    return " and ".join(str(count) for count in dict.fromkeys(contrast.found.seeds))


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _latency(one: pd.Series, two: pd.Series) -> str:
    """As in ``, 0.41x its latency (eager, fp32, cpu, 1 thread(s), batch 1)``; nothing unless measured together.

    Where the second is not the one that both were timed against, a quotient of ratios stands for it, and is called so.
    """
    batches = [str(column) for column in one.index if str(column).startswith("latency_ratio_b")]
    if not batches or pd.isna(one["bench_session"]) or one["bench_session"] != two["bench_session"]:
        return ""
    ratio = one[batches[0]] / two[batches[0]]
    if pd.isna(ratio):
        return ""
    batch = batches[0].removeprefix("latency_ratio_b")
    said = f"{one['latency_conditions']}, batch {batch}"
    if two["latency_reference"] != f"{two['run']} exit {two['exit']}":
        said += ", a quotient of ratios"
    noisy = "; noisy" if max(one["latency_noisy"], two["latency_noisy"]) > 0 else ""
    return f", {ratio:.2f}x its latency ({said}{noisy})"
