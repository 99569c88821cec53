"""Verdicts: which networks differ from the reference and within a budget class, as far as their intervals tell."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmarks.report.group import Group, Row
from benchmarks.report.section import Block, Bullets, Section, Table, Text
from benchmarks.report.sections.networks import batches
from benchmarks.results.budget_classes import CLASS, same_class
from benchmarks.results.caveats import SINGLE
from benchmarks.results.cells import MISSING, Number, exit_name, mean_cell, ratio
from benchmarks.results.contrasts import Contrast, row_of
from benchmarks.results.escaping import SENTENCE, inline
from benchmarks.statistics.difference import DRAWS
from benchmarks.statistics.scores import CONFIDENCE

DECLARED = (
    "What was declared in the study's file is decided under Primary contrasts, on complete blocks of seeds alone. A "
    "pair of a step that is not exploratory has the verdict of that step here, without a p of its own; difference and "
    "interval are of all seeds that each network has, and over other test images too."
)
METHOD = (
    f"Differences are in test accuracy of last exits, in points, with {CONFIDENCE:.0%} intervals. Test images are "
    f"resampled {DRAWS:,} times, the same for both networks, and Student's t adds the scatter of seeds, paired where "
    "both networks have the same seeds. Every network is compared with the reference and, in each budget class (MACs "
    f"within {CLASS:.0%} of one another), with the most accurate network. p-values are the bootstrap's or, between "
    "single seeds, those of McNemar's exact test, which says whether two given networks differ on such test images "
    "and nothing of training them again; they are adjusted by Holm's method for all comparisons. A pair that Primary "
    "contrasts tested in a step that is not exploratory has its verdict, in every section. MACs and latency are "
    "shares of the other network's; the latency is the quotient of both networks' ratios to the timed reference. "
    "Predictions are stored as float16, which changes the prediction for a few images: a difference may deviate "
    "from that of the tables by as much."
)


def verdicts_section(group: Group) -> Section | None:
    """A table of all contrasts; None if nothing was to be compared."""
    verdicts = group.verdicts
    blocks: list[Block] = [Text(DECLARED)] if group.steps and verdicts.contrasts else []
    if verdicts.contrasts:
        table = Table.of((_line(contrast, verdicts.last) for contrast in verdicts.contrasts), last="verdict")
        single = any(1 in contrast.found.seeds for contrast in verdicts.contrasts)
        blocks += [table, *([Text(SINGLE)] if single else [])]
    if verdicts.notes:
        blocks.append(Bullets([f"not compared: {inline(note, SENTENCE)}" for note in verdicts.notes]))
    return Section("Verdicts", blocks, method=METHOD) if blocks else None


def contrast_cells(contrast: Contrast) -> dict[str, str]:
    """What a table says of a contrast, by column; the verdict last."""
    low, high = contrast.found.interval()
    p = Number("< 0.001" if contrast.p < 0.001 else f"{contrast.p:.3f}", contrast.p)
    return {
        "difference, points": Number(f"{100 * contrast.found.estimate:+z.2f}", contrast.found.estimate),
        f"{CONFIDENCE:.0%} interval": Number(f"{100 * low:z.2f} to {100 * high:z.2f}", low),
        "n": Number(" and ".join(map(str, dict.fromkeys(contrast.found.seeds))), contrast.found.seeds[0]),
        "p, adjusted": MISSING if contrast.ruling else p,
        "verdict": contrast.verdict,
    }


def judged_pairs(group: Group, pairs: Sequence[tuple[Row, Row]]) -> tuple[list[dict[str, str]], list[Contrast]]:
    """A table's row for each pair of exits, and the contrasts of those of the same budget class that have scores.

    A pair that was declared in the study's file is judged whatever its budgets.
    """
    judged = group.compare(pair for pair in pairs if same_class(*pair) or group.ruling(*pair))
    rows = []
    for network, other in pairs:
        names, share = (exit_name(network), exit_name(other)), other["macs"] / network["macs"]
        row = {
            "network": names[0],
            "compared with": names[1],
            "its MACs": Number(f"{share:.0%}", share),
            "test accuracies, %": f"{mean_cell(network)}; {mean_cell(other)}",
        }
        none = {"verdict": "none: no predictions" if same_class(network, other) else "none: other budget"}
        rows.append(row | (contrast_cells(judged[names]) if names in judged else none))
    return rows, list(judged.values())


def _line(contrast: Contrast, last: pd.DataFrame) -> dict[str, str]:
    network, other = (row_of(last, key) for key in contrast.pair)
    share = network["macs"] / other["macs"]
    line = {"network": exit_name(network), "against": exit_name(other), "MACs": Number(f"{share:.0%}", share)}
    for batch in batches(last)[:1]:
        if network["bench_session"] == other["bench_session"]:  # ratios of different sessions do not compare
            line[f"latency, batch {batch}"] = ratio(
                network[f"latency_ratio_b{batch}"] / other[f"latency_ratio_b{batch}"]
            )
    return line | contrast_cells(contrast)
