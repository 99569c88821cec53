"""Controls and confounds: what else could explain a difference, and which controls are missing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from baselines import Technique
from baselines.technique import SHAPED
from benchmarks.report.group import Group, Row
from benchmarks.report.section import Block, Bullets, Section, Table
from benchmarks.report.sections.pruned_networks import requested
from benchmarks.report.sections.verdicts import contrast_cells
from benchmarks.results.arms import plainly_trained, protocol, technique
from benchmarks.results.cells import exit_name, mean_cell
from benchmarks.results.contrasts import CLASS, same_class

OF_TRAINING = {  # controls of MW-BP, and what each shows
    "bp": "the same trunk by plain BP: all that MW-BP changes",
    "bp-extra-decay": "MW-BP's weight decay without its losses",
    "deep-supervision": "auxiliary losses of weight one with plain decay",
    "mwbp-uniform-decay": "MW-BP's losses without its weight decay",
    "sequential": "the authors' order of updates",
    "frozen-trunk": "the same exits on a frozen trunk that plain BP trained",
}
OF_PRUNING = {  # controls of a pruned network, and what each shows
    "random": "whether the criterion matters",
    "scratch-e": "its shape from scratch, the reference's epochs: whether the kept weights matter",
    "scratch-b": "the same for the reference's computation, to four times its epochs",
    "shallow": "the plain network of fewer blocks: whether pruning was needed",
    "distilled": "that network taught by the reference",
}
METHOD = (
    "Each control is compared with the network that it controls for; differences are the network's accuracy minus the "
    "control's. Comparisons that Verdicts has, too, are shown as they are there; p-values of the others are adjusted "
    f"for all of them by Holm's method. There is no verdict if MACs differ by more than {CLASS:.0%}."
)
Pair = tuple[Row, Row, str]  # a network, its control, and the control's name


def confounds_section(group: Group) -> Section | None:
    """The controls of MW-BP and of pruning, and those that are missing; None if there is neither."""
    rows = group.summary[group.summary["step"].isna()].to_dict("records")
    trained, lacking = _of_training(rows)
    pruned, lacking_pruned = _of_pruning(rows)
    blocks: list[Block] = _table(group, [*trained, *pruned])
    if missing := [f"**missing** for {line}" for line in (*lacking, *lacking_pruned)]:
        blocks.append(Bullets(missing))
    return Section("Controls and confounds", blocks, method=METHOD) if blocks else None


def _table(group: Group, pairs: Sequence[Pair]) -> list[Block]:
    found = group.compare((network, control) for network, control, _ in pairs if same_class(network, control))
    rows = []
    for network, control, name in pairs:
        row = {
            "network": exit_name(network),
            "control": exit_name(control),
            "what it shows": (OF_TRAINING | OF_PRUNING)[name] + _precision(network, control),
            "test accuracies, %": f"{mean_cell(network)}; {mean_cell(control)}",
        }
        contrast = found.get((exit_name(network), exit_name(control)))
        rows.append(row | (contrast_cells(contrast) if contrast else {"verdict": _why_not(network, control)}))
    return [Table.of(rows, last="verdict")] if rows else []


def _why_not(network: Row, control: Row) -> str:
    """Why there is no verdict on a pair."""
    share = control["macs"] / network["macs"]
    return "none: no predictions" if same_class(network, control) else f"none: control has {share:.0%} of MACs"


def _precision(network: Row, control: Row) -> str:
    """The precision that a control was trained in, if it is another than the network's."""
    own, its = (row["config"].get("precision") for row in (network, control))
    return "" if own == its else f" (trained in {its}, not {own})"


def _of_training(rows: Sequence[Row]) -> tuple[list[Pair], list[str]]:
    """Networks by MW-BP with their controls, last exits with last exits; and a line on what each lacks."""
    trained = [row for row in rows if row["family"] == "train"]
    subjects = [row for row in trained if row["last"] and row["exits"] > 1 and row["method"] == "mwbp"]
    pairs, missing = [], []
    for network in subjects:
        config = network["config"]
        sequential = config["objective"]["update"] == "sequential"
        if sequential and _simultaneous(config, (row["config"] for row in trained)):
            continue  # a control itself
        found = [
            (name, other)
            for other in trained
            if (name := _controls(config, other["config"])) and (other["last"] or name == "frozen-trunk")
        ]
        pairs += [
            (own, control, name)
            for name, control in _in_order(found, OF_TRAINING)
            for own in _partners(network, control, trained)
        ]
        present = {name for name, _ in found} | ({"sequential"} if sequential else set())
        if absent := [name for name in OF_TRAINING if name not in present]:
            missing.append(f"{network['network']}: {', '.join(absent)}")
    return pairs, missing


def _partners(network: Row, control: Row, rows: Sequence[Row]) -> list[Row]:
    """What a control's exit is compared with: the last exit or, for a frozen trunk, its own auxiliary exits."""
    if control["method"] != "frozen-trunk":
        return [network]
    alike = [row for row in rows if row["series"] == network["series"] and row["exit"] == control["exit"]]
    return [row for row in alike if not row["last"]]


def _controls(config: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The name of the control that the other network is for one by MW-BP; None if it is none."""
    if _trunk(config) != _trunk(other) or protocol(config) != protocol(other):
        return None
    if plainly_trained(other):
        return "bp"
    own, its = config["objective"], other["objective"]
    if other["method"] == "bp-extra-decay":
        return "bp-extra-decay" if its["decay_factors"] == own["decay_factors"] else None
    if config["spec"]["exits"] != other["spec"]["exits"]:
        return None
    if other["method"] == "mwbp" and (own["update"], its["update"]) == ("simultaneous", "sequential"):
        return "sequential"
    return other["method"] if other["method"] in OF_TRAINING else None


def _trunk(config: Mapping[str, Any]) -> dict[str, Any]:
    """A network's spec without its exits and its name."""
    return {key: value for key, value in config["spec"].items() if key not in ("arch", "exits")}


def _simultaneous(config: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the same network was trained by the simultaneous update, too."""
    return any(
        other["method"] == "mwbp"
        and other["objective"]["update"] == "simultaneous"
        and (_trunk(other), other["spec"]["exits"]) == (_trunk(config), config["spec"]["exits"])
        and protocol(other) == protocol(config)
        for other in others
    )


def _in_order(found: Sequence[tuple[str, Row]], order: Mapping[str, str]) -> list[tuple[str, Row]]:
    return sorted(found, key=lambda item: list(order).index(item[0]))


def _of_pruning(rows: Sequence[Row]) -> tuple[list[Pair], list[str]]:
    """Controls of pruning at every budget, with what they are compared with; and a line on what each lacks."""
    last = [row for row in rows if row["last"] and row["family"] != "train"]
    points: dict[tuple[int, str], list[Row]] = {}
    for row in last:
        points.setdefault((_origin(row), requested(row)), []).append(row)
    pairs: list[Pair] = []
    lacking: dict[tuple[str, ...], list[str]] = {}
    for (_, budget), own in points.items():
        pruned = [row for row in own if row["family"] != "control" and row["method"] != "random"]
        controls = [(row["method"], row) for row in own if row["method"] in OF_PRUNING]
        if not pruned:
            continue
        pairs += [
            (row, control, name)
            for name, control in _in_order(controls, OF_PRUNING)
            for row in _controlled(control["config"], pruned)
        ]
        absent = tuple(name for name in OF_PRUNING if name not in {name for name, _ in controls})
        if absent:
            lacking.setdefault(absent, []).append(budget)
    missing = [f"what was pruned to {' and '.join(asked)}: {', '.join(absent)}" for absent, asked in lacking.items()]
    shapes = _without_scratch(last)
    return pairs, missing + ([f"the shapes of {', '.join(shapes)}: from-scratch controls"] if shapes else [])


def _controlled(config: Mapping[str, Any], pruned: Sequence[Row]) -> list[Row]:
    """The pruned networks that a control is compared with: of the control's shape and options, l1 if it has none.

    If there is no such network, a control of a shape has no partner; any other control has every pruned network.
    """
    asked = technique(config)
    wanted = dataclasses.replace(asked, method=asked.shape, shape="l1", nearest=False), _schedule(config)
    found = [row for row in pruned if _options(row["config"]) == wanted]
    return found or ([] if asked.method in SHAPED else list(pruned))


def _options(config: Mapping[str, Any]) -> tuple[Technique, str | None]:
    return dataclasses.replace(technique(config), nearest=False), _schedule(config)


def _schedule(config: Mapping[str, Any]) -> str | None:
    schedule: str | None = config.get("request", {}).get("schedule")
    return schedule


def _without_scratch(rows: Sequence[Row]) -> list[str]:
    """The methods whose shapes were not trained from scratch, if other shapes were."""
    shapes = {technique(row["config"]).shape for row in rows if row["method"] in SHAPED}
    pruned = [row["method"] for row in rows if row["family"] != "control" and row["method"] != "random"]
    return [method for method in dict.fromkeys(pruned) if method not in shapes] if shapes else []


def _origin(row: Row) -> int:
    """The MACs, in thousands, of the network that was pruned or gave a control its size."""
    speedup = row.get("achieved_speedup", math.nan)
    return round(speedup * row["macs"] / 1000) if speedup == speedup else 0
