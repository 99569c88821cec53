"""Limits: what a report cannot show, as its own runs tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.measuring.bench_file import read_measurements
from benchmarks.report.group import Group
from benchmarks.report.section import Bullets, Section
from benchmarks.report.trials import Trial
from benchmarks.results.escaping import code, inline
from compress.recipes import paper
from compress.runs import Run


def limits_section(group: Group) -> Section:
    """A line on every limit."""
    lines = [
        f"One data set and one set of {group.test_images:,} test images: nothing here says what holds on other data.",
        *_training(group),
        _tuning(group.trials),
        _selection(group.runs),
        *_choosing(group.runs),
        *_machines(group.runs),
        *_comparisons(group),
    ]
    return Section("Limits", [Bullets(lines)])


def _training(group: Group) -> list[str]:
    recipes = {run.record.config["recipe"]["name"] for run in group.runs}
    epochs = sorted({int(run.record.cost["epochs"]) for run in group.runs if run.record.parent is None})
    theirs = paper().epochs
    lines = []
    if "paper" not in recipes or max(epochs, default=0) < theirs:
        named = " and ".join(code(name) for name in sorted(recipes))
        length = f", {_range(epochs)} epoch{'s' if epochs[-1] > 1 else ''} of training" if epochs else ""
        lines.append(
            f"Trained by recipe {named}{length}. The MW-BP authors' protocol for CIFAR has {theirs} epochs: nothing "
            "here repeats it, and what a short training shows need not hold in a long one."
        )
    costs = group.last["total_training_macs"]
    if costs.max() > 1.1 * costs.min():
        lines.append(f"Training costs differ, by up to {costs.max() / costs.min():.1f}x, and are not equalised.")
    return lines


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _tuning(trials: Sequence[Trial]) -> str:
    if not trials:
        return "No tuning trials are part of this report: a method may do better with a rate and decay of its own."
    counts = sorted({sum(other.arm == trial.arm for other in trials) for trial in trials})
    return f"Tuned with {_range(counts)} trials for each arm, with one seed and at one budget."


def _selection(runs: Sequence[Run]) -> str:
    weights = sorted({str(run.record.results.get("weights", "last")) for run in runs})
    if weights == ["last"]:
        return "The weights are the last of every training; no epoch was selected."
    return f"Weights reported: {inline(', '.join(weights))}."


def _choosing(runs: Sequence[Run]) -> list[str]:
    """What was chosen on images that the network had been trained on."""
    seen = sorted({judged for run in runs if not run.record.data["split"]["validation"] for judged in _judged(run)})
    if not seen:
        return []
    return [f"Chosen by the loss of training images, as the recipe holds out none: {' and '.join(seen)}."]


def _judged(run: Run) -> Iterator[str]:
    """What a run's pruning chooses by a loss."""
    request = run.record.config["request"]
    if "blocks" in (request.get("method"), request.get("shape")):
        yield "which `blocks` go"
    if request.get("allocate"):
        yield "widths by `sensitivity`"


def _machines(runs: Sequence[Run]) -> list[str]:
    measured = [measurement for run in runs for measurement in read_measurements(run)]
    lines = ["Latency was not measured."]
    if measured:
        places = dict.fromkeys(inline(f"{one.conditions.hardware} ({one.device})") for one in measured)
        engines = dict.fromkeys(inline(f"{one.engine} {one.precision}") for one in measured)
        lines = [
            f"Latency was measured on {' and '.join(places)} alone, with {', '.join(engines)}: other machines and "
            "engines may rank networks differently."
        ]
    on_gpu = any(run.record.environment["gpu"] for run in runs)
    if not on_gpu and not any(measurement.device.startswith("cuda") for measurement in measured):
        lines.append("Nothing was trained or measured on a GPU.")
    return lines


def _comparisons(group: Group) -> list[str]:
    classes, left_out = group.verdicts.last["class"], len(group.left_out)
    alone = int((classes.map(classes.value_counts()) == 1).sum())
    lines = []
    if alone and len(classes) > 1:
        share = f"{alone} of {len(classes)} networks {'is' if alone == 1 else 'are'}"
        lines.append(f"{share} alone in a budget class: there is none of equal cost to compare with.")
    if left_out:
        lines.append(f"{left_out} run{'s' if left_out > 1 else ''} could not be compared image by image.")
    if group.last["method"].nunique() == 1 and len(classes) > 1:
        lines.append("All networks come from one method.")
    return lines
