"""Primary contrasts: what the study's file declares, in its order, with what the complete blocks of seeds say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmarks.report.group import Group, Row
from benchmarks.report.section import Bullets, Section, Table, Text
from benchmarks.results.cells import MISSING, Number, exit_name
from benchmarks.results.claim_verdicts import Part, Step
from benchmarks.results.escaping import SENTENCE, inline
from benchmarks.statistics.scores import CONFIDENCE, ENOUGH_SEEDS

ABOUT = (
    "Declared in the study's file and tested in this order, each step at the full level: the first that is not decided "
    "for its claim ends the confirmation, and what follows is exploratory. A block is a seed in which every network of "
    "the step has a run; other seeds do not count here. What is decided is decided for these training and test images."
)
METHOD = (
    "Differences are in test accuracy, of last exits where a claim names no other, in points, seed by seed. The "
    f"interval over seeds (Student's t, paired, of {CONFIDENCE:.0%} for one network, and no narrower than rounding to "
    "whole images makes it) takes the test images as given, and decides: for a claim where it is above zero, against "
    "where it is below; equivalent where the 90% interval (95% where 97.5% decides) is within the margin declared. "
    "Of k networks, chosen on validation images of the same runs, each is tested at a k-th of the level: a seed that "
    "does well on validation images does well on test images too, so that the one with the highest mean over the "
    "blocks looks better than it is, and its difference somewhat larger. The test images have no part in the choice; "
    "an ensemble's weights were fitted on those validation images, which favours it there. The interval over test "
    "sets, too, has the same confidence; it resamples the test images as Verdicts does and takes from the scatter of "
    "seeds what those explain, so that with few seeds it may be the narrower one. Of a step with several claims all "
    "are needed; what stands behind one that is not decided for is exploratory. A seed in which a network failed does "
    "not count, which favours that network. All this holds if the number of blocks was set by time or beforehand, not "
    "by looking at the difference."
)


def primary_section(group: Group) -> Section | None:
    """A sentence on every claim, and the table of their differences; None if nothing was declared."""
    if not group.steps:
        return None
    lines, rows = [], []
    for number, step in enumerate(group.steps, start=1):
        lines += _sentences(number, step, group.by_key)
        rows += [_row(number, step, part, group.by_key) for part in step.parts]
    table = [Table.of(rows, last="verdict")] if rows else []
    return Section("Primary contrasts", [Text(ABOUT), Bullets(lines), *table], level=2, method=METHOD)


def _sentences(number: int, step: Step, exits: Mapping[str, Row]) -> list[str]:
    """What the step says, in plain words: a line on each of its claims, and one on several together."""
    where = f"{number}. " + ("" if step.confirmatory else "Exploratory, as an earlier step is not decided for. ")
    if not step.parts:
        why = (
            "no validation images to choose on"
            if step.seeds
            else "no seed has a run, with predictions, of every network"
        )
        return [f"{where}{inline(claim.claim, SENTENCE)}: not compared, {why}." for claim in step.claims]
    lines = [
        f"{where}{inline(part.claim.claim, SENTENCE)}: {_conclusion(step, part)}. {_difference(step, part, exits)}."
        for part in step.parts
    ]
    if not step.confirmatory:
        return lines
    if len(step.parts) > 1:
        refuted = any(part.decision == "against" for part in step.tested)
        together = "decided for" if step.holds else "decided against" if refuted else "not decided for"
        lines.append(f"{where}All {len(step.parts)} are needed: {together}.")
    if step.meaning:
        lines.append(f"{where}{inline(step.meaning, SENTENCE)}.")
    return lines


def _conclusion(step: Step, part: Part) -> str:
    """The verdict, in bold; of a claim that is exploratory what its interval shows, which confirms nothing."""
    if step.tests(part):
        return f"**{verdict(part)}**"
    shown = {"for": "the difference is above zero", "against": "the difference is below zero"}
    return f"not confirmed; {shown.get(part.decision, verdict(part))}"


def verdict(part: Part) -> str:
    """The verdict on a claim in words."""
    return {
        "for": "decided for",
        "against": "decided against",
        "equivalent": f"equivalent within {part.claim.margin:g} points",
        "open": "open",
    }[part.decision]


def _difference(step: Step, part: Part, exits: Mapping[str, Row]) -> str:
    """As in ``MwResNet-44-5 (exit 5) has +0.41 points against ResNet-110, 95%: 0.12 to 0.70, in 5 complete blocks``."""
    network, other = (exit_name(exits[key]) for key in (part.network, part.against))
    chosen = f", the best of {len(part.claim.of)} on validation images," if len(part.claim.of) > 1 else ""
    low, high = (100 * end for end in part.given.interval(part.level))
    interval = "" if math.isinf(low) else f" {_level(part)}: {low:z.2f} to {high:z.2f},"
    none = ", which gives no interval" if math.isinf(low) else ""
    blocks = f"{len(step.seeds)} complete block{'s' * (len(step.seeds) > 1)}"
    early = ", preliminary" if len(step.seeds) < ENOUGH_SEEDS else ""
    difference = f"{network}{chosen} has {100 * part.given.estimate:+z.2f} points against {other},"
    return f"{difference}{interval} in {blocks}{early}{none}{_reservation(step, part)}"


def _reservation(step: Step, part: Part) -> str:
    """What takes from a difference that is shown: other test images may show none, or it is within the margin."""
    low, high = part.over.interval(part.confidence)
    if part.decision not in ("for", "against"):
        return ""
    other = "; with other test images it may be none" if len(step.seeds) > 1 and low <= 0 <= high else ""
    return other + (f"; it is within {part.claim.margin:g} points" if part.is_small else "")


def _row(number: int, step: Step, part: Part, exits: Mapping[str, Row]) -> dict[str, str]:
    network, other = (exits[key] for key in (part.network, part.against))
    macs, training = (network[column] / other[column] for column in ("macs", "total_training_macs"))
    seeds = len(step.seeds)
    early = " (preliminary)" if seeds < ENOUGH_SEEDS else ""
    return {
        "step": Number(str(number), number),
        "network": exit_name(network),
        "against": exit_name(other),
        "MACs": Number(f"{macs:.0%}", macs),
        "training MACs": MISSING if math.isnan(training) else Number(f"{training:.0%}", training),
        "blocks": Number(str(seeds) if step.begun == seeds else f"{seeds} of {step.begun} begun", seeds),
        "difference, points": Number(f"{100 * part.given.estimate:+z.2f}", part.given.estimate),
        "confidence": Number(_level(part), part.level),
        "interval over seeds, which decides": _interval(part.given.interval(part.level)),
        "over test sets, too": MISSING if seeds == 1 else _interval(part.over.interval(part.level)),
        "verdict": f"{part.decision}{early}" if step.tests(part) else f"{part.decision}{early}, exploratory",
    }


def _level(part: Part) -> str:
    """As in ``97.5%``."""
    return f"{100 * part.level:.4g}%"


def _interval(ends: Sequence[float]) -> str:
    low, high = ends
    return MISSING if math.isinf(low) else Number(f"{100 * low:z.2f} to {100 * high:z.2f}", low)
