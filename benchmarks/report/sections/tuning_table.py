"""Tuning trials: a row for each arm, a column for each trial."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.best_trial import Trial, best
from benchmarks.report.section import Section, Table, Text
from benchmarks.results.cells import MISSING, Number, percent
from benchmarks.results.escaping import inline

METHOD = (
    "Cells are validation accuracies of the last exit in percent, for one seed. Every arm listed had the same number "
    "of trials: its recipe's rate and weight decay times the same factors, at one of its budgets; arms that are not "
    "listed were not tuned. The best trial (of equal ones, that of the lower rate) set the rate and decay for all "
    "budgets and seeds of its arm, and is itself one of the runs reported. None: the trial failed, or was not made; as "
    "long as one can still be made, nothing is chosen. The test images had no part in it."
)


def tuning_section(trials: Sequence[Trial]) -> Section | None:
    """The trials of each arm, the chosen one bold; None if nothing was tuned."""
    if not trials:
        return None
    rows = []
    for name in dict.fromkeys(trial.arm for trial in trials):
        own = [trial for trial in trials if trial.arm == name]
        winner = best(own)
        cells = {str(trial.factors): _cell(trial, chosen=trial is winner) for trial in own}
        chosen = f"{winner.learning_rate:.3g}, {winner.weight_decay:.3g}" if winner else MISSING
        target = f"{name} at {own[0].target}" if own[0].target else name
        rows.append({"arm": inline(target)} | cells | {"chosen rate, decay": chosen})
    note = "Validation accuracy in percent, one column for each trial; bold: the trial that was chosen."
    return Section("Tuning", [Text(note), Table.of(rows)], level=2, method=METHOD)


def _cell(trial: Trial, *, chosen: bool) -> str:
    if trial.accuracy is None:
        return "none"
    text = percent(trial.accuracy)
    return Number(f"**{text}**", trial.accuracy) if chosen else text
