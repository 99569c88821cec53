"""The kernel-count limit: what a step on CUDA would take at the least if each of its kernels did nothing.

Small networks keep a GPU waiting for the next kernel. The limit is the number of kernels, copies and fills of a step
times the time between two kernels that do next to nothing, in a replayed CUDA graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring.rounds import Call, timed
from compress.errors import UsageError
from compress.training.capture import CudaGraph

CHAIN = 1000  # kernels in the graph
WARM_UP, REPEATS = 3, 10


def kernels_of(call: Call, device: torch.device) -> int:
    """Number of kernels, copies and fills that a call runs on a GPU, as the profiler sees them; graphs are unfolded.

    Raises:
        UsageError: it sees none, as where CUPTI is missing or in use.
    """
    call()  # what happens once only happens here
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        call()
        torch.cuda.synchronize(device)
    if not (kernels := on_device(profiled.events())):
        raise UsageError("the profiler sees no kernels on this machine")
    return kernels


def on_device(events: Iterable[Any]) -> int:
    """How many of the profiler's events the GPU spent time on; ranges that only name others are none."""
    return sum(event.device_type == DeviceType.CUDA and not event.is_user_annotation for event in events)


def seconds_a_kernel(device: torch.device) -> float:
    """Seconds from one kernel to the next in a replayed graph of kernels that change one number each."""
    number, graph = torch.zeros(1, device=device), CudaGraph(device)

    def chain() -> None:
        for _ in range(CHAIN):
            number.add_(1)

    graph.record(chain)
    return timed(graph.replay, device=device, warm_up=WARM_UP, repeats=REPEATS) / CHAIN
