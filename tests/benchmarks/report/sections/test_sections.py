"""The sections beside the tables: what is compared with what, what is missing, and nothing that is not known."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import Comparison, write_report
from benchmarks.report.group import Group
from benchmarks.report.markdown import as_markdown
from benchmarks.report.section import Table
from benchmarks.report.sections.confounds import confounds_section
from benchmarks.report.sections.exits import separate_section
from benchmarks.report.sections.published import published_section
from benchmarks.report.sections.resources import resources_table
from benchmarks.report.sections.verdicts import contrast_cells
from benchmarks.results.cells import MISSING
from compress.runs import Run
from tests.benchmarks.report.conftest import network, table_of, texts_of

Rows = list[dict[str, Any]]
SummedUp = Callable[..., Group]


def test_an_exit_is_judged_within_its_class_alone_and_shown_beside_the_nearest(summed_up: SummedUp) -> None:
    rows = [
        *network("M", [10, 50, 80, 100], [0.5, 0.8, 0.85, 0.9], method="mwbp"),
        *network("A", [50.5], [0.9], recipe={"name": "quick", "learning_rate": 0.3}),
        *network("B", [90], [0.9]),
        *network("taught", [80], [0.95], teacher_reference={"spec": {}}),
        *network("other recipe", [80], [0.95], recipe={"name": "quick", "momentum": 0.5}),
        *network("frozen", [50, 100], [0.7, 0.89], method="frozen-trunk"),
    ]
    section = separate_section(summed_up(rows))
    assert texts_of(section) == [
        "Of 3 auxiliary exits 1 has a separately trained network of the same budget class here. Of 1 comparison, the "
        "exit is less accurate in 1 and more accurate in 0."
    ]
    assert [
        (row["network"], row["compared with"], row["its MACs"], row["difference, points"], row["verdict"])
        for row in table_of(section)
    ] == [
        ("M (exit 1)", "A", "505%", MISSING, "none: other budget"),
        ("M (exit 2)", "A", "101%", "-10.00", "less accurate"),
        ("M (exit 3)", "B", "112%", MISSING, "none: other budget"),
    ]
    assert separate_section(summed_up(rows[4:])) is None
    alone = separate_section(summed_up([*rows[:4], *network("B", [90], [0.9])]))
    assert alone is not None
    assert len(alone.blocks) == 1  # no table of nothing but other budgets


def test_one_seed_answers_nothing_two_are_preliminary_and_nothing_alike_is_said(summed_up: SummedUp) -> None:
    rows = [*network("M", [50, 100], [0.8, 0.9], 1, method="mwbp"), *network("A", [50], [0.9], 1)]
    assert texts_of(separate_section(summed_up(rows)))[0].endswith(
        "Of 1 comparison between these trained networks, the exit is less accurate in 1 and more accurate in 0. "
        "With one seed, whether one training gives several good models is not answered."
    )
    two = [row | {"n": 2} for row in rows]
    assert texts_of(separate_section(summed_up(two)))[0].endswith("and more accurate in 0 (preliminary).")
    same = [row | {"n": 3, "test_accuracy": 0.9} for row in rows]
    assert texts_of(separate_section(summed_up(same)))[0].endswith("more accurate in 0; all are not distinguishable.")
    alone = separate_section(summed_up(rows[:2]))
    assert "is not answered" in texts_of(alone)[0]


def test_the_controls_of_mwbp_are_found_and_the_missing_named(summed_up: SummedUp) -> None:
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
    section = confounds_section(summed_up(rows))
    assert [(row["network"], row["compared with"]) for row in table_of(section)] == [
        ("M (exit 2)", "plain"), ("M (exit 2)", "decay"), ("M (exit 2)", "in turn (exit 2)"),
        ("M (exit 1)", "frozen (exit 1)"),
    ]  # fmt: skip
    assert texts_of(section) == ["**missing** for M: deep-supervision, mwbp-uniform-decay"]
    assert table_of(section)[0]["what it shows"].endswith("(trained in bf16, not fp32)")


def test_mwbp_with_plain_decay_is_a_control_beside_mwbp_and_the_subject_without_it(summed_up: SummedUp) -> None:
    decay = {"update": "simultaneous", "decay_factors": [2.0, 1.0], "teacher": 0.0}
    flat = decay | {"decay_factors": [1.0, 1.0]}
    rows = [
        *network("M", [50, 100], [0.8, 0.9], method="mwbp", objective=decay),
        *network("uniform", [50, 100], [0.8, 0.9], method="mwbp-uniform-decay", objective=flat),
        *network("plain", [100], [0.89]),
    ]
    both, alone = (confounds_section(summed_up(some)) for some in (rows, rows[2:]))
    assert {row["network"] for row in table_of(both)} == {"M (exit 2)"}
    assert [(row["network"], row["compared with"]) for row in table_of(alone)] == [("uniform (exit 2)", "plain")]
    assert texts_of(alone) == ["**missing** for uniform: deep-supervision, sequential, frozen-trunk"]
    assert "Of 1 auxiliary exit" in texts_of(separate_section(summed_up(rows[2:])))[0]


def test_exit_training_is_controlled_by_mwbp_without_it(summed_up: SummedUp) -> None:
    plain = {"update": "simultaneous", "decay_factors": [2.0, 1.0], "teacher": 0.0}
    rows = [
        *network("annealed", [50, 100], [0.8, 0.9], method="mwbp", objective=plain | {"annealing": "last-third"}),
        *network("M", [50, 100], [0.8, 0.89], method="mwbp", objective=plain),
    ]
    section = confounds_section(summed_up(rows))
    assert [(row["network"], row["compared with"]) for row in table_of(section)] == [
        ("annealed (exit 2)", "M (exit 2)")
    ]
    assert "without" not in texts_of(section)[-1]  # of M nothing is missing by that name


def test_a_screen_names_what_all_of_its_networks_lack_once(summed_up: SummedUp) -> None:
    plain = {"update": "simultaneous", "decay_factors": [2.0, 1.0], "teacher": 0.0}
    rows = [
        *network("annealed", [50, 100], [0.8, 0.9], method="mwbp", objective=plain | {"annealing": "last-third"}),
        *network("M", [50, 100], [0.8, 0.89], method="mwbp", objective=plain),
        *network("N", [60, 110], [0.8, 0.89], method="mwbp", objective=plain | {"annealing": "last-third"}),
    ]
    section = confounds_section(replace(summed_up(rows), screened=True))
    absent = "bp, bp-extra-decay, deep-supervision, mwbp-uniform-decay, sequential, frozen-trunk"
    assert texts_of(section) == [f"**missing** for every network of the screen: {absent}"]
    assert section is not None
    assert len(section.blocks) == 1  # no verdict on test images


def test_a_control_is_judged_as_the_verdicts_do(summed_up: SummedUp) -> None:
    decay = {"update": "simultaneous", "decay_factors": [2.0, 1.0], "teacher": 0.0}
    rows = [*network("M", [50, 100], [0.8, 0.9], method="mwbp", objective=decay), *network("plain", [100], [0.89])]
    rows += network("other", [100], [0.7], method="bp-extra-decay", objective=decay, kind="train")
    group = summed_up(rows, "plain")
    [judged] = [contrast for contrast in group.verdicts.contrasts if {*contrast.pair} == {"M", "plain"}]
    shown = {row["compared with"]: row for row in table_of(confounds_section(group))}
    assert shown["plain"]["difference, points"] == "+1.00"
    assert shown["plain"]["p, adjusted"] == contrast_cells(judged)["p, adjusted"]


def test_the_controls_of_pruning_stand_beside_what_they_control(summed_up: SummedUp) -> None:
    def pruned(name: str, accuracy: float, macs: float = 80, **request: Any) -> Rows:
        asked = {"speedup": 2.5, "schedule": "small-rate", "shape": "l1"} | request
        kind = "control" if name.startswith(("scratch", "shallow")) else "prune"
        return network(name, [macs], [accuracy], kind=kind, method=name, request=asked)

    rows = [*pruned("l1", 0.9), *pruned("taylor", 0.95), *pruned("random", 0.8), *pruned("scratch-e", 0.9),
            *pruned("shallow", 0.99, macs=84)]  # fmt: skip
    section = confounds_section(summed_up(rows))
    found = {row["compared with"]: row for row in table_of(section)}
    assert {row["network"] for row in found.values()} == {"l1"}
    assert [found[name]["difference, points"] for name in ("random", "scratch-e", "shallow")] == [
        *("+10.00", "+0.00", MISSING)
    ]
    assert found["random"]["verdict"] == "more accurate"
    assert found["shallow"]["verdict"] == "none: other budget"
    assert texts_of(section) == ["**missing** for what was pruned to speedup 2.50: scratch-b, distilled"]


def test_the_report_has_its_sections_in_order_and_no_published_figure_of_other_data(
    runs: list[Run], tmp_path: Any
) -> None:
    text = write_report(Comparison(runs=runs, about="What it is about."), tmp_path).read_text()
    order = ["# Comparison", "## The best network at each budget", "![Accuracy", "## What was asked", "### Networks",
             "### Verdicts", "### Pareto fronts", "### Every exit", "### Exits against separately trained networks",
             "### Pruning, ", "### Controls and confounds", "### Resources", "### Limits",
             "### How to reproduce each row", "## How this was measured", "### Verdicts"]  # fmt: skip
    place = 0
    for heading in order:
        place = text.index(heading, place) + 1
    assert "Published" not in text
    assert "- **missing** for MwResNet-8-2: bp, bp-extra-decay, deep-supervision" in text
    assert "| MwResNet-8-2, its exits | 2 |" in text
    assert "Trained by recipe `quick`, 1 epoch of training" in text
    assert "No tuning trials" in text


def test_what_was_not_measured_is_left_out_of_resources() -> None:
    made = {"last": True, "epochs": 1.0, "training_seconds": 3.0, "choosing_macs": 0.0, "step": np.nan}
    costs = {"network": "N", "training_macs": 1e12, "total_training_macs": 3e12}
    assert resources_table(pd.DataFrame([made | costs])).rows == [
        {"network": "N", "training MACs: own": "1.00T", "before": "2.00T", "epochs": "1", "seconds": "3"}
    ]


def test_published_figures_have_a_source_and_are_marked(runs: list[Run], grouped: Callable[..., Group]) -> None:
    def published(dataset: str, copy: str = "") -> str:
        data = runs[0].record.data | {"name": dataset, "copy": copy}
        section = published_section(grouped([replace(runs[0], record=replace(runs[0].record, data=data))]))
        for table in [block for block in section.blocks if isinstance(block, Table)] if section else []:
            assert all(row["source"] != MISSING for row in table.rows)
        return as_markdown([section]) if section else ""

    for dataset in ("cifar10", "cifar100", "svhn"):
        assert "**Published, not measured here**" in published(dataset)
    text = published("cifar10")
    assert "| AuxNet-56-2 | 5.77 |" in text
    assert "| BranchyNet on ResNet-110 | 80.70 | 79.17 | 1.9x (time on a CPU) |" in text
    assert "class folders" not in text
    assert "compressed again" in published("cifar10", "class folders").replace("\n", " ")
    assert published("fashion-mini") == ""
