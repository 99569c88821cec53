"""The answer: the best network at each budget, and no more than the comparisons carry."""

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import Mock, patch

import pandas as pd

from benchmarks.report.group import Group
from benchmarks.report.section import Figure
from benchmarks.report.sections.answer import OF_PRUNING, OF_TRAINING, ONE_TRAINING, _caution, answer_section
from compress.runs import Run
from tests.benchmarks.report.conftest import answers, network, texts_of


def test_the_best_of_each_budget_stands_with_how_many_it_can_be_told_from(summed_up: Callable[..., Group]) -> None:
    rows = [
        *network("reference", [4e6], [0.95]),
        *network("worse", [2e6], [0.8]),
        *network("best", [2e6], [0.9]),
        *network("alike", [2e6], [0.8995]),
        *network("first", [1e6], [0.9]),
        *network("second", [1e6], [0.7]),
        *network("alone", [3e6], [0.99]),
    ]
    assert [tuple(line.values()) for line in answers(summed_up(rows, "reference"))] == [
        ("4M (100%)", "reference", "95.00 ± 1.00 (n = 3)", "1.00x", "no other network at this budget"),
        ("2M (50%)", "best", "90.00 ± 1.00 (n = 3)", "0.50x", "not shown to differ from 1 of 2 others"),
        ("1M (25%)", "first", "90.00 ± 1.00 (n = 3)", "0.25x", "more accurate than the other one"),
    ]


def test_one_seed_tells_trained_networks_apart_and_an_exit_can_be_the_best(summed_up: Callable[..., Group]) -> None:
    found = answers(summed_up([*network("A", [1e6, 2e6], [0.9, 0.95], 1), *network("B", [1e6], [0.7])]))
    assert [(line["best network"], line["against the others"]) for line in found] == [
        ("A (exit 2)", "no other network at this budget"),
        ("A (exit 1)", "more accurate than the other one (preliminary: one seed of some networks)"),
    ]
    two = answers(summed_up([*network("A", [1e6], [0.9], 2), *network("B", [1e6], [0.7], 2)]))
    assert two[0]["against the others"] == "more accurate than the other one (preliminary)"


def test_what_the_verdicts_do_not_tell_apart_the_answer_does_not_either(summed_up: Callable[..., Group]) -> None:
    """A difference that is clear as the only one of its budget is none as one of the many of the verdicts."""
    rows = [*network("reference", [9e6], [0.9]), *network("A", [1e6], [0.905], 1), *network("B", [1e6], [0.897], 1)]
    more = [row for i in range(9) for row in network(f"N{i}", [2e6 + i * 1e5], [0.9])]
    alone, many = summed_up(rows, "reference"), summed_up(rows + more, "reference")
    assert answers(alone)[-1]["against the others"] == "these two trained networks: more accurate than the other one"
    assert next(line for line in answers(many) if line["best network"] == "A")["against the others"] == (
        "these two trained networks: not shown to differ from 1 of 1 other"
    )


def test_the_section_says_how_sure_it_is_and_shows_a_figure(runs: list[Run], grouped: Callable[..., Group]) -> None:
    group = grouped(runs)
    assert "**Preliminary: one seed of some networks.** Differences between networks may be chance." in _caution(group)
    assert f"**Preliminary: one seed.** {ONE_TRAINING}" in _caution(grouped(runs[:1]))
    names = [getattr(block, "name", "") for block in answer_section(group).blocks]
    assert names[3] == "accuracy-macs"
    alone = " ".join(texts_of(answer_section(replace(group, reference=None))))
    assert "Shown are those with most networks;" in alone


def test_latency_is_shown_first_where_it_was_measured_of_all_networks(summed_up: Callable[..., Group]) -> None:
    """A figure of two networks that happened to be timed says nothing of those that a study is about."""
    timed = {
        "latency_ratio_b1": 0.5,
        "bench_session": "one",
        "latency_reference": "A exit 1",
        "latency_conditions": "cpu",
    }
    for more, first in ((timed, "accuracy-latency"), ({}, "accuracy-macs")):
        rows = [row | timed for name in ("A", "B") for row in network(name, [1e6], [0.9])]
        rows += [row | more for row in network("C", [2e6], [0.95])]
        with patch.object(Group, "title", "A title"):
            figure = summed_up(rows, "A").accuracy_figures[0]
        assert isinstance(figure, Figure)
        assert figure.name == first


def test_what_the_primary_contrasts_compare_is_among_the_budgets(summed_up: Callable[..., Group]) -> None:
    rows = [*network("reference", [9e6], [0.9]), *network("claimed", [7e6], [0.91])]
    rows += [row for cost in (1e6, 2e6, 3e6, 4e6) for name in "AB" for row in network(f"{name}{cost}", [cost], [0.8])]
    group = summed_up(rows, "reference")
    assert "claimed" not in {line["best network"] for line in answers(group)}
    part = Mock(network="claimed", against="reference")
    group = replace(group, steps=[Mock(parts=(part,))])
    assert "claimed" in {line["best network"] for line in answers(group)}


def test_a_reference_that_was_still_learning_is_no_measure_of_pruning(
    runs: list[Run], grouped: Callable[..., Group]
) -> None:
    group = grouped(runs)
    assert "still learning" not in " ".join(texts_of(answer_section(group)))  # trained for one epoch: nobody knows
    rising = {"series": group.reference, "epoch": [1, 2], "val_accuracy": [80.0, 82.5], "val_loss": [0.6, 0.5]}
    vars(group)["epochs"] = pd.DataFrame(rising)
    assert group.reference_row is not None
    name, images = group.reference_row["network"], group.data["split"]["validation"]
    assert texts_of(answer_section(group))[1] == (
        f"**{name}, the reference, was still learning when its training ended**: its accuracy on {images} validation "
        f"images rose in the last of 2 epochs by 2.50 points, from 80.00 to 82.50%. {OF_PRUNING}"
    )
    trained = grouped(runs[:2])
    vars(trained)["epochs"] = group.epochs
    assert texts_of(answer_section(trained))[1].endswith(OF_TRAINING)
