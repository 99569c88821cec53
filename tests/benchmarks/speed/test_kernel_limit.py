"""The kernel-count limit: the profiler's events are told apart here; that a GPU runs them is seen in tests/cuda."""

from types import SimpleNamespace

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.kernel_limit import on_device


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
