"""Series: runs that differ by their seed alone are one, and a name says what their network is."""

from dataclasses import replace

from benchmarks.results.series import network_name, series
from compress.runs import Run


def test_runs_that_differ_by_seed_alone_are_one_series(runs: list[Run]) -> None:
    keys = [series(run) for run in runs]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3


def test_children_of_different_parents_are_different_series(runs: list[Run]) -> None:
    config = runs[3].record.config
    other = config | {"reference": config["reference"] | {"precision": "another"}}  # than this machine's
    assert series(Run(runs[3].path, replace(runs[3].record, config=other))) != series(runs[3])


def test_names_say_what_a_network_is(runs: list[Run]) -> None:
    speedup = runs[3].record.results["achieved"]["speedup"]
    names = ["ResNet-14", "MwResNet-8-2", "MwResNet-8-2", f"ResNet-14, l1 {speedup:.2f}x"]
    assert [network_name(run) for run in runs] == names


def test_names_say_what_exits_do_for_one_another(runs: list[Run]) -> None:
    record = runs[1].record
    objective = record.config["objective"] | {"annealing": "last-third", "ensemble_teacher": 0.3}
    exits = [exit | {"head": "shared"} for exit in record.config["spec"]["exits"][:-1]]
    spec = record.config["spec"] | {"exits": [*exits, record.config["spec"]["exits"][-1]]}
    config = record.config | {"objective": objective, "spec": spec}
    name = network_name(Run(runs[1].path, replace(record, config=config)))
    assert name == "MwResNet-8-2, annealing last-third, ensemble teacher, heads shared"
