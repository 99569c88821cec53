"""The report: Markdown, CSV and figures of finished runs, one section for every data set and split."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from benchmarks.correctness import read_scores
from benchmarks.curves import curves_section, pruning_section
from benchmarks.figures import accuracy_against_macs, make_directory, save
from benchmarks.hover import hover_plots
from benchmarks.page import write_page
from benchmarks.supervision import held_out_images, probe_tables, read_probes, write_probe_figure
from benchmarks.tables import (
    CONFIDENCE,
    ENOUGH_SEEDS,
    MISSING,
    accuracy_cell,
    accuracy_cells,
    markdown,
    millions,
    number,
    percent,
    ratios,
    reference_of,
    rows,
    series,
    summarise,
)
from benchmarks.tuning import Trial, tuning_section
from benchmarks.verdicts import Verdicts, judge, verdicts_section
from compress.errors import UsageError
from compress.runs import Run, write_atomically

REPORT = "report.md"
PROBES = (
    "Probe: accuracy of a linear classifier on a block's pooled output. Gradient: the share of the final exit's loss's "
    "gradient, times weights, that reaches a block. CKA: similarity to the next block. Skipped: one block replaced by "
    "its shortcut. Anew: the blocks behind the frozen ones retrained by plain BP. Intervals are a bootstrap over "
    "seeds and images. Measured by `compress probe RUN...`, what is anew with `--retrain`."
)


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    title: str = "Comparison",
    about: str = "",
    reference: str | None = None,
    primary: tuple[str, str] | None = None,
    trials: Sequence[Trial] = (),
    failures: Sequence[str] = (),
) -> Path:
    """Write `report.md`, `exits.csv`, figures (.svg, .png) and `report.html` into `out`; returns the Markdown's path.

    Args:
        runs: finished runs. Those on other images or another split get a section, a table and a figure of their own.
        reference: id of the run that speed-ups and latencies are compared with; default: the costliest one by plain BP.
        primary: ids of two runs, of whose networks the difference was declared beforehand to be what is asked.
        trials: of tuning, losing ones too.
        failures: a line on every run that was asked for and could not be made.

    Raises:
        UsageError: there is nothing to report, or `out` cannot be written.
    """
    if not runs:
        raise UsageError("there are no finished runs to report; train some first: compress study quickstart")
    make_directory(out)
    sections, frames = [], []
    plots: dict[str, Any] = {}
    for position, group in enumerate(_comparable(runs), start=1):
        frame, suffix = rows(group), "" if position == 1 else f"-{position}"
        frames.append(frame)
        sections.append(_section(group, frame, reference, primary, out, suffix))
        summary = summarise(frame)
        plots |= hover_plots(group, summary, _reference_series(summary, reference), suffix)
    text = "\n\n".join(
        [f"# {title}", *([about.strip()] if about else []), *sections, *tuning_section(trials), *_failed(failures)]
    )
    columns = ["series", "arm_key"]
    write_atomically(out / "exits.csv", pd.concat(frames).drop(columns=columns).to_csv(index=False).encode())
    write_atomically(out / REPORT, f"{text}\n".encode(errors="replace"))
    write_page(text, plots, out)
    return out / REPORT


def main_table(runs: Sequence[Run], reference: str | None = None) -> pd.DataFrame:
    """The main table, as text: a row a network, its last exit, against the reference."""
    summary = summarise(rows(runs))
    return _main_table(summary, _reference_series(summary, reference))


def _comparable(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs with the same images and the same split, together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps([run.record.data["digest"], run.record.data["split"]]), []).append(run)
    return list(groups.values())


def _reference_series(summary: pd.DataFrame, reference: str | None) -> str | None:
    named = summary[summary["run"] == reference]
    return str(named["series"].iloc[0]) if len(named) else reference_of(summary)


def _section(
    runs: Sequence[Run],
    frame: pd.DataFrame,
    reference: str | None,
    primary: tuple[str, str] | None,
    out: Path,
    suffix: str,
) -> str:
    """The section of runs on the same images; `suffix` ends the names of its figures."""
    summary = summarise(frame)
    compared_with = _reference_series(summary, reference)
    verdicts = _verdicts(runs, summary, compared_with, primary)
    data, size = runs[0].record.data, runs[0].record.data["split"]
    heading = f"{data['name']} ({data['copy']})"
    title = f"{heading}: {size['test']:,} test images"
    save(accuracy_against_macs(summary, title), out / f"accuracy-macs{suffix}")
    parts = [
        f"## {heading}",
        f"{size['train']:,} training, {size['validation']:,} validation, {size['calibration']:,} calibration and "
        f"{size['test']:,} test images; data digest `{data['digest'][:12]}`. Accuracy is on the test images, "
        "which were read once, after training. MACs are multiply-accumulates of convolutions and linear layers for "
        "one image.",
        _caution(summary, size["test"]),
        *verdicts_section(verdicts),
        "### Networks",
        markdown(_main_table(summary, compared_with, verdicts.bold)),
        _footnotes(summary, compared_with, frame, bold=bool(verdicts.bold)),
        f"![Accuracy against MACs](accuracy-macs{suffix}.svg)",
        *curves_section(summary, compared_with, out / f"pruning-curves{suffix}", title),
        *pruning_section(summary),
        "### Every exit",
        markdown(_exits_table(summary)),
        *_probes_section(runs, out / f"probe{suffix}"),
        "### How to reproduce each row",
        "\n".join(f"- `{run.id}`: `{run.record.command}`" for run in runs),
        _environments(runs),
    ]
    return "\n\n".join(part for part in parts if part)


def _verdicts(
    runs: Sequence[Run], summary: pd.DataFrame, reference: str | None, primary: tuple[str, str] | None
) -> Verdicts:
    scores, left_out = read_scores(runs)
    by_run = {run.id: series(run) for run in runs}
    declared = (by_run[primary[0]], by_run[primary[1]]) if primary and set(primary) <= by_run.keys() else None
    return judge(summary, scores, reference, declared, left_out)


def _main_table(summary: pd.DataFrame, reference: str | None, bold: Container[str] = ()) -> pd.DataFrame:
    last = summary[summary["last"]]
    compared_with = last[last["series"] == reference].iloc[0] if reference is not None else None
    table = pd.DataFrame({"network": last["network"], "test accuracy, %": accuracy_cells(last, bold)})
    if last["n"].max() > 1:
        table["sd over seeds"] = last["test_accuracy_sd"].map(percent)
    table["MACs"] = last["macs"].map(millions)
    table["speed-up (MACs)"] = ratios(compared_with["macs"] / last["macs"]) if compared_with is not None else MISSING
    table["parameters"] = last["params"].map(millions)
    table["training MACs"] = last["total_training_macs"].map(lambda macs: f"{macs / 1e12:.2f}T")
    if compared_with is not None:
        table["training cost"] = ratios(last["total_training_macs"] / compared_with["total_training_macs"])
    for batch in _batches(summary):
        times = last[f"latency_{batch}"]
        table[f"latency, batch {batch[1:]}, ms"] = times.map(lambda seconds: number(1e3 * seconds, ".2f"))
        table[f"ratio, batch {batch[1:]}"] = ratios(last[f"latency_ratio_{batch}"])
    return table


def _probes_section(runs: Sequence[Run], figure: Path) -> list[str]:
    """What every block has learnt, of the runs that were probed; nothing where none was."""
    blocks, retrained = read_probes(runs)
    if blocks.empty:
        return []
    write_probe_figure(blocks, retrained, figure)
    return [
        "### What every block has learnt",
        f"On {held_out_images(blocks)}. {PROBES}",
        *map(markdown, probe_tables(blocks, retrained)),
        f"![Probes of every block]({figure.name}.svg)",
    ]


def _exits_table(summary: pd.DataFrame) -> pd.DataFrame:
    columns = {
        "network": summary["network"],
        "exit": summary["exit"].astype(int).astype(str) + " of " + summary["exits"].astype(int).astype(str),
        "block": summary["block"].astype(int),
        "depth": summary["depth"].astype(int),
        "test accuracy, %": summary.apply(accuracy_cell, axis=1),
        "MACs": summary["macs"].map(millions),
        "parameters": summary["params"].map(millions),
    }
    for batch in _batches(summary):
        columns[f"latency ratio, batch {batch[1:]}"] = ratios(summary[f"latency_ratio_{batch}"])
    return pd.DataFrame(columns)


def _caution(summary: pd.DataFrame, test_images: int) -> str:
    """What keeps a reader from reading too much into the table."""
    fewest, best = int(summary["n"].min()), float(summary["test_accuracy"].max())
    interval = stats.binomtest(round(best * test_images), test_images).proportion_ci(CONFIDENCE, method="wilson")
    noise = (
        f"The choice of {test_images:,} test images alone makes a single accuracy near {best:.0%} uncertain by about "
        f"±{50 * (interval.high - interval.low):.1f} points (95%)."
    )
    if fewest >= ENOUGH_SEEDS:
        return f"Means and 95% intervals (Student's t) over seeds. {noise}"
    seeds = "one seed" if fewest == 1 else f"{fewest} seeds"
    seeds += "" if summary["n"].max() == fewest else " of some networks"
    return f"**Preliminary: {seeds}.** Differences between networks may be chance. {noise}"


def _footnotes(summary: pd.DataFrame, reference: str | None, frame: pd.DataFrame, *, bold: bool) -> str:
    notes = []
    if bold:
        notes.append("Bold: not distinguishable from the most accurate of two or more networks of its budget class.")
    if reference is not None:
        notes.append(f"Speed-up: MACs of {summary[summary['series'] == reference]['network'].iloc[0]} / MACs.")
    notes.append(
        "Training MACs: forward passes once, backward passes twice, with those of a reference or teacher and what "
        "choosing took."
    )
    if reference is not None:
        notes[-1] += " Training cost: training MACs / the reference's."
    if _batches(summary):
        sessions = frame["bench_session"].dropna().unique()
        conditions = summary["latency_conditions"].dropna().iloc[0]
        notes.append(
            f"Latency ({conditions}): median of repeated timings, networks interleaved, "
            f"each exit cut out; the ratio, to `{summary['latency_reference'].dropna().iloc[0]}`, is the median of the "
            "ratios within each round, and what a shared machine can be believed in."
        )
        if len(sessions) > 1:
            notes.append(
                "**Not all latencies were measured in one session: compare only after `compress bench` on all runs.**"
            )
    else:
        notes.append("Latency was not measured: `compress bench` does.")
    return " ".join(notes)


def _environments(runs: Sequence[Run]) -> str:
    """The machines and versions that the runs were made with, each once."""
    lines = []
    for run in runs:
        env = run.record.environment
        versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
        where = env["gpu"] or f"{env['cpu']}, {env['threads']} threads"
        line = f"- {where}, {env['precision']}; Python {env['python']}, {versions}; commit {env['commit'] or 'unknown'}"
        if line not in lines:
            lines.append(line)
    return "\n".join(["Trained on:", "", *lines])


def _failed(failures: Sequence[str]) -> list[str]:
    """What was asked for and is not here; nothing where all is."""
    if not failures:
        return []
    return ["## Did not run", "\n".join(f"- did not run: {failure}" for failure in failures)]


def _batches(summary: pd.DataFrame) -> list[str]:
    prefix = "latency_ratio_"
    return [column.removeprefix(prefix) for column in summary.columns if column.startswith(prefix)]
