"""Arms: runs that differ by budget and seed alone are one, and nothing else is."""

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.results.arms import arm_key, arm_name, base_network, family
from benchmarks.results.rows import rows, summarise
from benchmarks.results.series import network_name
from compress import Architecture
from compress.networks import spec_of
from compress.runs import Run
from compress.training.objectives import bp


def changed(run: Run, *, kind: str = "prune", method: str = "l1", request: dict[str, Any], **config: Any) -> Run:
    """The run's record with another kind, method, request and configuration."""
    record = run.record
    config = record.config | {"kind": kind, "method": method, "request": request} | config
    return Run(run.path, replace(record, kind=kind, method=method, config=config))


@pytest.mark.parametrize(
    ("method", "request_", "name"),
    [
        ("l1", {}, "l1"),
        ("l1", {"scope": "all", "ranking": "global", "steps": 1, "gradual": False, "allocate": None}, "l1"),
        ("l1", {"scope": "inner", "ranking": "uniform", "schedule": "small-rate"}, "l1 inner uniform"),
        ("taylor", {"steps": 3}, "taylor in 3 steps"),
        ("l2", {"allocate": "sensitivity", "round_to": 8}, "l2 by sensitivity to 8"),
        ("random", {"schedule": "restart"}, "random restart"),
        ("scratch-e", {"shape": "fpgm"}, "scratch-e of fpgm"),
        ("blocks", {"shape": "l1"}, "blocks"),
    ],
)
def test_an_arm_is_named_by_what_is_unusual(runs: list[Run], method: str, request_: dict[str, Any], name: str) -> None:
    run = changed(runs[3], method=method, request=request_)
    speedup = run.record.results["achieved"]["speedup"]
    assert arm_name(run.record) == name
    assert network_name(run) == f"ResNet-14, {name} {speedup:.2f}x"


def test_families(runs: list[Run]) -> None:
    asked = {"speedup": 2.0}
    assert [
        family(runs[0].record),
        family(runs[3].record),
        family(changed(runs[3], method="depth-cut", request=asked).record),
        family(changed(runs[3], kind="control", method="shallow", request=asked).record),
        family(changed(runs[0], kind="control", method="deep-supervision", request={}).record),
    ] == ["train", "width", "depth", "control", "train"]


def test_a_control_of_training_is_a_trained_network(runs: list[Run]) -> None:
    control = changed(runs[0], kind="control", method="bp-extra-decay", request={})
    assert network_name(control) == "ResNet-14, bp-extra-decay"


def test_budgets_and_seeds_do_not_tell_arms_apart_and_all_else_does(runs: list[Run]) -> None:
    run = changed(runs[3], request={"speedup": 2.0, "steps": 1})
    for same in (
        changed(runs[3], request={"macs": 1e6, "steps": 1}),
        changed(runs[3], request={"speedup": 3.0, "steps": 1}, seed=7, parent="another"),
    ):
        assert arm_key(same) == arm_key(run)
    recipe = runs[3].record.config["recipe"]
    for other in (
        changed(runs[3], request={"speedup": 2.0, "steps": 3}),
        changed(runs[3], request={"speedup": 2.0, "steps": 1}, recipe=recipe | {"learning_rate": 1.0}),
        changed(runs[3], request={"speedup": 2.0, "steps": 1}, reference=runs[1].record.config),
        changed(runs[3], method="l2", request={"speedup": 2.0, "steps": 1}),
    ):
        assert arm_key(other) != arm_key(run)


def test_the_steps_of_iterative_pruning_do_not_split_its_curve(runs: list[Run]) -> None:
    """A step's parent is pruned, to what depends on the budget."""

    def twice(first: float, last: float, width: int) -> Run:
        spec = spec_of(Architecture("resnet14", width=width)).to_json()
        parent = changed(runs[3], request={"speedup": first, "steps": 2}).record.config
        return changed(runs[3], request={"speedup": last, "steps": 2}, spec=spec, reference=parent)

    assert arm_key(twice(1.5, 2.0, 1)) == arm_key(twice(2.0, 4.0, 2))
    assert arm_key(twice(1.5, 2.0, 1)) != arm_key(changed(runs[3], request={"speedup": 2.0, "steps": 2}))


def test_scratch_b_trains_for_longer_the_smaller_the_net_and_is_one_arm(runs: list[Run]) -> None:
    recipe = runs[3].record.config["recipe"]

    def longer(method: str, epochs: int) -> str:
        request = {"speedup": float(epochs)}
        own = recipe | {"epochs": epochs}
        return arm_key(changed(runs[3], kind="control", method=method, request=request, recipe=own))

    assert longer("scratch-b", 4) == longer("scratch-b", 2)
    assert longer("scratch-e", 4) != longer("scratch-e", 2)


def test_shallow_nets_of_one_reference_are_an_arm_by_the_macs_before(runs: list[Run]) -> None:
    def shallow(arch: str, speedup: float, before: float = 12e6) -> Run:
        spec = spec_of(arch)
        config = {"spec": spec.to_json(), "reference": None, "objective": bp(spec).to_json()}
        run = changed(runs[3], kind="control", method="shallow", request={"speedup": speedup}, **config)
        results = run.record.results | {"achieved": {"speedup": speedup, "macs": round(before / speedup)}}
        return Run(run.path, replace(run.record, results=results))

    assert arm_key(shallow("resnet8", 2.0)) == arm_key(shallow("resnet14", 1.5))
    assert arm_key(shallow("resnet8", 2.0)) != arm_key(shallow("resnet8", 2.0, before=24e6))
    assert network_name(shallow("resnet8", 2.0)) == "ResNet-8, shallow 2.00x"


def test_arms_of_one_name_are_told_apart_by_the_network_that_was_pruned(runs: list[Run]) -> None:
    multi = changed(runs[3], request={"speedup": 2.0}, reference=runs[1].record.config)
    multi = Run(runs[3].path.with_name("other_1"), multi.record)
    assert base_network(multi.record) == "MwResNet-8-2"
    assert summarise(rows([runs[3], multi]))["arm"].tolist() == ["l1 (ResNet-14)", "l1 (MwResNet-8-2)"]


def test_rates_tell_runs_of_one_name_apart(runs: list[Run]) -> None:
    recipe = runs[0].record.config["recipe"]
    other = dataclasses.replace(
        runs[0].record, config=runs[0].record.config | {"recipe": recipe | {"learning_rate": 0.5}}
    )
    names = summarise(rows([runs[0], Run(runs[0].path.with_name("other_1"), other)]))["network"].tolist()
    assert names == ["ResNet-14 (rate 0.15, decay 0.0005)", "ResNet-14 (rate 0.5, decay 0.0005)"]
