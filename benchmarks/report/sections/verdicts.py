"""Verdicts: which networks differ from the reference and within a budget class, in words that their intervals carry."""

from __future__ import annotations

import pandas as pd

from benchmarks.report.group import Group
from benchmarks.report.section import Block, Bullets, Section, Table, Text
from benchmarks.results.cells import Number, exit_name, millions
from benchmarks.results.contrasts import CLASS, Contrast, Verdicts, beaten, row_of
from benchmarks.results.escaping import SENTENCE, inline
from benchmarks.statistics.difference import ALPHA, DRAWS, MARGIN
from benchmarks.statistics.scores import CONFIDENCE, ENOUGH_SEEDS

SENTENCES = 12  # of more comparisons, only those of the best of each class are put into words
METHOD = (
    f"Differences are in test accuracy of last exits, in points, with {CONFIDENCE:.0%} intervals. Test images are "
    f"resampled {DRAWS:,} times, the same for both networks, and Student's t adds the scatter of seeds, paired where "
    "both networks have the same seeds. Every network is compared with the reference and, in each budget class (MACs "
    f"within {CLASS:.0%} of one another), with the most accurate network. p-values are the bootstrap's or, between "
    "single seeds, those of McNemar's exact test; Holm's method adjusts them for all comparisons of the section but "
    "the primary contrast, which is tested alone, as it was declared before the runs. Equivalent: the "
    f"{1 - 2 * ALPHA:.0%} interval is within ±{100 * MARGIN:g} points; tested for the primary contrast alone. "
    "Predictions are stored as float16, which changes the prediction for one or two images: a difference may deviate "
    "from that of the tables by as much."
)


def verdicts_section(group: Group) -> Section | None:
    """The primary contrast, the others in words, and a table of all; None if nothing was to be compared."""
    verdicts = group.verdicts
    notes: list[Block] = []
    if verdicts.notes:
        notes = [Bullets([f"not compared: {inline(note, SENTENCE)}" for note in verdicts.notes])]
    if not verdicts.contrasts:
        return Section("Verdicts", notes) if notes else None
    others = [contrast for contrast in verdicts.contrasts if not contrast.primary]
    blocks: list[Block] = []
    if primary := verdicts.primary:
        said = sentence(primary, verdicts.last)
        blocks.append(Text(f"**Primary contrast**, declared before the runs: {said}."))
    if others:
        count = f"{len(others)} comparison{'s' if len(others) > 1 else ''}"
        blocks.append(Text(f"Exploratory, p adjusted for {count} by Holm's method:"))
        blocks.append(Bullets(_sentences(verdicts, others)))
    table = Table.of(
        (
            {heading: exit_name(row_of(verdicts.last, key)) for heading, key in zip(HEADINGS, contrast.pair, strict=True)}
            | contrast_cells(contrast)
            for contrast in verdicts.contrasts
        ),
        last="verdict",
    )
    return Section("Verdicts", [*blocks, table, *notes], method=METHOD)


HEADINGS = ("network", "against")


def _sentences(verdicts: Verdicts, others: list[Contrast]) -> list[str]:
    """Every comparison in words; of many, those with the reference of each class' best, and a line on each class."""
    if len(others) <= SENTENCES:
        return [sentence(contrast, verdicts.last) for contrast in others]
    best = set(verdicts.last.index) - beaten(verdicts.last)
    spoken = [one for one in others if one.network in best and one.against == verdicts.reference]
    return [*(sentence(one, verdicts.last) for one in spoken), *_class_lines(verdicts)]


def sentence(contrast: Contrast, last: pd.DataFrame) -> str:
    """As in ``A (exit 5) against B: +0.21 points, 95% interval [-0.05, 0.47], n = 5: not distinguishable; at ...``."""
    rows = network, other = row_of(last, contrast.network), row_of(last, contrast.against)
    low, high = contrast.found.interval()
    said = (
        f"{exit_name(network)} against {exit_name(other)}: {100 * contrast.found.estimate:+z.2f} points, "
        f"{CONFIDENCE:.0%} interval [{100 * low:z.2f}, {100 * high:z.2f}], n = {_seeds(contrast)}: {contrast.verdict}"
    )
    single = [exit_name(row) for row, seeds in zip(rows, contrast.found.seeds, strict=True) if seeds == 1]
    if single:
        whose = "" if len(single) == 2 else f" of {single[0]}"
        said += f"; one seed{whose}: the interval lacks the scatter of training"
    return f"{said}; at {100 * network['macs'] / other['macs']:.0f}% of its MACs{_latency(network, other)}"


def contrast_cells(contrast: Contrast) -> dict[str, str]:
    """What a table says of a contrast, by column; the verdict last."""
    p = Number("< 0.001" if contrast.p < 0.001 else f"{contrast.p:.3f}", contrast.p)
    heading = "p" if contrast.primary else "p, adjusted"
    return difference_cells(contrast) | {heading: p, "verdict": contrast.verdict}


def difference_cells(contrast: Contrast) -> dict[str, str]:
    """The difference, its interval and the number of seeds, by column."""
    low, high = contrast.found.interval()
    return {
        "difference, points": Number(f"{100 * contrast.found.estimate:+z.2f}", contrast.found.estimate),
        f"{CONFIDENCE:.0%} interval": Number(f"{100 * low:z.2f} to {100 * high:z.2f}", low),
        "n": Number(_seeds(contrast), contrast.found.seeds[0]),
    }


def _class_lines(verdicts: Verdicts) -> list[str]:
    """For each class of several networks, how many of them can be told from the best."""
    lines = []
    for best, own in verdicts.within_classes.items():
        if own:
            row = row_of(verdicts.last, best)
            few = min(min(contrast.found.seeds) for contrast in own) < ENOUGH_SEEDS
            told = sum(contrast.distinguishable for contrast in own)
            lines.append(
                f"{exit_name(row)} has the highest accuracy at {millions(row['macs'])} MACs: {told} of {len(own)} "
                f"other{'' if len(own) == 1 else 's'} can be distinguished from it{' (preliminary)' if few else ''}"
            )
    return lines


def _seeds(contrast: Contrast) -> str:
    return " and ".join(str(count) for count in dict.fromkeys(contrast.found.seeds))


def _latency(network: pd.Series, other: pd.Series) -> str:
    """As in ``, 0.41x its latency (eager, fp32, cpu, 1 thread(s), batch 1)``; empty unless measured together.

    If the other is not the network that both were timed against, the quotient of their ratios is shown and called so.
    """
    columns = [str(column) for column in network.index if str(column).startswith("latency_ratio_b")]
    if not columns or pd.isna(network["bench_session"]) or network["bench_session"] != other["bench_session"]:
        return ""
    quotient = network[columns[0]] / other[columns[0]]
    if pd.isna(quotient):
        return ""
    said = f"{network['latency_conditions']}, batch {columns[0].removeprefix('latency_ratio_b')}"
    if other["latency_reference"] != f"{other['run']} exit {other['exit']}":
        said += ", a quotient of ratios"
    noisy = "; noisy" if max(network["latency_noisy"], other["latency_noisy"]) > 0 else ""
    return f", {quotient:.2f}x its latency ({said}{noisy})"
