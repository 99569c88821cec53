"""Jobs that are refused before anything is trained, and steps that find nothing left to remove."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines import Budget, Technique, carry_out, prune
from baselines.feasibility import check_all
from compress import Place
from compress.data import Dataset
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import Network
from compress.recipes import Recipe
from compress.runs import Run, load
from tests.baselines.jobs import job_of


@pytest.mark.parametrize(
    ("technique", "budget", "options", "message"),
    [
        (Technique(), Budget(speedup=1e6), {}, "at the least"),
        (Technique(method="bn-scale"), Budget(macs=10), {}, "at the least"),
        (Technique(method="blocks", nearest=True), Budget(speedup=1.5), {"arch": "resnet8"}, "nothing|has none|least"),
        (Technique(method="depth-cut"), Budget(ratio=0.5), {}, "removes none"),
        (Technique(method="shallow"), Budget(speedup=1e4), {}, "at the least"),
        (Technique(), Budget(speedup=1.001), {}, "nothing would be pruned"),
        (Technique(), Budget(latency_ratio=0.5), {}, "no function measures latency; in Python give `Job`"),
    ],
    ids=lambda value: " ".join(value.options()) if isinstance(value, Technique) else None,
)
def test_what_no_network_of_the_shape_can_meet_costs_no_reference(
    technique: Technique,
    budget: Budget,
    options: dict[str, Any],
    message: str,
    small: Dataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    arch, place = options.pop("arch", "resnet14"), Place(runs=tmp_path)
    with pytest.raises(UsageError, match=message) as refused:
        prune(arch, small, budget=budget, technique=technique, place=place, **options)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_no_budget_of_a_command_is_begun_where_another_cannot_be_met(
    small: Dataset, quick: Recipe, tmp_path: Path
) -> None:
    jobs = [job_of("resnet14", small, quick, tmp_path, budget=Budget(speedup=speedup)) for speedup in (2, 1e6)]
    check_all(jobs[:1])
    with pytest.raises(UsageError, match="at the least"):
        check_all(jobs)
    assert not list(tmp_path.iterdir())


def test_a_cut_network_is_not_trained_sparsely(many_exits: Run, small: Dataset, runs: Path) -> None:
    with pytest.raises(UsageError, match="name the run without an exit"):
        prune(
            Path(f"{many_exits.path}:2"),
            small,
            budget=Budget(speedup=2),
            technique="group-norm",
            place=Place(runs=runs),
        )


def test_a_step_that_finds_the_network_small_enough_removes_nothing(reference: Run, small: Dataset, runs: Path) -> None:
    """A stage's first block is worth more than the first of three steps may remove, and than all three together."""
    technique = Technique(method="blocks", steps=3, nearest=True)
    run = prune(reference, small, budget=Budget(speedup=1.25), technique=technique, place=Place(runs=runs))
    before = len(reference.spec.blocks)
    assert before - len(run.spec.blocks) == 1
    assert run.record.cost["total_epochs"] == reference.record.cost["epochs"] + 3


def timed_to(measured: list[int]) -> Callable[[Network, Network], tuple[float, float, float]]:
    """A latency in proportion to MACs; those of the whole network are added to a list."""

    def timed(whole: Network, smaller: Network) -> tuple[float, float, float]:
        share = cost(smaller).macs / cost(whole).macs
        measured.append(cost(whole).macs)
        return share - 0.05, share, share + 0.05

    return timed


def test_a_latency_is_measured_against_the_whole_network_and_kept_beside_it(
    reference: Run, small: Dataset, quick: Recipe, tmp_path: Path
) -> None:
    measured: list[int] = []
    timed = timed_to(measured)
    fields: dict[str, Any] = {"budget": Budget(latency_ratio=0.5), "reference": reference.path, "timed": timed}
    job = job_of(None, small, quick, tmp_path / "one", **fields)
    first = carry_out(job)
    trials = len(measured)
    assert set(measured) == {cost(load(reference)).macs}
    low, middle, high = first.record.results["achieved"]["latency_ratio"]
    assert low <= 0.5 <= high
    assert middle == pytest.approx(1 / first.record.results["achieved"]["speedup"])
    assert first.record.results["requested"] == {"latency_ratio": 0.5}
    again = carry_out(replace(job, place=Place(runs=tmp_path / "two")))
    assert len(measured) == trials > 0
    assert again.spec == first.spec
    assert again.record.results["achieved"] == first.record.results["achieved"]


@pytest.mark.parametrize("method", ["l1", "scratch-e"])
def test_a_latency_of_a_cut_network_is_kept_apart_from_that_of_the_whole_one(
    method: str, many_exits: Run, small: Dataset, quick: Recipe, tmp_path: Path
) -> None:
    """A run that was killed goes on with what it had chosen, where a new measurement might choose something else."""
    measured: list[int] = []
    technique = Technique(method=method, nearest=True)
    fields: dict[str, Any] = {"budget": Budget(latency_ratio=0.5), "technique": technique, "timed": timed_to(measured)}

    def made(directory: Path) -> None:
        for name in (many_exits.path, Path(f"{many_exits.path}:2")):
            carry_out(job_of(None, small, quick, directory, reference=name, **fields))

    made(tmp_path / "one")
    before = list(measured)
    assert len(set(before)) == 2  # the whole network, and the one that is cut
    made(tmp_path / "two")
    assert measured == before
