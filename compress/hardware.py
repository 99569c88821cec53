"""Hardware as torch uses it: the device and precision to compute with, and a description for the records."""

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from compress import machine
from compress.errors import UsageError
from compress.networks import Network, evaluating

Precision = Literal["fp32", "bf16"]
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # constants of <malloc.h>
_LARGEST_THRESHOLD = 32 << 20  # bytes; glibc takes no more


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device {name!r} is not available here; use auto, cpu or, where there is one, cuda"
        ) from error
    return device


def resolve_precision(name: str, device: torch.device) -> Precision:
    """Return the precision that training computes in; ``auto``: bf16 where there are instructions for it, else fp32.

    Without those instructions bf16 on a CPU is emulated, slower than fp32; it is used only when asked for.

    Raises:
        UsageError: the name is none of auto, fp32, bf16.
    """
    if name == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    if name not in ("fp32", "bf16"):
        raise UsageError(f"precision {name!r}: use auto, fp32 or bf16")
    return cast(Precision, name)


def has_bf16(device: torch.device) -> bool:
    """Return whether the device has bf16 instructions, so that bf16 need not be emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def check_bf16(network: Network, device: torch.device) -> None:
    """Refuse bf16 on a CPU for a network with a convolution whose gradient would be wrong.

    Where a feature map is one pixel wide, and a kernel larger than that takes strides along it, the weight gradient of
    oneDNN 3.12 in bf16 is uninitialised memory (`jit_bf16:avx512_core_bf16`); in fp32 it is right.

    Raises:
        UsageError: the network has such a layer, which is named.
    """
    if device.type != "cpu":
        return
    found: list[str] = []

    def look(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        if inputs[0].shape[-1] == 1 and module.stride[1] > 1 and module.kernel_size[1] > 1:
            found.append(name)

    hooks = [
        module.register_forward_pre_hook(partial(look, name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    like = next(network.parameters())
    try:
        with evaluating(network), torch.no_grad():
            network(torch.zeros(1, *network.spec.input_shape, device=like.device, dtype=like.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        raise UsageError(
            f"precision bf16: {found[0]} takes strides over a map one pixel wide, where the CPU's gradient in bf16 is "
            "wrong; use --precision fp32, or larger images"
        )


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for its own next use, where its C library is glibc.

    A training step frees and allocates the same hundreds of megabytes again and again; glibc returns blocks of that
    size to the system, which clears every page before it hands it out again.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """On a GPU, let cuDNN choose its algorithms by rule, only such as give the same bits every time, and fp32 be fp32.

    Chosen by timing them (`benchmark`), they may differ after a resume, and with them the last bits. Convolutions of
    fp32 would else be computed with inputs rounded to TF32's 10 bits; those of bf16 are the same in either case.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision
    cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision = False, True, "ieee"
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision = before


def finish_on(device: torch.device) -> None:
    """Wait until the device has done all its work, which a GPU does behind the program's back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(device: torch.device) -> dict[str, Any]:
    """Return the machine and the versions that a figure was measured with, JSON-ready.

    `commit` is None outside a git checkout.
    """
    return {
        "device": str(device),
        "cpu": machine.cpu_name(),
        "instructions": {"torch": torch.backends.cpu.get_cpu_capability(), "onednn": machine.onednn_instructions()},
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": machine.versions(),
        "commit": machine.commit(),
    }
