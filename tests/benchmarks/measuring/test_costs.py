"""Memory: what peaks must hold, that they repeat to the byte, and what every exit of a run is recorded to cost."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import patch

import pytest
import torch

from benchmarks.measuring import costs_file
from benchmarks.measuring.costs_file import measured_costs, read_costs, record_costs
from benchmarks.measuring.peak_memory import inference_peak, peak_bytes, training_peak
from benchmarks.measuring.rounds import Call
from compress.network_cost import cost, exit_costs
from compress.networks import Ensemble, create, cut
from compress.recipes import recipe_named
from compress.records import Record
from compress.runs import COSTS, Run, load
from compress.training.objectives import bp
from compress.training.updates import update_of

CPU = torch.device("cpu")


def test_a_step_after_a_small_one_peaks_as_the_second_of_two_does() -> None:
    network = create("resnet8", input_shape=(1, 8, 8)).to(memory_format=torch.channels_last)

    def prepare() -> Call:
        trained = copy.deepcopy(network).train()
        objective = bp(trained.spec)
        update = update_of(objective, trained, recipe_named("paper"))

        def step() -> None:
            images = torch.zeros(32, 1, 8, 8).contiguous(memory_format=torch.channels_last)
            labels = torch.zeros(32, dtype=torch.long)
            update.step(objective.losses(trained(images), labels))

        step()
        return step

    random = torch.get_rng_state()
    training, inference = training_peak(network, 32, CPU), inference_peak(network, 32, CPU)
    assert (training, inference) == (training_peak(network, 32, CPU), inference_peak(network, 32, CPU))
    assert training == peak_bytes(prepare, CPU)
    counted = cost(network)
    assert training > 3 * 4 * counted.params + 32 * 4 * counted.activations  # weights, gradients, momentum
    assert counted.bytes < inference < counted.bytes + 32 * 4 * counted.activations
    assert network.training
    assert torch.equal(torch.get_rng_state(), random)


def test_what_a_library_keeps_on_a_gpu_is_not_the_first_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As cuBLAS keeps its workspace from its first use on; an allocator that only adds up stands for torch's."""
    held, peak = 0, 0

    def hold(count: int) -> None:
        nonlocal held, peak
        held += count
        peak = max(peak, held)

    def reset(device: torch.device) -> None:
        nonlocal peak
        peak = held

    def prepare() -> Call:
        hold(100 if held == 7 else 0)  # at first use
        hold(5)
        return lambda: hold(-5)

    held = 7
    for name, found in {
        "synchronize": lambda device: None,
        "memory_allocated": lambda device: held,
        "max_memory_allocated": lambda device: peak,
        "reset_peak_memory_stats": reset,
    }.items():
        monkeypatch.setattr(f"torch.cuda.{name}", found)
    assert [peak_bytes(prepare, torch.device("cuda")) for _ in range(2)] == [5, 5]


def test_every_exit_of_a_run_is_measured_alone_and_the_whole_beside_it(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs_file, "TRAINING_BATCH", 8)
    monkeypatch.setattr(costs_file, "INFERENCE_BATCHES", (1, 8))
    run = runs[1]
    network = load(run)
    measured_costs.cache_clear()
    rows = measured_costs(run.spec, CPU)
    for row, counted, exit in zip(rows, exit_costs(network), (1, 2), strict=True):
        assert (row["bytes"], row["activations"]) == (counted.bytes, counted.activations)
        assert row["activations"] == run.exits[exit - 1]["activations"]
        assert row["bytes"] < row["peak_inference_bytes_b1"] < row["peak_inference_bytes_b8"]
    shallow, deep = rows
    assert shallow["peak_inference_bytes_b8"] == inference_peak(cut(network, 1), 8, CPU)
    assert shallow["peak_training_bytes"] < deep["peak_training_bytes"] < deep["peak_joint_training_bytes"]
    assert shallow["peak_joint_training_bytes"] == deep["peak_joint_training_bytes"]
    (run.path / COSTS).unlink(missing_ok=True)
    record_costs(run, CPU)
    assert read_costs(run) == [row | {"memory_device": "cpu"} for row in rows]
    measured_costs.cache_clear()


def test_an_ensemble_is_measured_behind_the_exits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file of before ensembles were measured is read without, and measured again."""
    monkeypatch.setattr(costs_file, "TRAINING_BATCH", 4)
    monkeypatch.setattr(costs_file, "INFERENCE_BATCHES", (1,))
    network = create("resnet8", exits=3)
    *_, last, averaged = measured_costs(network.spec, CPU, 2)
    counted = cost(Ensemble(network, (0.5, 0.5)))
    assert (averaged["bytes"], averaged["activations"]) == (counted.bytes, counted.activations)
    assert last["bytes"] < averaged["bytes"] < averaged["peak_inference_bytes_b1"]
    assert averaged.keys() == last.keys() - {"peak_training_bytes"}  # it is not trained alone
    results = {"exits": [{}] * 3, "ensemble": {"exits": [2, 3]}}
    record = cast(Record, SimpleNamespace(results=results, spec=network.spec.to_json()))
    run, old = Run(tmp_path, record), [{"bytes": 1}] * 3
    (tmp_path / COSTS).write_text(json.dumps({"devices": {"cpu": old}}))
    assert read_costs(run) == [{"bytes": 1, "memory_device": "cpu"}] * 3 + [{}]
    record_costs(run, CPU)
    assert read_costs(run)[-1] == averaged | {"memory_device": "cpu"}
    measured_costs.cache_clear()


def test_a_device_keeps_what_was_measured_on_another(runs: list[Run], tmp_path: Path) -> None:
    run = Run(tmp_path, runs[0].record)
    on_gpu, here = {"peak_training_bytes": 7}, {"peak_training_bytes": 5}
    (tmp_path / COSTS).write_text(json.dumps({"devices": {"cuda": [on_gpu]}}))
    assert read_costs(run) == [on_gpu | {"memory_device": "cuda"}]
    with patch("benchmarks.measuring.costs_file.measured_costs", return_value=[here]) as measured:
        record_costs(run, CPU)
        record_costs(run, torch.device("cuda"))
    measured.assert_called_once_with(run.spec, CPU, 0)
    assert json.loads((tmp_path / COSTS).read_text()) == {"devices": {"cuda": [on_gpu], "cpu": [here]}}
    assert read_costs(run) == [here | {"memory_device": "cpu"}]


def test_peak_memory_is_counted_to_the_byte() -> None:
    def prepare() -> Call:
        kept = torch.zeros(1000, dtype=torch.float64)

        def step() -> None:
            passing = kept + kept
            del passing
            both = kept + kept, kept * kept
            del both

        return step

    assert peak_bytes(prepare, CPU) == 3 * 8000
