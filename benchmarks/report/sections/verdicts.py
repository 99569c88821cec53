"""Verdicts: which networks differ from the reference and within a budget class, in words that their intervals carry."""

from __future__ import annotations

import pandas as pd

from benchmarks.results.cells import MISSING, exit_name, markdown, millions
from benchmarks.results.contrasts import CLASS, Contrast, Verdicts, beaten, row_of
from benchmarks.results.escaping import SENTENCE, inline
from benchmarks.statistics.difference import ALPHA, DRAWS, MARGIN
from benchmarks.statistics.scores import CONFIDENCE, ENOUGH_SEEDS

SENTENCES = 12  # more comparisons are put into words for the best of their class alone
METHOD = (
    f"Differences in test accuracy of last exits, in points, with {CONFIDENCE:.0%} intervals: test images are "
    f"resampled {DRAWS:,} times, the same for both networks, and Student's t adds the scatter of seeds, paired where "
    "both networks have the same. Compared are every network with the reference and, in each budget class (MACs within "
    f"{CLASS:.0%} of one another), every network with the most accurate one. p is the bootstrap's or, between single "
    "seeds, that of McNemar's exact test. Images are compared by stored predictions, rounded to float16, which turns "
    "one or two of them: a difference may be off that of the tables by as much."
)


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
        alone_or_best = set(verdicts.last.index) - beaten(verdicts.last)
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
    one, two = row_of(last, contrast.network), row_of(last, contrast.against)
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
            "network": exit_name(row_of(verdicts.last, one.network)),
            "against": exit_name(row_of(verdicts.last, one.against)),
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
        told, row = sum(one.distinguishable for one in own), row_of(verdicts.last, best)
        if own:
            few = min(min(one.found.seeds) for one in own) < ENOUGH_SEEDS
            others = f"{len(own)} other{'' if len(own) == 1 else 's'}"
            lines.append(
                f"- {exit_name(row)} has the highest accuracy at {millions(row['macs'])} MACs: of {others} {told} can "
                f"be distinguished from it{' (preliminary)' if few else ''}"
            )
    return lines


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
