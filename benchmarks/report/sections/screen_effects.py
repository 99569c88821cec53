"""Main effects: what each factor of a screen changes, on the images that a choice may be made by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import numpy as np

from benchmarks.report.comparison import Comparison, Screen
from benchmarks.report.section import Block, Section, Table, Text
from benchmarks.results.arms import plainly_trained
from benchmarks.results.cells import MISSING, Number, ratio
from benchmarks.results.escaping import inline
from benchmarks.results.factor_candidates import RULE, candidate
from benchmarks.statistics.main_effects import Effect, main_effects
from benchmarks.statistics.paired_difference import PairedDifference
from benchmarks.statistics.scores import CONFIDENCE
from compress.runs import Run

SEPARATE = 5  # factors, from which on half of a design still tells each effect from interactions of two
LAST, AUXILIARY, BY_RULE = "last exit", "auxiliary exits, mean", "by the rule"
SHOWN = (
    "Each effect is the mean at the factor's high level minus that at its low level, of validation accuracy in points; "
    "an interval that excludes zero is bold."
)
WITHIN = (
    "The same effects at each level of {first} alone, since options are chosen for one: from half of the runs each, so "
    "that intervals are wider. The rule of choice is not applied to these."
)
GAIN = (
    "**Ensemble minus last exit**, points of accuracy on calibration images, which its weights have not seen (mean "
    f"over runs, {CONFIDENCE:.0%} interval by Student's t):"
)
UNSEEN = "not known on images that its weights have not seen: older records lack it, and so do runs without such images"
DEFAULT = "default"  # a level that sets no key
UNKNOWN = "Without validation images there is nothing to choose by."
UNTOLD = "They do not tell the factors apart."
METHOD = (
    "Main effects are differences in validation accuracy, in points, between the runs with a factor at its high level "
    "and those with it at its low level, by a linear model of all factors at once (least squares), with "
    f"{CONFIDENCE:.0%} intervals by Student's t. Seeds are blocks: the model has a mean for each, so that what a seed "
    "changes in all of its runs is no error. Interactions are not in the model: they count as error. Effects are on "
    "validation images, since a screen is there to choose by, and intervals take these images as given. One in 20 "
    "intervals excludes zero by chance (the tables have {intervals}): they are not adjusted for their number, the "
    "largest effect is too large on average, and what a screen finds is to be confirmed with new seeds. The "
    "ensemble's effects are on the images that its weights were fitted on. Ratios of costs are those of geometric "
    "means, by the same model; a column of them is left out where all are 1.00. Auxiliary exits that cost more are "
    "more accurate."
)


def main_effects_section(comparison: Comparison) -> Section | None:
    """A row for each factor, its effect on the last exit, on auxiliary exits and on the ensemble; None if no screen."""
    screen = comparison.screen
    if screen is None:
        return None
    runs = [run for run in comparison.runs if run.id in screen.levels]
    responses = _values(RESPONSES, runs)
    found = _effects(screen, runs, responses)
    within = _within(screen, runs)
    tabled = [*found.values(), *(within[1].values() if within else [])]
    intervals = sum(effect.half_width is not None for effects in tabled for effect in effects)
    logs = {name: [cost and math.log(cost) for cost in values] for name, values in _values(COSTS, runs).items()}
    costs = _effects(screen, runs, logs)
    made = f"{len(runs)} of {screen.runs} runs were made."
    if found:
        ruled = _whole_seeds(screen, runs) > 0 and LAST in found and found[LAST][0].half_width is not None
        rule = [Text(f"{RULE} {_not_winning(runs)}")] if ruled else []
        note = " ".join([made, *_mixed(screen, runs), SHOWN, *_left_out(responses), *_unequal(screen, costs)])
        blocks: list[Block] = [Text(note), *rule, _table(screen, found, costs, ruled=ruled)]
        blocks += [Text(gain)] if (gain := _ensemble_gain(screen, runs)) else []
        blocks += [Text(WITHIN.format(first=inline(screen.factors[0]))), _table(*within)] if within else []
    else:
        none = {value for values in responses.values() for value in values} <= {None}
        blocks = [Text(f"{made} {UNKNOWN if none else UNTOLD}")]
    return Section("Main effects", blocks, level=2, method=METHOD.format(intervals=intervals))


def _auxiliary(run: Run) -> float | None:
    values = [row["val_accuracy"] for row in run.exits[:-1]]
    return fmean(values) if values and None not in values else None


RESPONSES: dict[str, Callable[[Run], float | None]] = {
    LAST: lambda run: run.exits[-1]["val_accuracy"],
    AUXILIARY: _auxiliary,
    "ensemble": lambda run: run.ensemble["val_accuracy"] if run.ensemble else None,
}
OF_EXITS: dict[str, Callable[[Run], float | None]] = {
    "MACs of the last exit": lambda run: run.exits[-1]["macs"],
    "MACs of auxiliary exits": lambda run: fmean(row["macs"] for row in run.exits[:-1]) if len(run.exits) > 1 else None,
}
COSTS = OF_EXITS | {"training MACs": lambda run: run.record.cost["total_training_macs"]}


def _values(
    responses: Mapping[str, Callable[[Run], float | None]], runs: Sequence[Run]
) -> dict[str, list[float | None]]:
    return {name: [response(run) for run in runs] for name, response in responses.items()}


def _effects(
    screen: Screen, runs: Sequence[Run], responses: Mapping[str, Sequence[float | None]]
) -> dict[str, list[Effect]]:
    """The effects of all factors on each response that all runs have, if these tell the factors apart."""
    levels, seeds = [screen.levels[run.id] for run in runs], [run.record.seed for run in runs]
    found = {}
    for name, values in responses.items():
        known = [value for value in values if value is not None]
        if known and len(known) == len(runs) and (effects := main_effects(levels, known, seeds)):
            found[name] = effects
    return found


def _within(screen: Screen, runs: Sequence[Run]) -> tuple[Screen, dict[str, list[Effect]]] | None:
    """The screen of all but the first factor, with the effects at each level of that one.

    None where interactions of two factors would mix in (fewer than five factors, or no whole seed) or none is known.
    """
    if len(screen.factors) < SEPARATE or not _whole_seeds(screen, runs):
        return None
    others = Screen(
        factors=screen.factors[1:],
        high=screen.high[1:],
        low=screen.low[1:],
        levels={id: levels[1:] for id, levels in screen.levels.items()},
        runs=screen.runs // 2,
    )
    first, found = inline(screen.factors[0]), {}
    for level, word in ((-1, "low"), (1, "high")):
        own = [run for run in runs if screen.levels[run.id][0] == level]
        found[word] = _effects(others, own, _values(RESPONSES, own))
    titles = [(name, word) for name in (LAST, AUXILIARY) for word in found if name in found[word]]
    return (others, {f"{name}, {first} {word}": found[word][name] for name, word in titles}) if titles else None


def _ensemble_gain(screen: Screen, runs: Sequence[Run]) -> str:
    """What the ensemble adds to the last exit on images that its weights have not seen; empty without ensembles."""
    gains = {run.id: run.ensemble.get("calibration_gain") for run in runs if run.ensemble}
    known = {id: gain for id, gain in gains.items() if gain is not None}
    if not known:
        return f"**Ensemble minus last exit**: {UNSEEN}." if gains else ""
    images, first = runs[0].record.data["split"]["calibration"], inline(screen.factors[0])
    said = [_mean([*known.values()], images)]
    for level, word in ((-1, "low"), (1, "high")):
        own = [gain for id, gain in known.items() if screen.levels[id][0] == level]
        said += [f"{first} {word} {_mean(own, images)}"] if own else []
    lacking = f" Of {len(gains) - len(known)} more it is not known." if len(known) < len(gains) else ""
    return f"{GAIN} {'; '.join(said)}.{lacking}"


def _mean(gains: Sequence[float], images: int) -> str:
    """The mean over runs in points, as in ``+0.31 ± 0.12 (16 runs)``; without an interval of a single one."""
    found = PairedDifference(values=np.array(gains), step=1 / images)
    half = f" ± {100 * (found.interval()[1] - found.estimate):.2f}" if len(gains) > 1 else ""
    return f"{100 * found.estimate:+z.2f}{half} ({len(gains)} run{'s' if len(gains) > 1 else ''})"


def _mixed(screen: Screen, runs: Sequence[Run]) -> list[str]:
    """Whether effects can be told from interactions, and what whole seeds are missing."""
    whole, asked, said = _whole_seeds(screen, runs), screen.runs // _combinations(screen), []
    if not whole:
        said.append("Combinations are missing, so that effects are mixed up with interactions: not to choose by yet.")
    elif len(screen.factors) == 3:
        said.append("With three factors the effect of each is mixed up with the interaction of the other two.")
    if 0 < whole < asked:
        partly = len({run.record.seed for run in runs}) > whole
        more = ", and runs of the others mix effects up with interactions in part" if partly else ""
        own = "one is" if whole == 1 else f"{whole} are"
        said.append(f"Of {asked} seeds {own} whole: intervals are wider than planned{more}.")
    return said


def _left_out(responses: Mapping[str, Sequence[float | None]]) -> list[str]:
    """The responses that some runs lack and others have."""
    missing = {name: (list(values).count(None), len(values)) for name, values in responses.items()}
    named = [f"{name} ({count} of {runs})" for name, (count, runs) in missing.items() if 0 < count < runs]
    return [f"**Left out, as runs lack a value**: {', '.join(named)}."] if named else []


def _unequal(screen: Screen, costs: Mapping[str, Sequence[Effect]]) -> list[str]:
    """The factors whose levels differ in the MACs of exits, which alone makes these more or less accurate."""
    said = []
    for name in [name for name in OF_EXITS if name in costs]:
        own = [inline(factor) for factor, cost in zip(screen.factors, costs[name], strict=True) if not _alike(cost)]
        said += [f"{name} ({', '.join(own)})"] if own else []
    return (
        [f"Levels differ in {' and in '.join(said)}: what costs more is more accurate for that alone."] if said else []
    )


def _alike(cost: Effect) -> bool:
    """Whether the levels cost the same, as far as a table shows it."""
    return abs(math.expm1(cost.estimate)) < 0.005


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


def _table(
    screen: Screen,
    found: Mapping[str, Sequence[Effect]],
    costs: Mapping[str, Sequence[Effect]] = {},
    *,
    ruled: bool = False,
) -> Table:
    rows = []
    for number, factor in enumerate(screen.factors):
        own = {name: effects[number] for name, effects in found.items()}
        by = " and ".join(candidate(own.get(LAST), own.get(AUXILIARY)))
        rows.append(
            {"factor": inline(factor)}
            | ({"low level": inline(screen.low[number]) or DEFAULT} if screen.low else {})
            | {"high level": inline(screen.high[number]) or DEFAULT}
            | {f"{name}, points": _cell(effect) for name, effect in own.items()}
            | {
                f"{name}, high / low": ratio(math.exp(effects[number].estimate))
                for name, effects in costs.items()
                if not all(map(_alike, effects))
            }
            | {BY_RULE: (f"candidate: {by}" if by else "no candidate") if ruled else MISSING}
        )
    return Table.of(rows)


def _cell(effect: Effect) -> str:
    if effect.half_width is None:
        return Number(f"{100 * effect.estimate:+z.2f}", effect.estimate)
    text = f"{100 * effect.estimate:+z.2f} ± {100 * effect.half_width:.2f}"
    return Number(f"**{text}**" if abs(effect.estimate) > effect.half_width else text, effect.estimate)
