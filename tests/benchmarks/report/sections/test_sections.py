"""The sections beside the tables: what is compared with what, what is missing, and nothing that is not known."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import write_report
from benchmarks.report.sections.confounds import confounds_section
from benchmarks.report.sections.exits import apart_section
from benchmarks.report.sections.published import published_section
from benchmarks.report.sections.resources import costs_table
from benchmarks.report.sections.verdicts import contrast_cells
from benchmarks.results.cells import MISSING
from benchmarks.results.contrasts import judge
from benchmarks.results.predictions import of_last_exits
from benchmarks.statistics.scores import Scores
from compress.runs import Run

IMAGES = 1000
Rows = list[dict[str, Any]]


def network(name: str, macs: list[float], accuracies: list[float], seeds: int = 3, **config: Any) -> Rows:
    """A row an exit, with what the sections ask for."""
    shared: dict[str, Any] = {
        "kind": "train", "method": "bp", "recipe": {"name": "quick"}, "request": {},
        "objective": {"update": "simultaneous", "decay_factors": [1.0], "teacher": 0.0},
        "spec": {"arch": name, "blocks": 3, "exits": list(range(len(macs)))},
    }  # fmt: skip
    settings = shared | {"precision": "fp32"} | config
    family = "train" if settings["kind"] == "train" else "control" if settings["kind"] == "control" else "width"
    exits = len(macs)
    request = settings["request"]
    return [
        {"series": json.dumps(settings | {"name": name}), "network": name, "arm": name, "arm_key": name,
         "family": family, "method": settings["method"], "kind": settings["kind"], "recipe": "quick", "epochs": 5,
         "exit": exit, "exits": exits, "last": exit == exits, "macs": size, "n": seeds, "test_accuracy": accuracy,
         "test_accuracy_half_width": 0.01, "step": np.nan, "requested_speedup": request.get("speedup", np.nan),
         "achieved_speedup": 200 / size}
        for exit, (size, accuracy) in enumerate(zip(macs, accuracies, strict=True), start=1)
    ]  # fmt: skip


def scores_of(rows: Rows) -> Mapping[tuple[str, int], Scores]:
    return {
        (row["series"], row["exit"]): Scores(
            seeds=tuple(range(row["n"])),
            right=np.tile(np.arange(IMAGES) < row["test_accuracy"] * IMAGES, (row["n"], 1)),
        )
        for row in rows
    }


def lines_of(section: list[str]) -> list[list[str]]:
    """Cells of the table's rows."""
    return [line.strip("| ").split(" | ") for text in section for line in text.splitlines() if line.startswith("| ")][
        2:
    ]


def test_an_exit_is_judged_within_its_class_alone_and_shown_beside_the_nearest() -> None:
    rows = [
        *network("M", [10, 50, 80, 100], [0.5, 0.8, 0.85, 0.9], method="mwbp"),
        *network("A", [50.5], [0.9], recipe={"name": "quick", "learning_rate": 0.3}),
        *network("B", [90], [0.9]),
        *network("taught", [80], [0.95], teacher_reference={"spec": {}}),
        *network("other recipe", [80], [0.95], recipe={"name": "quick", "momentum": 0.5}),
        *network("frozen", [50, 100], [0.7, 0.89], method="frozen-trunk"),
    ]
    section = apart_section(pd.DataFrame(rows), scores_of(rows))
    assert section[1] == (
        "Of 3 auxiliary exits 1 has a separately trained net of the same budget class here. Of these comparisons: "
        "1 less accurate."
    )
    far, judged, near = lines_of(section)
    assert (far[2], far[4], far[5], far[-1]) == ("A", "505%", MISSING, "none: other budget")
    assert (judged[0], judged[2], judged[5], judged[-1]) == ("M (exit 2)", "A", "-10.00", "less accurate")
    assert (near[2], near[4], near[5], near[-2:]) == ("B", "112%", "-5.00", [MISSING, "none: other budget"])
    assert apart_section(pd.DataFrame(rows[4:]), scores_of(rows)) == []


def test_one_seed_is_preliminary_and_nothing_alike_is_said() -> None:
    rows = [*network("M", [50, 100], [0.8, 0.9], 1, method="mwbp"), *network("A", [50], [0.9], 1)]
    assert apart_section(pd.DataFrame(rows), scores_of(rows))[1].endswith("1 less accurate (preliminary).")
    alone = apart_section(pd.DataFrame(rows[:2]), scores_of(rows))
    assert "is not answered" in alone[1]
    assert lines_of(alone)[0][-1] == "nothing was trained alike"


def test_the_controls_of_mwbp_are_found_and_the_missing_named() -> None:
    decay = {"update": "simultaneous", "decay_factors": [2.0, 1.0], "teacher": 0.0}
    other = decay | {"decay_factors": [3.0, 1.0]}
    rows = [
        *network("M", [50, 100], [0.8, 0.9], method="mwbp", objective=decay),
        *network("plain", [100], [0.89], precision="bf16", recipe={"name": "quick", "learning_rate": 0.3}),
        *network("decay", [100], [0.85], method="bp-extra-decay", objective=decay, kind="train"),
        *network("another decay", [100], [0.85], method="bp-extra-decay", objective=other, kind="train"),
        *network("frozen", [50, 100], [0.7, 0.89], method="frozen-trunk"),
        *network("in turn", [50, 100], [0.8, 0.9], method="mwbp", objective=decay | {"update": "sequential"}),
    ]
    section = confounds_section(pd.DataFrame(rows), scores_of(rows))
    assert [(cells[0], cells[1]) for cells in lines_of(section)] == [
        ("M (exit 2)", "plain"), ("M (exit 2)", "decay"), ("M (exit 2)", "in turn (exit 2)"),
        ("M (exit 1)", "frozen (exit 1)"),
    ]  # fmt: skip
    assert section[-1] == "- **missing** for M: deep-supervision, mwbp-uniform-decay"
    assert lines_of(section)[0][2].endswith("(trained in bf16, not fp32)")
    primary = judge(pd.DataFrame(rows), of_last_exits(scores_of(rows)), None, (rows[2]["series"], rows[1]["series"]))
    declared = lines_of(confounds_section(pd.DataFrame(rows), scores_of(rows), primary.contrasts[:1]))
    assert [cells[-1] for cells in declared[:2]] == ["the primary contrast: see Verdicts", "more accurate"]


def test_a_control_that_was_judged_before_is_not_judged_once_more() -> None:
    decay = {"update": "simultaneous", "decay_factors": [2.0, 1.0], "teacher": 0.0}
    rows = [*network("M", [50, 100], [0.8, 0.9], method="mwbp", objective=decay), *network("plain", [100], [0.89])]
    rows += network("other", [100], [0.7], method="bp-extra-decay", objective=decay, kind="train")
    table, scores = pd.DataFrame(rows), scores_of(rows)
    verdicts = judge(table, of_last_exits(scores), rows[2]["series"])
    [judged] = [one for one in verdicts.contrasts if {*one.pair} == {rows[1]["series"], rows[2]["series"]}]
    for contrast in (judged, judged.reversed):
        section = confounds_section(table, scores, [contrast])
        assert "p adjusted by Holm for 1 comparison of this section; what Verdicts has" in section[1]
        by_control = {cells[1]: cells for cells in lines_of(section)}
        assert by_control["plain"][4] == "+1.00"
        assert by_control["plain"][7] == contrast_cells(judged)["p, adjusted"]


def test_the_controls_of_pruning_stand_beside_what_they_control() -> None:
    def pruned(name: str, accuracy: float, macs: float = 80, **request: Any) -> Rows:
        asked = {"speedup": 2.5, "schedule": "small-rate", "shape": "l1"} | request
        kind = "control" if name.startswith(("scratch", "shallow")) else "prune"
        return network(name, [macs], [accuracy], kind=kind, method=name, request=asked)

    rows = [*pruned("l1", 0.9), *pruned("taylor", 0.95), *pruned("random", 0.8), *pruned("scratch-e", 0.9),
            *pruned("shallow", 0.99, macs=84)]  # fmt: skip
    section = confounds_section(pd.DataFrame(rows), scores_of(rows))
    found = {cells[1]: cells for cells in lines_of(section)}
    assert {cells[0] for cells in found.values()} == {"l1"}
    assert [found[name][4] for name in ("random", "scratch-e", "shallow")] == ["+10.00", "+0.00", MISSING]
    assert found["random"][-1] == "more accurate"
    assert found["shallow"][-1] == "none: control has 105% of MACs"
    assert section[-1].splitlines() == [
        "- **missing** for what was pruned to speedup 2.50: scratch-b, distilled",
        "- **missing** for the shapes of taylor: from-scratch controls",
    ]


def test_the_report_has_its_sections_in_order_and_no_published_figure_of_other_data(
    runs: list[Run], tmp_path: Any
) -> None:
    text = write_report(runs, tmp_path).read_text()
    order = ["Verdicts", "Networks", "Pareto fronts", "Every exit", "Exits against separately trained nets",
             "Pruning, ", "Controls and confounds", "Cost", "Limits", "How to reproduce each row"]  # fmt: skip
    places = [text.index(f"### {heading}") for heading in order]
    assert places == sorted(places)
    assert "Published" not in text
    assert "- **missing** for MwResNet-8-2: bp, bp-extra-decay, deep-supervision" in text
    assert "| MwResNet-8-2, its exits | 2 |" in text
    assert "Trained by recipe `quick`, 1 epoch of training" in text
    assert "No tuning trials" in text


def test_costs_of_an_arm_are_one_row_and_what_was_not_measured_is_left_out() -> None:
    made = {"last": True, "arm": "l1", "epochs": 1.0, "training_seconds": 3.0, "choosing_macs": 0.0, "step": np.nan}
    rows = [
        made | {"network": f"N{macs}", "arm_key": "k", "macs": macs, "params": macs * 1e4, "training_macs": macs * 1e10,
                "total_training_macs": macs * 1e10 + 1e12}
        for macs in (100, 200)
    ]  # fmt: skip
    table = costs_table(pd.DataFrame(rows))
    assert table.to_dict("records") == [
        {"network": "l1 (2)", "training MACs: own": "1T to 2T", "before": "1T", "all": "2T to 3T", "epochs": "1",
         "seconds": "3", "parameters": "1M to 2M"}
    ]  # fmt: skip


def test_published_figures_have_a_source_and_are_marked() -> None:
    for dataset in ("cifar10", "cifar100", "svhn"):
        text = "\n".join(published_section(dataset))
        assert "**Published, not measured here**" in text
        assert all(cells[-1] != MISSING for cells in lines_of([text]))
    text = "\n".join(published_section("cifar10"))
    assert "| AuxNet-56-2 | 5.77 |" in text
    assert "| BranchyNet on ResNet-110 | 80.70 | 79.17 | 1.9x (time on a CPU) |" in text
    assert "Not quoted, since not verified: L1-A and L1-B, fine-tuned and Scratch-E" in text
    assert "class folders" not in text
    assert "compressed anew" in "\n".join(published_section("cifar10", "class folders"))
    assert published_section("fashion-mini") == []
