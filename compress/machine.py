"""The machine: CPU, instruction sets, GPUs, installed versions and the code's commit, found without importing torch."""

import contextlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "torchvision", "torch-pruning", "numpy")
CPUINFO, GPUS = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")
# Names in `ONEDNN_MAX_CPU_ISA` of the instruction sets that oneDNN has kernels for, least first, and what /proc/cpuinfo
# says of a CPU that has each.
_AVX512 = {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
ONEDNN_SETS = {
    "SSE41": {"sse4_1"},
    "AVX": {"avx"},
    "AVX2": {"avx2"},
    "AVX2_VNNI": {"avx_vnni"},
    "AVX2_VNNI_2": {"avx_vnni_int8", "avx_ne_convert"},
    "AVX512_CORE": _AVX512,
    "AVX512_CORE_VNNI": {"avx512f", "avx512_vnni"},
    "AVX512_CORE_BF16": {"avx512f", "avx512_bf16"},
    "AVX512_CORE_FP16": {"avx512f", "avx512_fp16"},
    "AVX512_CORE_AMX": {"amx_int8", "amx_bf16"},
    "AVX512_CORE_AMX_FP16": {"amx_int8", "amx_bf16", "amx_fp16"},
}
TORCH_SETS = {"DEFAULT": set[str](), "AVX2": {"avx2", "fma"}, "AVX512": _AVX512 | {"fma"}}


def summary() -> list[str]:
    """Return CPU, versions, instruction sets, cores and GPUs in words: what the report of a fault should say."""
    cores = os.cpu_count() or 1
    return [
        cpu_name(),
        f"Python {platform.python_version()}, torch {metadata.version('torch')} ({torch_instructions()} kernels), "
        f"oneDNN {onednn_version() or 'none'} ({onednn_instructions() or 'unknown instructions'})",
        f"{cores} core{'s' if cores > 1 else ''}",
        *gpu_names(),
    ]


def cpu_name() -> str:
    """Return the CPU's model, or its architecture where the system does not name the model."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def gpu_names() -> list[str]:
    """Return the models of the GPUs that NVIDIA's driver knows; none without the driver."""
    files = sorted(GPUS.glob("*/information"))
    return [match[1] for file in files if (match := re.search(r"^Model:\s*(.*)$", file.read_text(), re.MULTILINE))]


def load() -> float | None:
    """Return how many threads ran or waited to run, on average over the last minute; None where nobody counts them."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows; a container that hides it
        return None


def torch_instructions() -> str:
    """Return the instruction set of torch's own kernels, by torch's name, at most what ATEN_CPU_CAPABILITY allows."""
    return _last(TORCH_SETS, os.environ.get("ATEN_CPU_CAPABILITY", "")) or "DEFAULT"


def onednn_version() -> str | None:
    """Return the version of the oneDNN that torch was built with, by its header; None where there is none."""
    header = Path(str(metadata.distribution("torch").locate_file("torch/include/oneapi/dnnl/dnnl_version.h")))
    try:
        numbers = re.findall(r"#define DNNL_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header.read_text())
    except OSError:
        return None
    return ".".join(numbers) or None


def onednn_instructions() -> str | None:
    """Return the instruction set of oneDNN's kernels here, by its name in `ONEDNN_MAX_CPU_ISA`; None where unknown.

    oneDNN takes the last set that the CPU has, and none above the one that this variable names. Only the log of
    `ONEDNN_VERBOSE` would say so.
    """
    return _last(ONEDNN_SETS, os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "")


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that a measurement depends on."""
    return installed(PACKAGES) | {"onednn": onednn_version()}


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed, of onnxruntime also as onnxruntime-gpu and the like."""
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
        if package not in found and (others := metadata.packages_distributions().get(package)):
            found[package] = metadata.version(others[0])
    return found


def commit() -> str | None:
    """Return the commit of the checkout that this package is in, with ``+`` where tracked files were changed."""
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


def _last(sets: dict[str, set[str]], limit: str) -> str | None:
    """Return the last of the instruction sets that the CPU has, up to the one that a variable names, if it does."""
    names, flags = list(sets), set(_cpuinfo("flags").split())
    allowed = names[: names.index(limit.upper()) + 1] if limit.upper() in names else names
    return next((name for name in reversed(allowed) if sets[name] <= flags), None)


def _cpuinfo(field: str) -> str:
    """Return a field of the first CPU in /proc/cpuinfo; empty where there is none."""
    text = CPUINFO.read_text() if CPUINFO.exists() else ""
    found = re.search(rf"^{field}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""
