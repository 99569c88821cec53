"""Main effects: what each factor of a screen changes, on the images that a choice may be made by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from benchmarks.report.comparison import Comparison, Screen
from benchmarks.report.section import Section, Table, Text
from benchmarks.results.cells import Number
from benchmarks.results.escaping import inline
from benchmarks.statistics.main_effects import Effect, main_effects
from benchmarks.statistics.scores import CONFIDENCE
from compress.runs import Run

Response = Callable[[Run], float | None]
METHOD = (
    "Main effects are differences in validation accuracy, in points, between the runs with a factor at its high level "
    "and those with it at its low level, by a linear model of all factors at once (least squares), with "
    f"{CONFIDENCE:.0%} intervals by Student's t. Interactions are not in the model: they count as error. Effects are "
    "on validation images, since a screen is there to choose by, and intervals take these images as given. One in 20 "
    "excludes zero by chance: they are not adjusted for their number, the largest effect is too large on average, and "
    "what a screen finds is to be confirmed with new seeds. Training costs of the levels differ. An ensemble's weights "
    "were fitted on the same images."
)


def main_effects_section(comparison: Comparison) -> Section | None:
    """A row for each factor, its effect on the last exit, on auxiliary exits and on the ensemble; None if no screen."""
    screen = comparison.screen
    if screen is None:
        return None
    runs = [run for run in comparison.runs if run.id in screen.levels]
    columns = {}
    for name, response in RESPONSES.items():
        values = [response(run) for run in runs]
        known = [value for value in values if value is not None]
        if known and len(known) == len(runs):
            columns[name] = main_effects([screen.levels[run.id] for run in runs], known)
    found = {name: effects for name, effects in columns.items() if effects is not None}
    made = f"{len(runs)} of {screen.runs} runs were made."
    if not found:
        return Section("Main effects", [Text(f"{made} They do not tell the factors apart.")], level=2, method=METHOD)
    return Section("Main effects", [Text(_note(made, screen, runs)), _table(screen, found)], level=2, method=METHOD)


def _auxiliary(run: Run) -> float | None:
    values = [row["val_accuracy"] for row in run.exits[:-1]]
    return fmean(values) if values and None not in values else None


RESPONSES: dict[str, Response] = {
    "last exit": lambda run: run.exits[-1]["val_accuracy"],
    "auxiliary exits, mean": _auxiliary,
    "ensemble": lambda run: run.ensemble["val_accuracy"] if run.ensemble else None,
}


def _note(made: str, screen: Screen, runs: Sequence[Run]) -> str:
    """What the table shows, and whether its effects can be told from interactions."""
    counts, factors = Counter(screen.levels[run.id] for run in runs), len(screen.factors)
    whole = len(counts) == 2 ** (factors - 1) and len({*counts.values()}) == 1
    mixed = ""
    if not whole:
        mixed = " Combinations are missing, so that effects are mixed up with interactions: not to choose by yet."
    elif factors == 3:
        mixed = " With three factors the effect of each is mixed up with the interaction of the other two."
    return (
        f"{made}{mixed} Each effect is the mean at the factor's high level minus that at its low level, of validation "
        "accuracy in points; an interval that excludes zero is bold."
    )


def _table(screen: Screen, found: dict[str, list[Effect]]) -> Table:
    rows = []
    for number, factor in enumerate(screen.factors):
        cells = {f"{name}, points": _cell(effects[number]) for name, effects in found.items()}
        rows.append({"factor": inline(factor), "high level": inline(screen.high[number])} | cells)
    return Table.of(rows)


def _cell(effect: Effect) -> str:
    if effect.half_width is None:
        return Number(f"{100 * effect.estimate:+z.2f}", effect.estimate)
    text = f"{100 * effect.estimate:+z.2f} ± {100 * effect.half_width:.2f}"
    return Number(f"**{text}**" if abs(effect.estimate) > effect.half_width else text, effect.estimate)
