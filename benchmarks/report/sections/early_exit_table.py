"""Early exit: what it saves, what is guaranteed, and whether a static network of equal accuracy is faster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

import pandas as pd

from benchmarks.certifying.exits_file import ExitPolicy, Timing, read_policies
from benchmarks.report.figures.early_exit_curve import Series, early_exit_figure
from benchmarks.report.group import Group
from benchmarks.report.section import Block, Figure, Section, Table, Text
from benchmarks.results.cells import Number, exit_name, millions
from benchmarks.results.series import series
from compress.runs import Run

METHOD = (
    "Temperatures and thresholds of early exit are chosen on validation images. A certified policy is the most eager "
    "on a path, fixed before, that passes a test on calibration images, which saw nothing else: learn-then-test with a "
    "fixed sequence (arXiv 2110.01052). Accuracy and mean MACs are those of test images; earlier heads are counted. "
    "Time is that of early exit in the same rounds as the whole network and every exit as a network of its own, on the "
    "same images. The smallest static network of equal accuracy is the exit with the fewest MACs whose accuracy on "
    "validation images is not below that of early exit. Where it is a network of another run, the two were timed apart."
)

LABEL = "smallest static network of equal accuracy"
SMALLEST = {"color": "C2", "marker": "D", "linestyle": "none", "markersize": 9, "fillstyle": "none"}


def early_exit_section(group: Group) -> Section | None:
    """A row for each policy, a verdict on each, and a figure for each run; None without policies."""
    kept = [(run, policies) for run in group.runs if (policies := read_policies(run))]
    if not kept:
        return None
    whole = {str(row["series"]): str(row["network"]) for row in group.last.to_dict("records")}
    several = Counter(series(run) for run, _ in kept)
    names = {  # of several seeds of a network each has policies of its own
        run.id: whole[series(run)] + (f", seed {run.record.seed}" if several[series(run)] > 1 else "")
        for run, _ in kept
    }
    rows = [_row(names[run.id], policy) for run, policies in kept for policy in policies]
    blocks: list[Block] = [Table.of(rows)]
    for run, policies in kept:
        blocks += [Text(f"Early exit of {names[run.id]} {_verdict(group, run, policy)}") for policy in policies]
    for number, (run, policies) in enumerate(kept, start=1):
        panels = [panel for panel in (_by_macs(group, run, policies), _by_time(group, run, policies[-1])) if panel]
        drawing = early_exit_figure(panels, f"{group.title}: {names[run.id]}")
        name = f"early-exit{group.suffix}" + (f"-run{number}" if number > 1 else "")
        blocks.append(Figure(name, "Accuracy of early exit against mean MACs and time", drawing))
    return Section("Early exit", blocks, method=METHOD)


def _row(name: str, policy: ExitPolicy) -> dict[str, str]:
    certificate = policy.certificate
    low, high = (100 * value for value in policy.test_interval)
    row = {
        "network": name,
        "engine": f"{policy.engine} {policy.precision}",
        "guarantee": "none: a budget of MACs" if certificate is None else str(certificate).partition(", certified")[0],
        "test accuracy, %": Number(f"{100 * policy.test_accuracy:.2f} [{low:.2f}, {high:.2f}]", policy.test_accuracy),
        "drop, points": Number(f"{100 * policy.test_drop:.2f}", policy.test_drop),
        "mean MACs": millions(policy.mean_macs),
        "of all": Number(f"{policy.mean_macs / policy.full_macs:.0%}", policy.mean_macs / policy.full_macs),
        "leave at each exit": ", ".join(f"{share:.0%}" for share in policy.shares),
    }
    for timing in policy.measured.rows if policy.measured else []:
        row[f"time ratio, batch {timing.batch_size}"] = Number(f"{timing.ratio[1]:.2f}x", timing.ratio[1])
        row[f"if none leaves, batch {timing.batch_size}"] = Number(f"{timing.idle_ratio[1]:.2f}x", timing.idle_ratio[1])
    return row


def _verdict(group: Group, run: Run, policy: ExitPolicy) -> str:
    """The smallest static network of equal accuracy, in MACs and, where both were measured, in time."""
    own, equal = f"({100 * policy.test_accuracy:.2f}%)", _smallest_equal(group, policy)
    if equal is None:
        return f"{own}: no exit here is as accurate on validation images."
    other, exit = equal
    macs = exit["macs"]
    names = {(row["series"], row["exit"]): exit_name(row) for row in group.summary.to_dict("records")}
    name = names[series(other), exit["exit"]]
    cheaper = "fewer" if macs < policy.mean_macs else "no fewer"
    said = (
        f"{own}: the smallest static network of equal accuracy is {name} ({100 * exit['test_accuracy']:.2f}%), with "
        f"{millions(macs)} MACs, {cheaper} than the mean of {millions(policy.mean_macs)}."
    )
    unknown = []
    for timing in policy.measured.rows if policy.measured else []:
        seconds = _static_seconds(group.latencies, policy, timing, run, other, exit["exit"])
        if seconds is None:
            unknown.append(str(timing.batch_size))
        else:
            verdict = "**the static network is faster**" if seconds < timing.seconds[1] else "early exit is faster"
            apart = "" if other.id == run.id else ", timed apart"
            said += (
                f" At batch {timing.batch_size} {verdict}: {1e3 * seconds:.3f} ms an image, early exit "
                f"{1e3 * timing.seconds[1]:.3f} ms{apart}."
            )
    if unknown:
        said += (
            f" Which of the two is faster at batch {' and '.join(unknown)} is not known, as {name} was not timed so: "
            f"`{_bench(group.latencies, policy, other)}` times it."
        )
    return said


def _smallest_equal(group: Group, policy: ExitPolicy) -> tuple[Run, dict[str, Any]] | None:
    """The run and row of the exit with the fewest MACs that is as accurate as early exit on validation images."""
    equal = [
        (run, exit)
        for run in group.runs
        for exit in run.exits
        if exit["val_accuracy"] is not None and exit["val_accuracy"] >= policy.val_accuracy
    ]
    return min(equal, key=lambda each: each[1]["macs"], default=None)


def _static_seconds(
    latencies: pd.DataFrame, policy: ExitPolicy, timing: Timing, run: Run, other: Run, exit: int
) -> float | None:
    """Seconds an image of a static network: from the same rounds if it is of the same run, else from `bench.json`."""
    if other.id == run.id:
        return timing.static_seconds[exit - 1][1]
    alike = _alike(latencies, policy, other)
    found = [row["seconds"] for row in alike if (row["exit"], row["batch"]) == (exit, timing.batch_size)]
    return found[0] / timing.batch_size if found else None


def _alike(latencies: pd.DataFrame, policy: ExitPolicy, other: Run) -> list[dict[Hashable, Any]]:
    """The latencies of another run that were measured as early exit was, but for the batch size."""
    assert policy.measured is not None
    asked = (other.id, policy.engine, policy.precision, policy.measured.hardware, policy.measured.threads)
    names = ("run", "engine", "precision", "hardware", "threads")
    return [row for row in latencies.to_dict("records") if tuple(row[name] for name in names) == asked]


def _bench(latencies: pd.DataFrame, policy: ExitPolicy, other: Run) -> str:
    """The command that times another run as early exit was timed; it keeps the batch sizes that are there."""
    assert policy.measured is not None
    sizes = {timing.batch_size for timing in policy.measured.rows}
    sizes |= {int(row["batch"]) for row in _alike(latencies, policy, other)}
    return (
        f"compress bench {other.id} --engine {policy.engine} --precision {policy.precision} --batch-size "
        f"{','.join(map(str, sorted(sizes)))} --threads {policy.measured.threads} --device {policy.measured.device}"
    )


def _by_macs(group: Group, run: Run, policies: list[ExitPolicy]) -> tuple[str, list[Series]]:
    """Accuracy against mean MACs: the certified path, policies, exits as static networks, and the smallest equal ones.

    Policies for budgets of MACs are joined to a curve, as the budgeted batch classification of MSDNet's authors.
    """
    path = next((policy.curve for policy in reversed(policies) if policy.curve), [])
    costs, accuracies = [point.mean_macs / 1e6 for point in path], [100 * point.test_accuracy for point in path]
    curves = [Series("early exit, the path", costs, accuracies, {"color": "C0"})]
    for certified, label, marker in ((True, "certified", "*"), (False, "for a budget of MACs", "s")):
        chosen = sorted(
            (policy for policy in policies if (policy.certificate is not None) == certified),
            key=lambda policy: policy.mean_macs,
        )
        accuracies = [100 * policy.test_accuracy for policy in chosen]
        look: dict[str, Any] = {
            "color": "C0",
            "marker": marker,
            "linestyle": "none" if certified else ":",
            "markersize": 10,
        }
        curves.append(Series(label, [policy.mean_macs / 1e6 for policy in chosen], accuracies, look))
    static = [row["macs"] / 1e6 for row in run.exits], [100 * row["test_accuracy"] for row in run.exits]
    equal = [found[1] for policy in policies if (found := _smallest_equal(group, policy))]
    costs, accuracies = [row["macs"] / 1e6 for row in equal], [100 * row["test_accuracy"] for row in equal]
    curves.append(Series(LABEL, costs, accuracies, SMALLEST))
    return "MACs an image (millions)", [
        *(curve for curve in curves if len(curve.costs)),
        Series("every exit as a static network", *static, {"color": "C1", "marker": "o", "linestyle": "--"}),
    ]


def _by_time(group: Group, run: Run, policy: ExitPolicy) -> tuple[str, list[Series]] | None:
    """Accuracy against the time of the newest policy at its first batch size; None where it was not measured.

    The smallest static network of equal accuracy is there where its time is known.
    """
    if policy.measured is None:
        return None
    timing = policy.measured.rows[0]
    accuracies = [100 * row["test_accuracy"] for row in run.exits]
    early: dict[str, Any] = {"color": "C0", "marker": "*", "linestyle": "none", "markersize": 10}
    static = {"color": "C1", "marker": "o", "linestyle": "--"}
    shown = [
        Series("early exit", [timing.ratio[1]], [100 * policy.test_accuracy], early),
        Series("every exit as a static network", [each[1] for each in timing.static_ratios], accuracies, static),
    ]
    if equal := _smallest_equal(group, policy):
        other, row = equal
        seconds = _static_seconds(group.latencies, policy, timing, run, other, row["exit"])
        if seconds is not None:
            ratio = seconds / timing.static_seconds[-1][1]
            shown.append(Series(LABEL, [ratio], [100 * row["test_accuracy"]], SMALLEST))
    return f"time / time of the whole network, {policy.engine} {policy.precision}, batch {timing.batch_size}", shown
