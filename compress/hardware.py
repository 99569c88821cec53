"""What this machine offers: the device and precision to compute with, and a description for the records."""

import ctypes
import os
import platform
import re
import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.networks import Network, evaluating

Precision = Literal["fp32", "bf16"]
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_LARGEST_THRESHOLD = 32 << 20  # bytes; glibc takes no more
PACKAGES = ("torch", "torchvision", "torch-pruning", "numpy")
# oneDNN's names of the instruction sets it has kernels for, least first, and what torch says of a CPU that has each.
ONEDNN_SETS = {
    "SSE41": {"sse4_1"},
    "AVX": {"avx"},
    "AVX2": {"avx2"},
    "AVX2_VNNI": {"avx_vnni"},
    "AVX2_VNNI_2": {"avx_vnni_int8", "avx_ne_convert"},
    "AVX512_CORE": {"avx512_f", "avx512_bw", "avx512_vl", "avx512_dq"},
    "AVX512_CORE_VNNI": {"avx512_f", "avx512_vnni"},
    "AVX512_CORE_BF16": {"avx512_f", "avx512_bf16"},
    "AVX512_CORE_FP16": {"avx512_f", "avx512_fp16"},
    "AVX512_CORE_AMX": {"amx_int8", "amx_bf16"},
    "AVX512_CORE_AMX_FP16": {"amx_int8", "amx_bf16", "amx_fp16"},
}


def resolve_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one, else the CPU.

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
    """The precision training computes in; ``auto`` is bf16 where the hardware has bf16 instructions, else fp32.

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
    """Whether the device has instructions for bf16, so that it need not be emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def check_bf16(network: Network, device: torch.device) -> None:
    """Refuse to train in bf16 on a CPU what its convolutions have no right gradient for.

    Where a map is one pixel wide and the stride of a larger kernel is not, oneDNN 3.12's weight gradient in bf16 holds
    whatever was in memory (`jit_bf16:avx512_core_bf16`); fp32 is right.

    Raises:
        UsageError: the network, called with images of its shape, has such a layer; it is named.
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


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, numpy or torch asked for more memory than there is, on the CPU or a GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, for its own next use, where its C library is glibc.

    A training step frees and asks again for the same hundreds of megabytes; glibc hands blocks of that size back to the
    system, which clears every page before it gives it out again.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def describe(device: torch.device) -> dict[str, Any]:
    """The machine and the versions a figure was measured with, JSON-ready; `commit` is None outside a git checkout."""
    return {
        "device": str(device),
        "cpu": _cpu_name(),
        "instructions": {"torch": torch.backends.cpu.get_cpu_capability(), "onednn": onednn_instructions()},
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: metadata.version(package) for package in PACKAGES} | {"onednn": onednn_version()},
        "commit": _commit(),
    }


def summary() -> str:
    """The CPU, what computes on it and how, in one line: what the report of a fault should say."""
    found = describe(torch.device("cpu"))
    versions, sets, threads = found["versions"], found["instructions"], found["threads"]
    return (
        f"{found['cpu']}; Python {found['python']}, torch {versions['torch']} ({sets['torch']} kernels), "
        f"oneDNN {versions['onednn'] or 'none'} ({sets['onednn'] or 'unknown instructions'}); "
        f"{threads} thread{'s' if threads > 1 else ''}"
    )


def onednn_version() -> str | None:
    """The version of the oneDNN that torch was built with; None where it has none."""
    found = re.search(r"(?:MKL-DNN|oneDNN)\D*(\d[\w.]*)", torch.__config__.show(), re.IGNORECASE)
    return found[1] if found and torch.backends.mkldnn.is_available() else None


def onednn_instructions() -> str | None:
    """The instruction set that oneDNN's kernels use here, by its name in `ONEDNN_MAX_CPU_ISA`; None where unknown.

    oneDNN takes the last that the CPU has, and none above the one that this variable names; it has no other way to ask
    than the log of `ONEDNN_VERBOSE`.
    """
    if onednn_version() is None:
        return None
    names, has = list(ONEDNN_SETS), {name for name, value in torch.cpu.get_capabilities().items() if value is True}
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").upper()
    allowed = names[: names.index(limit) + 1] if limit in names else names
    return next((name for name in reversed(allowed) if ONEDNN_SETS[name] <= has), None)


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout this package is in, with ``+`` where its tracked files were changed."""
    home = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(home), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != home:
            return None  # installed somewhere inside a checkout of something else
        return git("describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+")
    except (OSError, subprocess.CalledProcessError):
        return None
