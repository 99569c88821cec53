"""Speed: the harness measures all that it promises, at a tiny size; what the figures are is nobody's business here."""

import json

import pytest
import torch
from torch.nn import functional

from benchmarks.measuring.peak_memory import peak_bytes
from benchmarks.measuring.rounds import Call
from benchmarks.speed.bare_layers import bare_layers, floor
from benchmarks.speed.ratios import Setup, Sizes, measure, measure_growth
from compress.network_cost import cost
from compress.networks import create
from compress.networks.strided_pointwise import SubsampledConv2d

TINY = Sizes(
    deep="resnet8", exits=2, plain="resnet8", batch_size=8, rounds=2, steps=2, workers=0, growth_exits=(1, 3),
    growth_depths=(8, 14),
)  # fmt: skip


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup.of(TINY)


def check(ratio: dict[str, float]) -> None:
    assert set(ratio) == {"ratio", "low", "high"}
    assert 0 < ratio["low"] <= ratio["ratio"] <= ratio["high"]


def test_the_six_ratios_and_their_conditions_are_json(setup: Setup) -> None:
    results = json.loads(json.dumps(measure(setup)))
    environment = results.pop("environment")
    assert set(results) == {
        "mwbp_over_bp",
        "sequential_over_simultaneous",
        "bp_over_floor",
        "epoch_over_steps",
        "usual_over_ours",
        "memory_mwbp_over_bp",
    }
    for ratio in results.values():
        check(ratio)
    assert {"precision", "threads", "cpu", "batch_size", "rounds"} <= set(environment)
    assert environment["compiled"] is False
    memory = results["memory_mwbp_over_bp"]
    assert 1 < memory["ratio"] < 1.5
    assert memory["low"] == memory["high"]


def test_growth_is_measured_by_exits_and_by_depth(setup: Setup) -> None:
    growth = measure_growth(setup)
    assert set(growth) == {"exits", "depth", "environment"}
    assert (set(growth["exits"]), set(growth["depth"])) == ({"1", "3"}, {"8", "14"})
    for axis in ("exits", "depth"):
        for ratios in growth[axis].values():
            assert {"mwbp_over_bp", "sequential_over_simultaneous", "memory_mwbp_over_bp"} <= set(ratios)
            for ratio in ratios.values():
                check(ratio)
    assert growth["exits"]["1"]["memory_mwbp_over_bp"]["ratio"] == pytest.approx(1, rel=0.01)
    assert "bp_over_floor" in growth["depth"]["14"]


@pytest.mark.parametrize("arch", ["resnet8", "resnet44", "resnet20v1"])
def test_the_floor_is_made_of_the_networks_layers(arch: str) -> None:
    network = create(arch)
    layers = bare_layers(network, torch.zeros(2, 3, 32, 32), "fp32")
    modules = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    assert {id(layer.module) for layer in layers} == {id(module) for module in modules}
    assert len(layers) == len(modules)
    assert sum(layer.macs for layer in layers) == cost(network).macs


def test_the_floor_computes_what_the_network_does() -> None:
    """The gradients of each layer's weight and input, but for the images, are those that the module has."""
    network = create("resnet8").to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    layers = bare_layers(network, images, "fp32")
    gradients = floor(layers)[::-1]
    assert [len(found) for found in gradients] == [1, *[2] * (len(layers) - 1)]
    for layer, (of_weight, *_) in zip(layers, gradients, strict=True):
        subsampled = isinstance(layer.module, SubsampledConv2d)  # its inputs here are the pixels that it convolves
        outputs = functional.conv2d(layer.inputs, layer.module.weight) if subsampled else layer.module(layer.inputs)
        outputs.backward(layer.gradient)
        torch.testing.assert_close(of_weight, layer.module.weight.grad, rtol=1e-4, atol=1e-4)


def test_peak_memory_is_counted_to_the_byte() -> None:
    def prepare() -> Call:
        kept = torch.zeros(1000, dtype=torch.float64)

        def step() -> None:
            passing = kept + kept
            del passing
            both = kept + kept, kept * kept
            del both

        return step

    assert peak_bytes(prepare, torch.device("cpu")) == 3 * 8000
