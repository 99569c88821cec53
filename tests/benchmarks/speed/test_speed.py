"""Speed: the harness measures all that it promises, at a tiny size; what the figures are is nobody's business here."""

import json
import math

import pytest
import torch

from benchmarks.speed.bare_layers import bare_layers, floor
from benchmarks.speed.ratios import Setup, measure
from compress.network_cost import cost
from compress.networks import create

RATIOS = {
    "mwbp_over_bp",
    "sequential_over_simultaneous",
    "bp_over_floor",
    "epoch_over_steps",
    "usual_over_ours",
    "memory_mwbp_over_bp",
}


def test_the_six_ratios_and_their_conditions_are_json() -> None:
    tiny = {"arch": "resnet8", "exits": 2, "batch_size": 8, "rounds": 2, "steps": 2, "workers": 0}
    setup = Setup(device=torch.device("cpu"), precision="fp32", **tiny)  # type: ignore[arg-type]
    results = json.loads(json.dumps(measure(setup)))
    environment = results.pop("environment")
    assert set(results) == RATIOS
    for ratio in results.values():
        assert set(ratio) == {"ratio", "low", "high"}
        assert 0 < ratio["low"] <= ratio["ratio"] <= ratio["high"]
    assert {"arch", "exits", "precision", "threads", "cpu", "batch_size", "rounds"} <= set(environment)
    assert environment["compile"] is False
    memory = results["memory_mwbp_over_bp"]
    assert 1 < memory["ratio"] < 1.5
    assert memory["low"] == memory["high"]


@pytest.mark.parametrize("arch", ["resnet8", "resnet44", "resnet20v1"])
def test_the_floor_is_made_of_the_networks_layers(arch: str) -> None:
    network = create(arch)
    layers = bare_layers(network, torch.zeros(2, 3, 32, 32), "fp32")
    macs = [layer.gradient[0].numel() * math.prod(layer.module.weight.shape[1:]) for layer in layers]
    assert sum(macs) == cost(network).macs
    gradients = floor(layers)[::-1]
    assert [len(found) for found in gradients] == [1, *[2] * (len(layers) - 1)]  # images have none
    for layer, (of_weight, *of_inputs) in zip(layers, gradients, strict=True):
        assert of_weight.shape == layer.module.weight.shape
        assert [gradient.shape for gradient in of_inputs] in ([], [layer.inputs.shape])
