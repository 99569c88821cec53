"""Groups: what claims name by the id of one run is compared over all of its series' runs, exit by exit."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import read_comparison
from benchmarks.report.group import Group
from benchmarks.results.claims import Claim
from benchmarks.results.latencies import latencies

SMALL = Path(__file__).parents[1] / "comparison"  # MwResNet-8-2, ResNet-14 and ResNet-14 pruned, two seeds each
MULTI, PLAIN = "mwresnet8-2_folder-tiny_s0_feed16ac", "resnet14_folder-tiny_s0_fce0432f"


@pytest.mark.parametrize(("named", "exit"), [(MULTI, 2), (f"{MULTI}:2", 2), (f"{MULTI}:1", 1)])
def test_a_claim_is_about_the_exit_that_it_names(named: str, exit: int) -> None:
    claims = [Claim(claim="It wins", of=(named, PLAIN), against=(PLAIN, named))]
    comparison = replace(read_comparison(SMALL), claims=claims)
    group = Group.of(comparison.runs, comparison, latencies(comparison.runs))
    accuracy = {
        run.id: run.exits[min(exit, len(run.exits)) - 1] for run in comparison.runs if run.record.kind != "prune"
    }
    multi, plain = (
        [row for id, row in accuracy.items() if id.startswith(name)] for name in ("mwresnet8-2_", "resnet14_")
    )
    [part] = group.steps[0].parts
    validation = [sum(row["val_accuracy"] for row in rows) for rows in (multi, plain)]
    sign = 1 if validation[0] >= validation[1] else -1  # the better one on validation images is compared
    mean = sum(one["test_accuracy"] - other["test_accuracy"] for one, other in zip(multi, plain, strict=True)) / 2
    assert part.given.estimate == pytest.approx(sign * mean)
    first, second = (group.by_key[key] for key in (part.network, part.against))
    assert {first["exit"], second["exit"]} == {exit, 1}
    ruling = group.ruling(first, second)
    assert ruling is not None
    assert ruling.step == 1
    assert group.ruling(first, first) is None
