"""Main effects: what each factor of a screen changes, on the images that a choice may be made by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from benchmarks.report.comparison import Comparison, Screen
from benchmarks.report.section import Section, Table, Text
from benchmarks.results.arms import plainly_trained
from benchmarks.results.candidates import RULE, candidate
from benchmarks.results.cells import MISSING, Number
from benchmarks.results.escaping import inline
from benchmarks.statistics.main_effects import Effect, main_effects
from benchmarks.statistics.scores import CONFIDENCE
from compress.runs import Run

Response = Callable[[Run], float | None]
LAST, AUXILIARY, BY_RULE = "last exit", "auxiliary exits, mean", "by the rule"
METHOD = (
    "Main effects are differences in validation accuracy, in points, between the runs with a factor at its high level "
    "and those with it at its low level, by a linear model of all factors at once (least squares), with "
    f"{CONFIDENCE:.0%} intervals by Student's t. Seeds are blocks: the model has a mean for each, so that what a seed "
    "changes in all of its runs is no error. Interactions are not in the model: they count as error. Effects are on "
    "validation images, since a screen is there to choose by, and intervals take these images as given. One in 20 "
    "intervals excludes zero by chance (here there are {intervals}): they are not adjusted for their number, the "
    "largest effect is too large on average, and what a screen finds is to be confirmed with new seeds. Training costs "
    "of the levels differ. An ensemble's weights were fitted on the same images."
)


def main_effects_section(comparison: Comparison) -> Section | None:
    """A row for each factor, its effect on the last exit, on auxiliary exits and on the ensemble; None if no screen."""
    screen = comparison.screen
    if screen is None:
        return None
    runs = [run for run in comparison.runs if run.id in screen.levels]
    levels, seeds = [screen.levels[run.id] for run in runs], [run.record.seed for run in runs]
    columns = {}
    for name, response in RESPONSES.items():
        values = [response(run) for run in runs]
        known = [value for value in values if value is not None]
        if known and len(known) == len(runs):
            columns[name] = main_effects(levels, known, seeds)
    found = {name: effects for name, effects in columns.items() if effects is not None}
    made = f"{len(runs)} of {screen.runs} runs were made."
    intervals = sum(effect.half_width is not None for effects in found.values() for effect in effects)
    method = METHOD.format(intervals=intervals)
    if not found:
        return Section("Main effects", [Text(f"{made} They do not tell the factors apart.")], level=2, method=method)
    ruled = _whole_seeds(screen, runs) > 0 and LAST in found and found[LAST][0].half_width is not None
    rule = [Text(f"{RULE} {_not_winning(runs)}")] if ruled else []
    blocks = [Text(_note(made, screen, runs)), *rule, _table(screen, found, ruled=ruled)]
    return Section("Main effects", blocks, level=2, method=method)


def _auxiliary(run: Run) -> float | None:
    values = [row["val_accuracy"] for row in run.exits[:-1]]
    return fmean(values) if values and None not in values else None


RESPONSES: dict[str, Response] = {
    LAST: lambda run: run.exits[-1]["val_accuracy"],
    AUXILIARY: _auxiliary,
    "ensemble": lambda run: run.ensemble["val_accuracy"] if run.ensemble else None,
}


def _note(made: str, screen: Screen, runs: Sequence[Run]) -> str:
    """What the table shows, and whether its effects can be told from interactions."""
    whole, asked = _whole_seeds(screen, runs), screen.runs // _combinations(screen)
    mixed = ""
    if not whole:
        mixed = " Combinations are missing, so that effects are mixed up with interactions: not to choose by yet."
    elif len(screen.factors) == 3:
        mixed = " With three factors the effect of each is mixed up with the interaction of the other two."
    if 0 < whole < asked:
        partly = len({run.record.seed for run in runs}) > whole
        more = ", and runs of the others mix effects up with interactions in part" if partly else ""
        own = "one is" if whole == 1 else f"{whole} are"
        mixed += f" Of {asked} seeds {own} whole: intervals are wider than planned{more}."
    return (
        f"{made}{mixed} Each effect is the mean at the factor's high level minus that at its low level, of validation "
        "accuracy in points; an interval that excludes zero is bold."
    )


def _combinations(screen: Screen) -> int:
    """The number of combinations of levels, which is that of the runs of a seed."""
    return int(2 ** (len(screen.factors) - 1))


def _whole_seeds(screen: Screen, runs: Sequence[Run]) -> int:
    """The number of seeds for which all combinations were run."""
    found = {(run.record.seed, screen.levels[run.id]) for run in runs}
    return [*Counter(seed for seed, _ in found).values()].count(_combinations(screen))


def _not_winning(runs: Sequence[Run]) -> str:
    """What being a candidate does not mean."""
    control = "" if any(plainly_trained(run.record.config) for run in runs) else ", which no run of this screen is"
    return (
        "Being a candidate is not winning: candidates are to be confirmed with new seeds against plain training"
        f"{control}."
    )


def _table(screen: Screen, found: dict[str, list[Effect]], *, ruled: bool) -> Table:
    rows = []
    for number, factor in enumerate(screen.factors):
        own = {name: effects[number] for name, effects in found.items()}
        cells = {f"{name}, points": _cell(effect) for name, effect in own.items()}
        by = " and ".join(candidate(own.get(LAST), own.get(AUXILIARY)))
        cells[BY_RULE] = (f"candidate: {by}" if by else "no candidate") if ruled else MISSING
        rows.append({"factor": inline(factor), "high level": inline(screen.high[number])} | cells)
    return Table.of(rows)


def _cell(effect: Effect) -> str:
    if effect.half_width is None:
        return Number(f"{100 * effect.estimate:+z.2f}", effect.estimate)
    text = f"{100 * effect.estimate:+z.2f} ± {100 * effect.half_width:.2f}"
    return Number(f"**{text}**" if abs(effect.estimate) > effect.half_width else text, effect.estimate)
