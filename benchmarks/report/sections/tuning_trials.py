"""The section on tuning: a row an arm, a column a trial."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmarks.report.trials import Trial, best
from benchmarks.results.cells import MISSING, markdown, percent
from benchmarks.results.escaping import inline


def tuning_section(trials: Sequence[Trial]) -> list[str]:
    """A row an arm, a column a trial, the chosen one bold; nothing where nothing was tuned."""
    if not trials:
        return []
    columns = list(dict.fromkeys(str(trial.factors) for trial in trials))
    lines = []
    for name in dict.fromkeys(trial.arm for trial in trials):
        own = [trial for trial in trials if trial.arm == name]
        winner = best(own)
        target = inline(f"{name} at {own[0].target}" if own[0].target else name)
        cells = {str(trial.factors): _cell(trial, chosen=trial is winner) for trial in own}
        chosen = f"{winner.learning_rate:.3g}, {winner.weight_decay:.3g}" if winner else MISSING
        lines.append({"arm": target} | cells | {"chosen rate, decay": chosen})
    return [
        "## Tuning",
        "Validation accuracy in per cent of the last exit, for one seed. Every arm here had the same number of trials, "
        f"{len(columns)}: its recipe's rate and weight decay times the same factors, at one of its budgets; what is "
        "not here was not tuned. The best (bold; of equal ones that of the lower rate) was used for all its budgets "
        "and seeds, and is itself one of the runs reported. The test images had no part in it.",
        markdown(pd.DataFrame(lines)),
    ]


def _cell(trial: Trial, *, chosen: bool) -> str:
    if trial.accuracy is None:
        return "failed"
    return f"**{percent(trial.accuracy)}**" if chosen else percent(trial.accuracy)
