"""Limits: what a report cannot show, said by its runs themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from benchmarks.measuring.bench_file import Measurement, read_measurements
from benchmarks.report.trials import Trial
from benchmarks.results.escaping import code, inline
from benchmarks.statistics.scores import ENOUGH_SEEDS
from compress.recipes import paper
from compress.runs import Run


def limits_section(
    runs: Sequence[Run], summary: pd.DataFrame, classes: pd.Series, trials: Sequence[Trial], left_out: int
) -> list[str]:
    """A line on every limit.

    Args:
        classes: the budget class of every network.
        left_out: how many runs have no predictions that could be compared.
    """
    lines = [
        *_seeds(summary),
        _images(runs),
        *_training(runs, summary),
        *_tuning(trials),
        _selection(runs),
        *_choosing(runs),
        *_machines(runs),
        *_comparisons(summary, classes, left_out),
    ]
    return ["### Limits", "\n".join(f"- {line}" for line in lines)]


def _seeds(summary: pd.DataFrame) -> list[str]:
    fewest, most = int(summary["n"].min()), int(summary["n"].max())
    counts = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    seeds = f"{counts} seed{'s' if most > 1 else ''} a network"
    if fewest >= ENOUGH_SEEDS:
        return [f"{seeds}: an interval from so few holds only if seeds scatter normally."] if fewest < 10 else []
    one = "; of one, how much training scatters is unknown" if fewest == 1 else ""
    return [f"{seeds}, where {ENOUGH_SEEDS} are the least{one}."]


def _images(runs: Sequence[Run]) -> str:
    data = runs[0].record.data
    images = f"{data['split']['test']:,} test images"
    return f"One data set and one set of {images}: nothing here says what holds on other data."


def _training(runs: Sequence[Run], summary: pd.DataFrame) -> list[str]:
    recipes = {run.record.config["recipe"]["name"] for run in runs}
    epochs = sorted({int(run.record.cost["epochs"]) for run in runs if run.record.parent is None})
    theirs = paper().epochs
    lines = []
    if "paper" not in recipes or max(epochs, default=0) < theirs:
        named = " and ".join(code(name) for name in sorted(recipes))
        length = f", {_range(epochs)} epoch{'s' if epochs[-1] > 1 else ''} of training" if epochs else ""
        lines.append(
            f"Trained by recipe {named}{length}. The MW-BP authors' protocol for CIFAR has {theirs}: nothing here "
            "repeats it, and what a short training shows need not hold in a long one."
        )
    costs = summary[summary["last"]]["total_training_macs"]
    if costs.max() > 1.1 * costs.min():
        lines.append(
            f"Training costs differ, by up to {costs.max() / costs.min():.1f}x, and are not equalised: they are in the "
            "table."
        )
    return lines


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _tuning(trials: Sequence[Trial]) -> list[str]:
    if not trials:
        return ["No tuning trials are part of this report: a method may do better with a rate and decay of its own."]
    counts = sorted({sum(one.arm == trial.arm for one in trials) for trial in trials})
    return [f"Tuned with {_range(counts)} trials an arm, for one seed and at one budget."]


def _selection(runs: Sequence[Run]) -> str:
    weights = sorted({str(run.record.results.get("weights", "last")) for run in runs})
    if weights == ["last"]:
        return "Reported are the last weights of every training; no epoch was selected."
    return f"Reported weights: {inline(', '.join(weights))}."


def _choosing(runs: Sequence[Run]) -> list[str]:
    """What was judged on images that the network had learnt."""
    seen = sorted({judged for run in runs if not run.record.data["split"]["validation"] for judged in _judged(run)})
    if not seen:
        return []
    return [f"Chosen by the loss of training images, as the recipe holds out none: {' and '.join(seen)}."]


def _judged(run: Run) -> Iterator[str]:
    """What the pruning of a run, if it is pruned, judges by a loss."""
    request = run.record.config["request"]
    if "blocks" in (request.get("method"), request.get("shape")):
        yield "which `blocks` go"
    if request.get("allocate"):
        yield "widths by `sensitivity`"


def _machines(runs: Sequence[Run]) -> list[str]:
    measured = [one for run in runs for one in read_measurements(run)]
    lines = ["Latency was not measured."]
    if measured:
        places = dict.fromkeys(inline(f"{one.conditions.hardware} ({one.device})") for one in measured)
        engines = dict.fromkeys(inline(f"{one.engine} {one.precision}") for one in measured)
        lines = [
            f"Latency was measured on {' and '.join(places)} alone, with {', '.join(engines)}: other machines and "
            "engines rank anew."
        ]
    on_gpu = any(run.record.environment["gpu"] for run in runs)
    if not on_gpu and not any(one.device.startswith("cuda") for one in measured):
        lines.append("Nothing was trained or measured on a GPU.")
    return [*lines, *_noise(measured)]


def _noise(measured: Sequence[Measurement]) -> list[str]:
    """Which latencies are not to be relied on."""
    lines = []
    if noisy := _conditions([one for one in measured if one.noisy]):
        lines.append(f"Noisy latencies, of which small differences mean nothing: {noisy}.")
    if unknown := _conditions([one for one in measured if one.noise is None]):
        lines.append(f"Latencies by an earlier version, which kept neither noise nor intervals: {unknown}.")
    return lines


def _conditions(measured: Sequence[Measurement]) -> str:
    return "; ".join(dict.fromkeys(inline(str(one.conditions)) for one in measured))


def _comparisons(summary: pd.DataFrame, classes: pd.Series, left_out: int) -> list[str]:
    alone = int((classes.map(classes.value_counts()) == 1).sum())
    lines = []
    if alone and len(classes) > 1:
        share = f"{alone} of {len(classes)} networks {'is' if alone == 1 else 'are'}"
        lines.append(f"{share} alone in a budget class: none of equal cost is there to compare with.")
    if left_out:
        lines.append(f"{left_out} run{'s' if left_out > 1 else ''} could not be compared image by image.")
    if summary[summary["last"]]["method"].nunique() == 1 and len(classes) > 1:
        lines.append("All networks come from one method.")
    return lines
