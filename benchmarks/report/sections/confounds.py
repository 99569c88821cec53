"""Controls and confounds: what else could explain a difference, and which controls are missing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from baselines import Technique
from baselines.technique import SHAPED
from benchmarks.report.group import Group, Row
from benchmarks.report.section import Block, Bullets, Section, Table
from benchmarks.report.sections.pruned_networks import requested
from benchmarks.report.sections.verdicts import judged_pairs
from benchmarks.results.arms import is_subject, plainly_trained, protocol, technique
from benchmarks.results.budget_classes import CLASS
from compress.objective_numbers import OPTIONAL

OF_TRAINING = {  # controls of MW-BP, and what each shows
    "bp": "the same trunk by plain BP: all that MW-BP changes",
    "bp-extra-decay": "MW-BP's weight decay without its losses",
    "deep-supervision": "auxiliary losses of weight one with plain decay",
    "mwbp-uniform-decay": "MW-BP's losses without its weight decay",
    "sequential": "the authors' order of updates",
    "without": "MW-BP with auxiliary losses at full weight throughout, and without the ensemble as teacher",
    "frozen-trunk": "the same exits on a frozen trunk that plain BP trained",
}
OF_DECAY = ("bp-extra-decay", "mwbp-uniform-decay")  # controls of MW-BP's weight decay: for nets that have it
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
    f"for all of them by Holm's method. There is no verdict if MACs differ by more than {CLASS:.0%}, but for a "
    "pair that Primary contrasts tested in a step that is not exploratory, whose verdict stands."
)
Pair: TypeAlias = tuple[Row, Row, str]  # a network, its control, and the control's name


def confounds_section(group: Group) -> Section | None:
    """The controls of MW-BP and of pruning, and those that are missing; None if there is neither.

    Of a screen those alone that are missing: what its factors change, its main effects say on validation images.
    """
    rows = group.summary[group.summary["step"].isna()].to_dict("records")
    trained, absent = _of_training([row for row in rows if row["family"] == "train"])
    pruned, lacking_pruned = _of_pruning([row for row in rows if row["last"] and row["family"] != "train"])
    pairs, blocks = [] if group.screened else [*trained, *pruned], list[Block]()
    if pairs:
        judged, _ = judged_pairs(group, [(network, control) for network, control, _ in pairs])
        shown = [{"what it shows": (OF_TRAINING | OF_PRUNING)[name] + _precision(*pair)} for *pair, name in pairs]
        blocks.append(Table.of((row | more for row, more in zip(judged, shown, strict=True)), last="verdict"))
    lacking = [*_lacking(absent, screened=group.screened), *lacking_pruned]
    if missing := [f"**missing** for {line}" for line in lacking]:
        blocks.append(Bullets(missing))
    method = "" if group.screened else METHOD
    return Section("Controls and confounds", blocks, method=method) if blocks else None


def _lacking(absent: Mapping[str, Sequence[str]], *, screened: bool) -> list[str]:
    """A line on what each network by MW-BP lacks; of a screen a single one, on what all of them lack."""
    if not screened:
        return [f"{network}: {', '.join(names)}" for network, names in absent.items() if names]
    common = [name for name in OF_TRAINING if absent and all(name in names for names in absent.values())]
    return [f"every network of the screen: {', '.join(common)}"] if common else []


def _precision(network: Row, control: Row) -> str:
    """The precision that a control was trained in, if it is another than the network's."""
    own, its = (row["config"].get("precision") for row in (network, control))
    return "" if own == its else f" (trained in {its}, not {own})"


def _of_training(rows: Sequence[Row]) -> tuple[list[Pair], dict[str, list[str]]]:
    """Networks by MW-BP with their controls, last exits with last exits; and what each lacks, by its name.

    Networks by the sequential update are controls themselves if there are any by the simultaneous one.
    """
    configs = [row["config"] for row in rows]
    several = [row for row in rows if row["last"] and row["exits"] > 1 and row["method"] != "auxnet"]
    mwbp = [row for row in several if is_subject(row["config"], configs)]
    simultaneous = [row for row in mwbp if row["config"]["objective"]["update"] == "simultaneous"]
    pairs, missing = list[Pair](), dict[str, list[str]]()
    for network in simultaneous or mwbp:
        own = [row for row in rows if row["series"] == network["series"]]
        needless = () if network["method"] == "mwbp" else OF_DECAY
        found = [
            (row, control, name)
            for name in OF_TRAINING
            for control in rows
            if name not in needless and _controls(network["config"], control["config"]) == name
            for row in own
            if (_same_auxiliary(row, control) if name == "frozen-trunk" else row["last"] and control["last"])
        ]
        pairs += found
        present = {name for *_, name in found} | {network["config"]["objective"]["update"], *needless}
        present |= set() if _without(network["config"]) else {"without"}
        missing[network["network"]] = [name for name in OF_TRAINING if name not in present]
    return pairs, missing


def _same_auxiliary(row: Row, control: Row) -> bool:
    """Whether both are the same auxiliary exit: a frozen trunk's last exit is no control, but the trunk's own."""
    return not row["last"] and row["exit"] == control["exit"]


def _controls(config: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The name of the control that the other network is for one by MW-BP; None if it is none."""
    if _trunk(config) != _trunk(other) or protocol(config) != protocol(other):
        return None
    if plainly_trained(other):
        return "bp"
    own, its, method = config["objective"], other["objective"], other["method"]
    if its == _without(config) and config["spec"]["exits"] == other["spec"]["exits"]:
        return "without"
    if method == "bp-extra-decay":
        return method if its["decay_factors"] == own["decay_factors"] else None
    if config["spec"]["exits"] != other["spec"]["exits"]:
        return None
    if method == "mwbp" and (own["update"], its["update"]) == ("simultaneous", "sequential"):
        return "sequential"
    return str(method) if method in OF_TRAINING else None


def _without(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The objective without what exits do for one another in training; None where it is nothing."""
    objective = config["objective"]
    plain = {key: value for key, value in objective.items() if key not in OPTIONAL}
    return None if plain == objective else plain


def _trunk(config: Mapping[str, Any]) -> dict[str, Any]:
    """A network's spec without its exits and its name."""
    return {key: value for key, value in config["spec"].items() if key not in ("arch", "exits")}


def _of_pruning(rows: Sequence[Row]) -> tuple[list[Pair], list[str]]:
    """Controls of pruning at every budget, with what they are compared with; and a line on what each lacks."""
    points: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        points.setdefault((_origin(row), requested(row)), []).append(row)
    pairs: list[Pair] = []
    lacking: dict[str, list[str]] = {}
    for (_, budget), own in points.items():
        pruned = [row for row in own if row["family"] != "control" and row["method"] != "random"]
        found = [(row, name) for name in OF_PRUNING for row in own if row["method"] == name]
        pairs += [(row, control, name) for control, name in found for row in _controlled(control["config"], pruned)]
        absent = ", ".join(name for name in OF_PRUNING if name not in {name for _, name in found})
        if pruned and absent:
            lacking.setdefault(absent, []).append(budget)
    named = {absent: dict.fromkeys(asked) for absent, asked in lacking.items()}
    return pairs, [f"what was pruned to {' and '.join(asked)}: {absent}" for absent, asked in named.items()]


def _controlled(config: Mapping[str, Any], pruned: Sequence[Row]) -> list[Row]:
    """The pruned networks that a control is compared with: of the control's shape and options, l1 if it has none.

    If there is no such network, a control of a shape has no partner; any other control has every pruned network.
    """
    asked = technique(config)
    wanted = _options(config, method=asked.shape, shape="l1")
    found = [row for row in pruned if _options(row["config"]) == wanted]
    return found or ([] if asked.method in SHAPED else list(pruned))


def _options(config: Mapping[str, Any], **changes: Any) -> tuple[Technique, str | None]:
    """The technique, with changes, and the schedule of its fine-tuning."""
    return dataclasses.replace(technique(config), nearest=False, **changes), config.get("request", {}).get("schedule")


def _origin(row: Row) -> int:
    """The MACs of the network that was pruned or gave a control its size; 0 where that is not known."""
    macs = row.get("origin_macs", math.nan)
    return 0 if math.isnan(macs) else round(macs)
