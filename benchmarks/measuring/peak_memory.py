"""Memory: the most that tensors take at any moment of a training's first steps, by PyTorch's own account.

On a CPU the profiler reports every allocation and release of PyTorch's allocator, all that a step holds at once:
parameters, gradients, momentum, activations; the highest running sum is exact and repeatable, as the peak of
a process's resident memory (which adds the interpreter, the libraries and what malloc keeps back) is not.
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring.rounds import Action

STEPS = 2  # the first makes the optimiser's buffers; the second has them beside all activations

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler greets on stderr


def peak_bytes(prepare: Callable[[], Action], device: torch.device, steps: int = STEPS) -> int:
    """The peak of `prepare()` (which makes network, optimiser and batch) and of so many calls of what it returns.

    Garbage is not collected meanwhile: what others have left behind would count as released by what is measured.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _peak_bytes(prepare, device, steps)
    finally:
        if collecting:
            gc.enable()


def _peak_bytes(prepare: Callable[[], Action], device: torch.device, steps: int) -> int:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        _run(prepare, steps)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        _run(prepare, steps)
    with tempfile.TemporaryDirectory() as directory:
        trace = Path(directory) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]"]
    changes.sort(key=lambda event: (event["ts"], event["args"]["Ev Idx"]))
    return int(max(accumulate(event["args"]["Bytes"] for event in changes)))


def _run(prepare: Callable[[], Action], steps: int) -> None:
    step = prepare()
    for _ in range(steps):
        step()
