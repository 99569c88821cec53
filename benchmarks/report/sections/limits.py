"""Limits: what a report cannot show, as its own runs tell."""

from __future__ import annotations

from benchmarks.report.group import Group
from benchmarks.report.section import Bullets, Section
from benchmarks.results.escaping import code, inline
from compress.recipes import paper


def limits_section(group: Group) -> Section:
    """A line on every limit."""
    runs, costs = group.runs, group.last["total_training_macs"]
    lines = [
        f"One data set and one set of {group.test_images:,} test images: nothing here says what holds on other data.",
        *_training(group),
    ]
    if costs.max() > 1.1 * costs.min():
        ratio = f"{costs.max() / costs.min():.1f}x"
        lines.append(
            f"Training costs differ, by up to {ratio}: equal only where one network was trained to match another."
        )
    unknown = group.last[costs.isna()]["network"]
    if len(unknown):
        names = ", ".join(dict.fromkeys(unknown))
        lines.append(f"What training cost is unknown for {names}, which started from weights given to them.")
    if not group.trials:
        lines.append("No tuning trials are part of this report: a method may do better with its own rate and decay.")
    if not group.data["split"]["validation"] and any(run.record.kind == "prune" for run in runs):
        lines.append("What pruning chose by a loss, it chose on training images, as the recipe holds out none.")
    weights = inline(", ".join(sorted({str(run.record.results.get("weights", "last")) for run in runs})))
    if weights == "last":
        lines.append("The weights are the last of every training; no epoch was selected.")
    else:
        lines.append(f"Weights reported: {weights}.")
    if len(group.latencies):
        lines.append("Other machines and engines than those of this report may rank the latencies differently.")
    if not any(run.record.environment["gpu"] for run in runs):
        lines.append("Nothing was trained on a GPU.")
    return Section("Limits", [Bullets(lines)])


def _training(group: Group) -> list[str]:
    """How far the training falls short of the protocol of MW-BP's authors."""
    recipes = sorted({run.record.config["recipe"]["name"] for run in group.runs})
    epochs = sorted({int(run.record.cost["epochs"]) for run in group.runs if run.record.parent is None})
    theirs = paper().epochs
    if "paper" in recipes and max(epochs, default=0) >= theirs:
        return []
    length = ""
    if epochs:
        span = " to ".join(map(str, dict.fromkeys((epochs[0], epochs[-1]))))
        length = f", {span} epoch{'s' if epochs[-1] > 1 else ''} of training"
    return [
        f"Trained by recipe {' and '.join(map(code, recipes))}{length}. The MW-BP authors' protocol for CIFAR has "
        f"{theirs} epochs: nothing here repeats it, and what a short training shows need not hold in a long one."
    ]
