"""Peak memory: the most bytes that a training step and a forward pass hold at once, in fp32, as PyTorch counts them.

Counted are weights, buffers, images, activations and, in training, gradients and momentum. Not counted are the scratch
memory that libraries (oneDNN, MKL) allocate themselves, the interpreter, and CUDA's context. On CUDA libraries get
theirs from PyTorch's allocator: cuDNN's is counted, and not what cuBLAS keeps from its first use on.

On a CPU the profiler reports every allocation and release of PyTorch's allocator; the highest running sum is exact and
repeatable, unlike the peak of the process's resident memory, which adds the interpreter, libraries and what malloc
keeps back.
"""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Callable
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring.rounds import Call
from compress.networks import Network
from compress.recipes import recipe_named
from compress.training.objectives import mwbp
from compress.training.updates import update_of

FEWEST = 2  # images of a training step, since batch norm cannot train on one

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler writes a greeting to stderr


def training_peak(network: Network, batch_size: int, device: torch.device) -> int:
    """Peak bytes of a training step on so many images: by BP, or by MW-BP where the network has several exits."""
    network = _laid_out(network, device)

    def prepare() -> Call:
        trained = copy.deepcopy(network).train()
        objective = mwbp(trained.spec)
        update = update_of(objective, trained, recipe_named("paper"))

        def step(size: int) -> None:
            labels = torch.zeros(size, dtype=torch.long, device=device)
            update.step(objective.losses(trained(_blank_images(network, size, device)), labels))

        step(FEWEST)  # allocates momentum, which later steps have
        return partial(step, batch_size)

    with torch.random.fork_rng():  # dropout draws random numbers
        return peak_bytes(prepare, device)


def inference_peak(network: Network, batch_size: int, device: torch.device) -> int:
    """Peak bytes of a forward pass on so many images, in eval mode."""
    network = _laid_out(network, device)

    @torch.inference_mode()
    def infer(evaluated: Network) -> None:
        evaluated(_blank_images(network, batch_size, device))

    return peak_bytes(lambda: partial(infer, copy.deepcopy(network).eval()), device)


def _laid_out(network: Network, device: torch.device) -> Network:
    """A copy on the device in the memory format of training, made before anything is measured."""
    return copy.deepcopy(network).to(device).to(memory_format=torch.channels_last)


def _blank_images(network: Network, count: int, device: torch.device) -> Tensor:
    shape = (count, *network.spec.input_shape)
    return torch.zeros(shape, device=device).contiguous(memory_format=torch.channels_last)


def peak_bytes(prepare: Callable[[], Call], device: torch.device) -> int:
    """Peak bytes of `prepare()`, which makes network, optimiser and batch, and of a call of what it returns.

    Garbage collection is off meanwhile: memory that earlier code left behind would count as released here.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return (_peak_on_cuda if device.type == "cuda" else _peak_on_cpu)(prepare, device)
    finally:
        if collecting:
            gc.enable()


def _peak_on_cuda(prepare: Callable[[], Call], device: torch.device) -> int:
    prepare()()  # allocates what stays for good, which would be counted for the first network alone
    gc.collect()  # the first call's graph is part of a cycle
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    prepare()()
    return torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(prepare: Callable[[], Call], device: torch.device) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        prepare()()
    assert profiled.profiler is not None
    changes = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    return int(max(accumulate(event.nbytes() for event in changes)))
