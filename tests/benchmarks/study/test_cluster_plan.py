"""The plan on paper: what can be worked out by hand, and that failures cost what was not kept."""

import pytest

from benchmarks import read_study
from benchmarks.study.cluster_plan import ClusterPlan, on_paper
from benchmarks.study.simulated_cluster import Machines, Work, critical_path, simulate_cluster
from compress.errors import UsageError
from compress.recipes import recipe_named

CHAIN = [Work(seconds=100, checkpoints=10), Work(seconds=50, checkpoints=5, behind=(0,))]
MANY = [Work(seconds=1000.0 + number, checkpoints=100) for number in range(40)]


def test_without_failures_time_is_that_of_chains_and_of_work() -> None:
    assert critical_path(CHAIN) == simulate_cluster(CHAIN, Machines(nodes=5)).seconds == 150
    backwards = [Work(seconds=50, checkpoints=5, behind=(1,)), CHAIN[0]]  # claims are made first, not their sources
    assert critical_path(backwards) == simulate_cluster(backwards, Machines(nodes=5)).seconds == 150
    works = [*CHAIN, Work(seconds=100, checkpoints=1)]
    assert simulate_cluster(works, Machines(nodes=1)).seconds == 250
    assert simulate_cluster(works, Machines(nodes=2)).seconds == 150
    passed = simulate_cluster(works, Machines(nodes=2))
    assert (passed.lost, passed.restarts, passed.failures) == (0, 0, 0)


def test_failures_cost_time_but_never_more_than_a_checkpoint_each() -> None:
    machines = Machines(nodes=10, between_failures=3000, repair=100, restart=5)
    drawn = [simulate_cluster(MANY, machines, seed=seed) for seed in range(5)]
    for passed in drawn:
        apart = max(work.seconds / work.checkpoints for work in MANY)
        assert 0 < passed.lost <= passed.restarts * apart
        assert passed.restarting == 5 * passed.restarts
        assert 0 < passed.restarts <= passed.failures
        assert passed.seconds > simulate_cluster(MANY, Machines(nodes=10)).seconds
    assert simulate_cluster(MANY, machines, seed=3) == drawn[3]


def test_without_checkpoints_a_failure_loses_the_whole_run() -> None:
    machines = Machines(nodes=10, between_failures=3000, repair=100)
    rarely = [Work(seconds=work.seconds, checkpoints=1) for work in MANY]
    assert simulate_cluster(rarely, machines).lost > 10 * simulate_cluster(MANY, machines).lost


def test_nodes_that_fail_before_any_checkpoint_end_the_simulation() -> None:
    machines = Machines(nodes=1000, between_failures=3.6)
    with pytest.raises(UsageError, match="never get from one checkpoint to the next"):
        simulate_cluster([Work(seconds=3600, checkpoints=10)] * 50, machines)


def test_a_node_that_is_being_repaired_works_on_nothing() -> None:
    machines = Machines(nodes=1, between_failures=60, repair=1000, restart=0)
    passed = simulate_cluster(CHAIN, machines, seed=1)
    assert passed.failures
    assert passed.seconds == pytest.approx(150 + passed.lost + 1000 * passed.failures)


def test_the_plan_of_the_quickstart_adds_up() -> None:
    study = read_study("quickstart")
    plan = ClusterPlan(setting=on_paper(study, recipe_named(study.recipe)), nodes=4, gpu_macs=1e9)
    document = plan.to_json()
    assert document["runs"] == len(plan.works)
    assert document["gpu_seconds"] == pytest.approx(sum(work.seconds for work in plan.works))
    assert document["scaling"]["1"] == pytest.approx(document["gpu_seconds"])
    assert document["critical_path"] <= document["scaling"]["4"] <= document["scaling"]["2"] <= document["scaling"]["1"]
    slower = ClusterPlan(setting=plan.setting, nodes=4, gpu_macs=5e8)
    assert slower.to_json()["gpu_seconds"] == pytest.approx(2 * document["gpu_seconds"])
    assert "critical path" in plan.summary()
    assert list(plan.table()["nodes"]) == [1, 2, 4]


def test_like_imagenet_a_run_sees_as_many_and_as_large_images() -> None:
    study = read_study("quickstart")
    setting = on_paper(study, recipe_named(study.recipe), "imagenet")
    assert (len(setting.dataset.train), setting.dataset.input_shape) == (1_281_167, (3, 224, 224))
