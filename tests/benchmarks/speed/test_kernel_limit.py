"""The kernel-count limit: the profiler's events are told apart here; that a GPU runs them is seen in tests/cuda."""

from types import SimpleNamespace

import pytest
import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring.rounds import Call
from benchmarks.speed.kernel_limit import CHAIN, on_device, seconds_a_kernel


def test_what_the_gpu_ran_is_counted_and_what_only_names_it_is_not() -> None:
    def event(device: DeviceType, *, annotation: bool = False) -> SimpleNamespace:
        return SimpleNamespace(device_type=device, is_user_annotation=annotation)

    gpu, cpu = DeviceType.CUDA, DeviceType.CPU
    assert (
        on_device([event(gpu), event(cpu), event(gpu), event(gpu, annotation=True), event(cpu, annotation=True)]) == 2
    )


def test_nothing_on_a_cpu_is_a_kernel() -> None:
    with profile(activities=[ProfilerActivity.CPU]) as profiled, torch.profiler.record_function("named"):
        torch.ones(2).sum()
    events = profiled.events()
    assert events
    assert {event.is_user_annotation for event in events} == {True, False}
    assert on_device(events) == 0


def test_the_time_of_a_kernel_is_a_share_of_a_replay_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded as steps are: with garbage collected, on a stream that waits for the present one."""
    added: list[int] = []

    class Graph:
        def __init__(self, device: torch.device) -> None:
            self.function: Call = list

        def record(self, function: Call) -> None:
            self.function = function

        def replay(self) -> None:
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                self.function()
            added.append(sum(event.name == "aten::add_" for event in profiled.events()))

    def timed(call: Call, **options: object) -> float:
        call()
        return 3.0

    monkeypatch.setattr("benchmarks.speed.kernel_limit.CudaGraph", Graph)
    monkeypatch.setattr("benchmarks.speed.kernel_limit.timed", timed)
    assert seconds_a_kernel(torch.device("cpu")) == 3.0 / CHAIN
    assert added == [CHAIN]
