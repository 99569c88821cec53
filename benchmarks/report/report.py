"""The report: the answer first, then the sections of each data set and split, and how all was measured at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.report.comparison import Comparison, make_directory, write_records
from benchmarks.report.figures.files import save
from benchmarks.report.group import Group, comparable
from benchmarks.report.markdown import as_markdown
from benchmarks.report.page import as_page
from benchmarks.report.section import Figure, Section, Text
from benchmarks.report.sections.answer import answer_section
from benchmarks.report.sections.confounds import confounds_section
from benchmarks.report.sections.early_exit_table import early_exit_section
from benchmarks.report.sections.exits import exits_section, separate_section
from benchmarks.report.sections.latency_by_engine import latency_section
from benchmarks.report.sections.limits import limits_section
from benchmarks.report.sections.missing_runs import missing_section
from benchmarks.report.sections.networks import networks_section
from benchmarks.report.sections.pareto import pareto_section
from benchmarks.report.sections.precision_fronts import precision_section
from benchmarks.report.sections.primary_contrasts import primary_section
from benchmarks.report.sections.probe_tables import probes_section
from benchmarks.report.sections.pruned_networks import channels_section, curves_section, pruning_section
from benchmarks.report.sections.published import published_section
from benchmarks.report.sections.reproduction import reproduction_section
from benchmarks.report.sections.resources import resources_section
from benchmarks.report.sections.screen_effects import main_effects_section
from benchmarks.report.sections.training_history import training_section
from benchmarks.report.sections.tuning_table import tuning_section
from benchmarks.report.sections.uneven_classes import classes_section
from benchmarks.report.sections.verdicts import verdicts_section
from benchmarks.results.escaping import cell, code, inline, short_line
from benchmarks.results.latencies import latencies
from benchmarks.results.repeated_runs import distinct_runs
from compress.console import console
from compress.errors import UsageError, checked
from compress.runs import write_atomically

REPORT, PAGE = "report.md", "report.html"
SECTIONS: tuple[Callable[[Group], Section | None], ...] = (  # of each group of runs, in this order
    networks_section,
    verdicts_section,
    pareto_section,
    precision_section,
    exits_section,
    separate_section,
    early_exit_section,
    classes_section,
    curves_section,
    pruning_section,
    channels_section,
    latency_section,
    confounds_section,
    resources_section,
    training_section,
    probes_section,
    published_section,
    limits_section,
    reproduction_section,
)
CHOOSING = (verdicts_section, pareto_section, precision_section)  # by test images: not of a screen


@checked
def write_report(comparison: Comparison, out: Path, *, png: bool = False) -> Path:
    """Write `report.md`, `report.html` and the figures (.svg) into a directory; returns the Markdown's path.

    Beside them are `exits.csv`, with a row for each exit, and `latency.csv`, with a row for each measurement, if there
    are any. The records that these are made from are written there first: see `benchmarks.report.comparison`.

    Args:
        comparison: what is reported. Runs that repeat another's configuration and seed are named and left out; those
            on other images or another split get sections and figures of their own.
        out: the directory.
        png: whether each figure is written as .png, too.

    Raises:
        UsageError: there is nothing to report, or `out` cannot be written.
    """
    if not comparison.runs:
        raise UsageError("there are no finished runs to report; train some first: compress study quickstart")
    make_directory(out)
    runs, repeated = distinct_runs(comparison.runs)
    for line in repeated:
        console.print(f"skipped: {line}")
    kept = write_records(dataclasses.replace(comparison, runs=runs), out)
    timed = latencies(kept.runs)
    groups = [
        Group.of(own, kept, timed, suffix=f"-{number}" if number > 1 else "")
        for number, own in enumerate(comparable(kept.runs), start=1)
    ]
    _write_csv(pd.concat([group.frame for group in groups]), out / "exits.csv")
    _write_csv(timed, out / "latency.csv")
    sections = _sections(kept, groups)
    svgs = {}
    for drawn in (block for section in sections for block in section.blocks if isinstance(block, Figure)):
        save(drawn.drawing, out / drawn.name, png=png)
        svgs[drawn.name] = (out / f"{drawn.name}.svg").read_bytes()
    write_atomically(out / REPORT, as_markdown(sections).encode(errors="replace"))
    write_atomically(out / PAGE, as_page(short_line(kept.title), sections, svgs).encode(errors="replace"))
    return out / REPORT


def _sections(comparison: Comparison, groups: Sequence[Group]) -> list[Section]:
    """All sections of the report in their order."""
    about = comparison.about.strip()
    body = [Section("What was asked", [Text(about)], level=2)] if about else []
    for group in groups:
        body.append(_data_section(group))
        made = [make for make in SECTIONS if not (group.screened and make in CHOOSING)]
        body += [section for make in made if (section := make(group))]
    last = tuning_section(comparison.trials), missing_section(comparison.failures)
    body += [section for section in last if section]
    answers = [section for group in groups if (section := primary_section(group))]
    effects = main_effects_section(comparison)
    # The answer of a screen is its effects: a best network would be chosen on test images.
    answers += [effects] if effects else [answer_section(group) for group in groups]
    methods = {section.title: section.method for section in (*answers, *body) if section.method}
    return [
        Section(inline(comparison.title), level=1),
        *answers,
        *body,
        Section("How this was measured", level=2),
        *(Section(title, [Text(method)]) for title, method in methods.items()),
    ]


def _data_section(group: Group) -> Section:
    """The heading of a group's sections, with its images."""
    size = group.data["split"]
    return Section(
        f"{inline(group.data['name'])} ({inline(group.data['copy'])})",
        [
            Text(
                f"{size['train']:,} training, {size['validation']:,} validation, {size['calibration']:,} calibration "
                f"and {size['test']:,} test images; data digest {code(group.data['digest'][:12])}."
            )
        ],
        level=2,
    )


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the rows, if there are any, without the columns that only tables and figures need; else remove the file."""
    path.unlink(missing_ok=True)
    if len(frame):
        shown = frame.drop(columns=["series", "arm_key", "last", "origin_macs"], errors="ignore")
        for column in shown.select_dtypes(["object", "str"]):
            shown[column] = shown[column].map(lambda value: cell(value) if isinstance(value, str) else value)
        write_atomically(path, shown.to_csv(index=False).encode(errors="replace"))
