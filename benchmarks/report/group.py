"""A group: the runs of a report on the same images and split, with all that its sections are made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from benchmarks.report.best_trial import Trial
from benchmarks.report.comparison import Comparison
from benchmarks.report.figures.accuracy_against_cost import KINDS, accuracy_against, latency_points
from benchmarks.report.section import Block, figures
from benchmarks.results.cells import exit_name
from benchmarks.results.claim_verdicts import Step, judge_claims
from benchmarks.results.claims import with_exit
from benchmarks.results.contrasts import Contrast, Verdicts, compare, judge
from benchmarks.results.epochs import read_epochs
from benchmarks.results.escaping import short_line
from benchmarks.results.predictions import of_last_exits, read_scores
from benchmarks.results.rows import names_by_series, reference_of, rows, summarise
from benchmarks.results.rulings import Ruling, rulings
from benchmarks.results.series import series
from benchmarks.statistics.scores import Scores
from compress.ensemble_exit import ExitName, whole_and_exit
from compress.records import without_seed
from compress.runs import Run

Row = dict[Any, Any]  # of a group's summary


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that compare, read and summed up once.

    Attributes:
        suffix: ends the names of the group's figures; empty for the first group.
        frame: a row for each exit of each run.
        summary: a row for each exit of each series (runs that differ by their seed alone).
        reference: the series that others are compared with; None if there is none.
        scores: which test images each exit got right, by series and exit.
        left_out: a line on each run that has no scores.
        steps: what was declared in the study's file, with what was found.
        latencies: a row for each measurement of latency.
        trials: of the report's tuning.
        screened: whether the comparison is a screen of factors, whose answer is their main effects.
    """

    runs: Sequence[Run]
    suffix: str = ""
    frame: pd.DataFrame
    summary: pd.DataFrame
    reference: str | None
    scores: Mapping[tuple[str, ExitName], Scores]
    left_out: Sequence[str] = ()
    verdicts: Verdicts
    steps: Sequence[Step] = ()
    latencies: pd.DataFrame
    trials: Sequence[Trial] = ()
    screened: bool = False

    @classmethod
    def of(cls, runs: Sequence[Run], comparison: Comparison, latencies: pd.DataFrame, suffix: str = "") -> Group:
        """The group of these runs, judged as the comparison says; `latencies` may hold other runs' too."""
        frame = rows(runs)
        summary = summarise(frame)
        configs = {series(run): without_seed(run.record.config) for run in runs}
        summary["config"] = summary["series"].map(configs.__getitem__)
        of_run = {run.id: series(run) for run in runs}
        reference = of_run.get(comparison.reference or "", reference_of(summary))
        scores, left_out = read_scores(runs)
        last_scores = of_last_exits(scores)
        declared = any(of_run.keys() & {*claim.networks} for claim in comparison.claims)  # of networks on these images
        claims = [claim.renamed(_keys(runs)) for claim in comparison.claims] if declared else []
        by_key = last_scores | {with_exit(*exit): found for exit, found in scores.items()}
        steps = judge_claims(claims, by_key, validation_accuracies(runs))
        return cls(
            runs=runs,
            suffix=suffix,
            frame=frame,
            summary=summary,
            reference=reference,
            scores=scores,
            left_out=left_out,
            verdicts=judge(summary, last_scores, reference, left_out, rulings(steps)),
            steps=steps,
            latencies=latencies[latencies["run"].isin(of_run)] if len(latencies) else latencies,
            trials=comparison.trials,
            screened=comparison.screen is not None,
        )

    @property
    def data(self) -> dict[str, Any]:
        """What the records say of the data set."""
        return self.runs[0].record.data

    @property
    def test_images(self) -> int:
        """The number of test images."""
        return int(self.data["split"]["test"])

    @property
    def name(self) -> str:
        """The data set, as in ``cifar10 (class folders)``, as plain text."""
        return f"{short_line(self.data['name'])} ({short_line(self.data['copy'])})"

    @property
    def title(self) -> str:
        """The title of figures of accuracy, as plain text."""
        return f"{self.name}: {self.test_images:,} test images"

    @property
    def last(self) -> pd.DataFrame:
        """The summary's rows of last exits."""
        return self.summary[self.summary["last"]]

    @property
    def reference_row(self) -> pd.Series | None:
        """The reference's last exit."""
        return None if self.reference is None else self.last[self.last["series"] == self.reference].iloc[0]

    def compare(self, pairs: Iterable[tuple[Row, Row]]) -> dict[tuple[str, str], Contrast]:
        """The contrasts of pairs of exits (rows of the summary) that have scores, by both names.

        Pairs that the verdicts have, too, are judged as there; p-values of the others are adjusted for all of them.
        Of a pair that was declared in the study's file, what was decided stands.
        """
        known = {seen.pair: seen for contrast in self.verdicts.contrasts for seen in (contrast, contrast.reversed)}
        found: dict[tuple[str, str], Contrast] = {}
        scores: dict[str, Scores] = {}
        left: dict[tuple[str, str], Ruling | None] = {}
        for pair in pairs:
            names = exit_name(pair[0]), exit_name(pair[1])
            keys = [(row["series"], row["exit"]) for row in pair]
            if all(row["last"] for row in pair) and (judged := known.get((keys[0][0], keys[1][0]))):
                found[names] = judged
            elif {*keys} <= self.scores.keys():
                scores |= {name: self.scores[key] for name, key in zip(names, keys, strict=True)}
                left[names] = self.ruling(*pair)
        declared = {names: ruling for names, ruling in left.items() if ruling}
        return found | {contrast.pair: contrast for contrast in compare([*left], scores, declared)}

    def ruling(self, network: Row, other: Row) -> Ruling | None:
        """What the primary contrasts say of two exits."""
        return self._rulings.get((_key_of(network), _key_of(other)))

    @cached_property
    def by_key(self) -> dict[str, Row]:
        """The rows of the summary by the names that the steps have for them: those of last exits are their series."""
        return {_key_of(row): row for row in self.summary.to_dict("records")}

    @cached_property
    def _rulings(self) -> dict[tuple[str, str], Ruling]:
        return rulings(self.steps)

    def accuracy_figure(self, kind: str) -> list[Block]:
        """The figure of accuracy of one of the `KINDS`; empty if there is nothing to compare."""
        drawing = accuracy_against(kind, self.summary, self.title, self.reference)
        return figures(f"{kind}{self.suffix}", KINDS[kind][0], drawing)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """A row for each epoch of each run, as `read_epochs` has them."""
        return read_epochs(self.runs, names_by_series(self.summary))

    @cached_property
    def accuracy_figures(self) -> list[Block]:
        """Accuracy against each cost; the answer shows the first: against latency, where it was measured of all."""
        kinds = ["accuracy-macs", "accuracy-latency", "accuracy-training"]
        if len(latency_points(self.summary)) == len(self.summary):
            kinds[:2] = kinds[1::-1]
        return [figure for kind in kinds for figure in self.accuracy_figure(kind)]


def _key_of(row: Row) -> str:
    return with_exit(row["series"], None if row["last"] else row["exit"])


def _keys(runs: Sequence[Run]) -> Callable[[str], str]:
    """What gives the key of an exit that a claim names by the id of a run; what names none of the runs stays."""
    by_id = {run.id: run for run in runs}

    def key(name: str) -> str:
        network, exit = whole_and_exit(name)
        if network not in by_id:
            return name
        return with_exit(series(by_id[network]), None if exit == len(by_id[network].exits) else exit)

    return key


def validation_accuracies(runs: Sequence[Run]) -> dict[str, dict[int, float]]:
    """The accuracies of all exits on validation images, by key and seed; without runs that held out none."""
    found: dict[str, dict[int, float]] = {}
    for run in runs:
        for row in run.predictions:
            if (accuracy := row.get("val_accuracy")) is not None:
                key = with_exit(series(run), None if row["exit"] == len(run.exits) else row["exit"])
                found.setdefault(key, {})[run.record.seed] = float(accuracy)
    return found


def comparable(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs, grouped by images and split."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps([run.record.data["digest"], run.record.data["split"]]), []).append(run)
    return list(groups.values())
