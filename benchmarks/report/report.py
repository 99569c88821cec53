"""The report: Markdown, CSV and figures of finished runs, one section for every data set and split."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from benchmarks.report.comparison import Comparison, write_records
from benchmarks.report.figures import make_directory
from benchmarks.report.hover import hover_plots
from benchmarks.report.hover_blocks import block_plots
from benchmarks.report.illustrations import accuracy_figures, channels_section, epochs_section
from benchmarks.report.page import write_page
from benchmarks.report.sections.confounds import confounds_section
from benchmarks.report.sections.exits import apart_section, exits_section
from benchmarks.report.sections.latency_tables import NOISE, latencies, latency_section
from benchmarks.report.sections.limits import limits_section
from benchmarks.report.sections.pareto import pareto_section
from benchmarks.report.sections.probe_tables import held_out_images, probe_tables, write_probe_figure
from benchmarks.report.sections.pruned_networks import curves_section, pruning_section
from benchmarks.report.sections.published import published_section
from benchmarks.report.sections.reproduction import reproduction_section
from benchmarks.report.sections.resources import costs_section
from benchmarks.report.sections.tuning_trials import tuning_section
from benchmarks.report.sections.verdicts import verdicts_section
from benchmarks.report.trials import Trial
from benchmarks.results.cells import MISSING, accuracy_cells, markdown, millions, number, percent, ratios
from benchmarks.results.contrasts import Verdicts, judge
from benchmarks.results.escaping import SENTENCE, cell, code, inline, one_line
from benchmarks.results.predictions import of_last_exits, read_scores
from benchmarks.results.probed_blocks import read_probes
from benchmarks.results.rows import names_by_series, reference_of, rows, summarise
from benchmarks.results.series import distinct_runs, series
from benchmarks.statistics.scores import CONFIDENCE, ENOUGH_SEEDS, Scores
from compress.console import console
from compress.errors import UsageError, checked
from compress.runs import Run, write_atomically

REPORT = "report.md"
PROBES = (
    "Probe: accuracy of a linear classifier on a block's pooled output. Gradient: the share of the final exit's loss's "
    "gradient, times weights, that reaches a block. CKA: similarity to the next block. Skipped: one block replaced by "
    "its shortcut. Anew: the blocks behind the frozen ones retrained by plain BP. Intervals are a bootstrap over "
    "seeds and images. Measured by `compress probe RUN...`, what is anew with `--retrain`."
)


@checked
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
    """Write `report.md`, figures (.svg, .png) and `report.html` into `out`; returns the Markdown's path.

    Beside them are `exits.csv`, a row an exit, and `latency.csv`, a row a measurement, if there are any. The records
    that these are made from are written there first: see `benchmarks.report.comparison`.

    Args:
        runs: finished runs; what repeats another's configuration and seed is named and left out. Those on other images
            or another split get a section, a table and a figure of their own.
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
    runs, repeated = distinct_runs(runs)
    for line in repeated:
        console.print(f"skipped: {line}")
    kept = write_records(
        Comparison(
            runs=runs,
            title=title,
            about=about,
            reference=reference,
            primary=primary,
            trials=trials,
            failures=failures,
        ),
        out,
    )
    sections, frames = [], []
    plots: dict[str, Any] = {}
    for position, group in enumerate(_comparable(kept.runs), start=1):
        frame, suffix = rows(group), "" if position == 1 else f"-{position}"
        frames.append(frame)
        sections.append(_section(group, frame, reference, primary, trials, out, suffix))
        summary = summarise(frame)
        plots |= hover_plots(group, summary, _reference_series(summary, reference), suffix)
        plots |= block_plots(group, summary, suffix)
    begin = [f"# {inline(title)}", *([about.strip()] if about else [])]
    text = "\n\n".join([*begin, *sections, *tuning_section(trials), *_failed(kept.failures)])
    _write_csv(pd.concat(frames), out / "exits.csv")
    _write_csv(latencies(kept.runs), out / "latency.csv")
    write_atomically(out / REPORT, f"{text}\n".encode(errors="replace"))
    write_page(text, plots, out)
    return out / REPORT


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the rows, if there are any, without what only tables and figures need; else there is no such file."""
    path.unlink(missing_ok=True)
    if len(frame):
        shown = frame.drop(columns=["series", "config", "arm_key", "last"], errors="ignore")
        for column in shown.select_dtypes(["object", "str"]):
            shown[column] = shown[column].map(lambda value: cell(value) if isinstance(value, str) else value)
        write_atomically(path, shown.to_csv(index=False).encode(errors="replace"))


@checked
def main_table(runs: Sequence[Run], reference: str | None = None) -> pd.DataFrame:
    """The main table, as text: a row a network, its last exit, against the reference."""
    if not runs:
        raise UsageError("main_table: name the runs to compare")
    summary = summarise(rows(distinct_runs(runs)[0]))
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
    trials: Sequence[Trial],
    out: Path,
    suffix: str,
) -> str:
    """The section of runs on the same images; `suffix` ends the names of its figures."""
    summary = summarise(frame)
    compared_with = _reference_series(summary, reference)
    scores, left_out = read_scores(runs)
    verdicts = _verdicts(runs, summary, scores, compared_with, primary, left_out)
    data, size = runs[0].record.data, runs[0].record.data["split"]
    heading = f"{one_line(data['name'])} ({one_line(data['copy'])})"
    title = f"{heading}: {size['test']:,} test images"
    parts = [
        f"## {inline(data['name'])} ({inline(data['copy'])})",
        f"{size['train']:,} training, {size['validation']:,} validation, {size['calibration']:,} calibration and "
        f"{size['test']:,} test images; data digest {code(data['digest'][:12])}. Accuracy is on the test images, "
        "which were read once, after training. MACs are multiply-accumulates of convolutions and linear layers for "
        "one image.",
        _caution(summary, size["test"]),
        *verdicts_section(verdicts),
        "### Networks",
        markdown(_main_table(summary, compared_with, verdicts.bold)),
        _footnotes(summary, compared_with, frame, bold=bool(verdicts.bold)),
        *accuracy_figures(summary, compared_with, out, suffix, title),
        *pareto_section(summary, scores, compared_with, len(data["classes"])),
        *exits_section(summary),
        *apart_section(summary, scores),
        *curves_section(summary, compared_with, out / f"pruning-curves{suffix}", title),
        *pruning_section(summary),
        *channels_section(runs, summary, out, suffix, heading),
        *latency_section(runs, summary),
        *confounds_section(summary, scores, verdicts.contrasts),
        *costs_section(summary),
        *epochs_section(runs, summary, out, suffix, heading),
        *_probes_section(runs, summary, out / f"probe{suffix}"),
        *published_section(data["name"], data["copy"]),
        *limits_section(runs, summary, verdicts.last["class"], trials, len(left_out)),
        *reproduction_section(runs),
    ]
    return "\n\n".join(part for part in parts if part)


def _verdicts(
    runs: Sequence[Run],
    summary: pd.DataFrame,
    scores: Mapping[tuple[str, int], Scores],
    reference: str | None,
    primary: tuple[str, str] | None,
    left_out: Sequence[str],
) -> Verdicts:
    by_run = {run.id: series(run) for run in runs}
    here = [by_run[id] for id in primary or () if id in by_run]
    apart = ["the primary contrast, as one of its networks is not among those on these images"] * (len(here) == 1)
    declared = (here[0], here[1]) if len(here) == 2 else None
    return judge(summary, of_last_exits(scores), reference, declared, [*left_out, *apart])


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


def _probes_section(runs: Sequence[Run], summary: pd.DataFrame, figure: Path) -> list[str]:
    """What every block has learnt, of the runs that were probed; nothing where none was."""
    blocks, retrained = read_probes(runs, names_by_series(summary))
    if blocks.empty:
        return []
    write_probe_figure(blocks, retrained, figure)
    return [
        "### What every block has learnt",
        f"On {held_out_images(blocks)}. {PROBES}",
        *map(markdown, probe_tables(blocks, retrained)),
        f"![Probes of every block]({figure.name}.svg)",
    ]


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
    return " ".join([*notes, *_latency_notes(summary, frame)])


def _latency_notes(summary: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """What the table's latencies are, and what they are not good for."""
    if "bench_session" not in frame:
        return ["Latency was not measured: `compress bench` does."]
    notes = []
    if _batches(summary):
        conditions, reference = (
            summary[column].dropna().iloc[0] for column in ("latency_conditions", "latency_reference")
        )
        notes.append(
            f"Latency ({conditions}): median of repeated timings, networks interleaved, "
            f"each exit cut out; the ratio, to {code(reference)}, is the median of the "
            "ratios within each round, and what a shared machine can be believed in."
        )
        if (summary["latency_noisy"] > 0).any():
            notes.append(f"**These latencies are noisy**: {NOISE}.")
    if frame["bench_session"].nunique() > 1:
        notes.append(
            "**Not all latencies were measured in one session: compare only after `compress bench` on all runs.** "
            "Seeds of different sessions have no mean and are left out."
        )
    return notes


def _failed(failures: Sequence[str]) -> list[str]:
    """What was asked for and is not here; nothing where all is."""
    if not failures:
        return []
    return ["## Did not run", "\n".join(f"- did not run: {inline(failure, SENTENCE)}" for failure in failures)]


def _batches(summary: pd.DataFrame) -> list[str]:
    prefix = "latency_ratio_"
    measured = [column for column in summary.columns if column.startswith(prefix) and summary[column].notna().any()]
    return [column.removeprefix(prefix) for column in measured]
