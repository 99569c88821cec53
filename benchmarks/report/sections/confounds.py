"""Confounds: the controls that a comparison with MW-BP or with pruning has to show, and those that it lacks."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from baselines import Technique
from baselines.technique import SHAPED
from benchmarks.report.sections.pruned_networks import asked_for
from benchmarks.report.sections.verdicts import contrast_cells
from benchmarks.results.arms import plainly_trained, protocol, technique
from benchmarks.results.cells import MISSING, exit_name, markdown, mean_cell
from benchmarks.results.contrasts import CLASS, Contrast, compare, same_class
from benchmarks.statistics.scores import Scores

OF_TRAINING = {  # what each shows, held against MW-BP
    "bp": "the same trunk by plain BP: all that MW-BP changes",
    "bp-extra-decay": "MW-BP's weight decay without its losses",
    "deep-supervision": "auxiliary losses of weight one with plain decay",
    "mwbp-uniform-decay": "MW-BP's losses without its weight decay",
    "sequential": "the authors' order of updates",
    "frozen-trunk": "the same exits on a frozen trunk that plain BP trained",
}
OF_PRUNING = {  # held against the pruned network
    "random": "whether the criterion matters",
    "scratch-e": "its shape from scratch, the reference's epochs: whether the kept weights matter",
    "scratch-b": "the same for the reference's computation, to four times its epochs",
    "shallow": "the plain network of fewer blocks: whether pruning was needed",
    "distilled": "that network taught by the reference",
}
ABOUT = (
    "What else could explain a difference, each held against the network that it controls for: differences are that "
    "network's accuracy less the control's. Exploratory, p adjusted by Holm for {family} comparison{s} of this "
    "section; what Verdicts has, too, is as it is there. "
    f"No verdict where MACs differ by more than {CLASS:.0%}."
)
Row = dict[Any, Any]
Pair = tuple[Row, Row, str]  # a network, its control, and the control's name


def confounds_section(
    summary: pd.DataFrame, scores: Mapping[tuple[str, int], Scores], judged: Sequence[Contrast] = ()
) -> list[str]:
    """The controls of MW-BP and of pruning, and which are missing; nothing where neither is there.

    Contrasts that were judged before, with the verdicts, are not judged once more.
    """
    rows = summary[summary["step"].isna()].to_dict("records")
    configs = {row["series"]: row["config"] for row in rows}
    trained, lacking = _of_training(rows, configs)
    pruned, lacking_pruned = _of_pruning(rows, configs)
    missing = [*lacking, *lacking_pruned]
    pairs = [*trained, *pruned]
    if not pairs and not missing:
        return []
    return [
        "### Controls and confounds",
        *(_table(pairs, scores, judged) if pairs else []),
        "\n".join(f"- **missing** for {line}" for line in missing),
    ]


def _table(pairs: Sequence[Pair], scores: Mapping[tuple[str, int], Scores], judged: Sequence[Contrast]) -> list[str]:
    keyed = {exit_name(row): scores.get((row["series"], row["exit"])) for pair in pairs for row in pair[:2]}
    known = {name: one for name, one in keyed.items() if one is not None}
    before = [_judged(row, other, judged) for row, other, _ in pairs]
    fair = [
        (exit_name(row), exit_name(other))
        for (row, other, _), known_already in zip(pairs, before, strict=True)
        if same_class(row, other) and not known_already
    ]
    found = {one.pair: one for one in compare([pair for pair in fair if set(pair) <= known.keys()], known)}
    lines = []
    for (row, other, name), known_already in zip(pairs, before, strict=True):
        line = {
            "network": exit_name(row),
            "control": exit_name(other),
            "what it shows": (OF_TRAINING | OF_PRUNING)[name] + _precision(row, other),
            "test accuracies, %": f"{mean_cell(row)}; {mean_cell(other)}",
        }
        one = known_already or found.get((exit_name(row), exit_name(other)))
        lines.append(line | (_cells(one) if one else {"verdict": _why_not(row, other)}))
    table = pd.DataFrame(lines).fillna(MISSING)
    table = table[[*(column for column in table if column != "verdict"), "verdict"]]
    return [ABOUT.format(family=len(found), s="" if len(found) == 1 else "s"), markdown(table)]


def _judged(row: Row, control: Row, judged: Sequence[Contrast]) -> Contrast | None:
    """What the verdicts say of a pair of last exits of one class, if they do, seen from the first."""
    pair = row["series"], control["series"]
    if not (row["last"] and control["last"] and same_class(row, control)):
        return None
    found = next((one for one in judged if {*one.pair} == {*pair}), None)
    return found if found is None or found.pair == pair else found.reversed


def _cells(contrast: Contrast) -> dict[str, str]:
    return {"verdict": "the primary contrast: see Verdicts"} if contrast.primary else contrast_cells(contrast)


def _why_not(row: Row, control: Row) -> str:
    """Why there is no verdict on a pair."""
    share = control["macs"] / row["macs"]
    return "none: no predictions" if same_class(row, control) else f"none: control has {share:.0%} of MACs"


def _precision(row: Row, control: Row) -> str:
    """That a control was trained in another precision, where it was."""
    own, its = (one["config"].get("precision") for one in (row, control))
    return "" if own == its else f" (trained in {its}, not {own})"


def _of_training(rows: Sequence[Row], configs: Mapping[str, dict[str, Any]]) -> tuple[list[Pair], list[str]]:
    """Networks by MW-BP with their controls, last exits with last ones; and a line on what each lacks."""
    trained = [row for row in rows if row["family"] == "train"]
    subjects = [row for row in trained if row["last"] and row["exits"] > 1 and row["method"] == "mwbp"]
    pairs, missing = [], []
    for row in subjects:
        config = configs[row["series"]]
        if config["objective"]["update"] == "sequential" and _simultaneous(config, configs.values()):
            continue  # a control itself
        found = [
            (name, other)
            for other in trained
            if (name := _controls(config, configs[other["series"]])) and (other["last"] or name == "frozen-trunk")
        ]
        pairs += [
            (own, other, name) for name, other in _in_order(found, OF_TRAINING) for own in _partner(row, other, trained)
        ]
        lacking = [name for name in OF_TRAINING if name not in {name for name, _ in found}]
        if config["objective"]["update"] == "sequential":
            lacking.remove("sequential")
        missing += [f"{row['network']}: {', '.join(lacking)}"] if lacking else []
    return pairs, missing


def _partner(row: Row, control: Row, rows: Sequence[Row]) -> list[Row]:
    """What a control's exit is held against: the last exit, of a frozen trunk the auxiliary ones, which are its own."""
    if control["method"] != "frozen-trunk":
        return [row]
    alike = [one for one in rows if one["series"] == row["series"] and one["exit"] == control["exit"]]
    return [one for one in alike if not one["last"]]


def _controls(config: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """As what the other network is a control of one by MW-BP, if it is."""
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


def _trunk(config: Mapping[str, Any]) -> str:
    """All of a network's spec but its exits and its name."""
    return json.dumps({key: value for key, value in config["spec"].items() if key not in ("arch", "exits")})


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


def _of_pruning(rows: Sequence[Row], configs: Mapping[str, dict[str, Any]]) -> tuple[list[Pair], list[str]]:
    """Controls of pruning at every operating point, with what they are held against; and a line on what each lacks."""
    last = [row for row in rows if row["last"] and row["family"] != "train"]
    points: dict[tuple[int, str], list[Row]] = {}
    for row in last:
        points.setdefault((_origin(row), asked_for(row)), []).append(row)
    pairs: list[Pair] = []
    lacking: dict[tuple[str, ...], list[str]] = {}
    for (_, requested), own in points.items():
        pruned = [row for row in own if row["family"] != "control" and row["method"] != "random"]
        controls = [(row["method"], row) for row in own if row["method"] in OF_PRUNING]
        if not pruned:
            continue
        pairs += [
            (row, other, name)
            for name, other in _in_order(controls, OF_PRUNING)
            for row in _controlled(technique(configs[other["series"]]), configs[other["series"]], pruned, configs)
        ]
        absent = tuple(name for name in OF_PRUNING if name not in {name for name, _ in controls})
        if absent:
            lacking.setdefault(absent, []).append(requested)
    missing = [f"what was pruned to {' and '.join(asked)}: {', '.join(absent)}" for absent, asked in lacking.items()]
    shapes = _without_scratch(last, configs)
    return pairs, missing + ([f"the shapes of {', '.join(shapes)}: from-scratch controls"] if shapes else [])


def _controlled(
    asked: Technique, config: Mapping[str, Any], pruned: Sequence[Row], configs: Mapping[str, dict[str, Any]]
) -> list[Row]:
    """The pruned networks that a control is held against: by its shape's method, l1 if it has none, and its options.

    Where that is not there, a control of a shape has nothing to be held against, and another has every pruned network.
    """
    wanted = dataclasses.replace(asked, method=asked.shape, shape="l1", nearest=False)
    schedule = config.get("request", {}).get("schedule")
    found = [
        row
        for row in pruned
        if dataclasses.replace(technique(configs[row["series"]]), nearest=False) == wanted
        and configs[row["series"]].get("request", {}).get("schedule") == schedule
    ]
    return found or ([] if asked.method in SHAPED else list(pruned))


def _without_scratch(rows: Sequence[Row], configs: Mapping[str, dict[str, Any]]) -> list[str]:
    """The methods whose shapes were not trained from scratch, where other shapes were."""
    shapes = {technique(configs[row["series"]]).shape for row in rows if row["method"] in SHAPED}
    pruned = [row["method"] for row in rows if row["family"] != "control" and row["method"] != "random"]
    return [method for method in dict.fromkeys(pruned) if method not in shapes] if shapes else []


def _origin(row: Row) -> int:
    """The MACs of what was pruned, or gave a control its size."""
    speedup = row.get("achieved_speedup", math.nan)
    return round(speedup * row["macs"] / 1000) if speedup == speedup else 0
