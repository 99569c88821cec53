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


def test_what_follows_from_a_seeds_shape_is_no_other_series(runs: list[Run]) -> None:
    """Two seeds of scratch-b whose shapes are of 1/2.494 and 1/2.524 of the MACs: 37 and 38 epochs for 15."""
    record = runs[3].record

    def scratch(epochs: int, speedup: float) -> str:
        config = record.config | {"method": "scratch-b", "kind": "control"}
        config["recipe"] = config["recipe"] | {"epochs": epochs}
        results = record.results | {"achieved": {"speedup": speedup}}
        return series(Run(runs[3].path, replace(record, config=config, results=results)))

    assert scratch(37, 2.494) == scratch(38, 2.524) != scratch(50, 2.524)

    def pruned_again(width: int) -> str:
        spec = record.config["spec"] | {"width": width}
        config = record.config | {"reference": record.config, "spec": spec}
        return series(Run(runs[3].path, replace(record, config=config)))

    assert pruned_again(1) == pruned_again(2) != series(runs[3])


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
