"""Ratios of training's speed on a GPU: all are there, and kernels are counted one by one, in a replayed graph too."""

import json

import pytest
import torch

from benchmarks.speed.kernel_limit import kernels_of, seconds_a_kernel
from benchmarks.speed.ratios import measure
from benchmarks.speed.speed_setup import Setup
from benchmarks.speed.usual_trainer import missing_torchvision
from compress.training.capture import CudaGraph

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("default"),  # compilers and drivers warn of what is no fault of a test
]
CUDA = torch.device("cuda")


def test_every_ratio_is_measured() -> None:
    setup = Setup(arch="resnet8", exits=2, device=CUDA, precision="fp32", rounds=2, batch_size=16, steps=4, workers=1)
    results = json.loads(json.dumps(measure(setup)))
    assert set(results["left_out"]) == ({"usual_over_ours"} if missing_torchvision() else set())
    for name in ("captured_over_eager", "over_kernel_limit", "memory_captured_over_eager", "airbench_over_ours"):
        assert results[name]["ratio"] > 0
    assert results["environment"]["gpu"]


def test_kernels_are_counted_in_a_graph_as_they_are_outside() -> None:
    numbers = torch.zeros(8, device=CUDA)

    def three() -> None:
        for _ in range(3):
            numbers.add_(1)

    assert kernels_of(three, CUDA) == 3
    graph = CudaGraph(CUDA)
    graph.record(three)
    assert kernels_of(graph.replay, CUDA) == 3


def test_a_kernel_takes_microseconds() -> None:
    assert 1e-7 < seconds_a_kernel(CUDA) < 1e-4
