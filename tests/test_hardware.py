"""The description of the machine agrees with what PyTorch and oneDNN report."""

import os
import re
import subprocess
import sys
from unittest.mock import Mock

import pytest
import torch

from compress import machine
from compress.cli.app import is_out_of_memory
from compress.errors import UsageError
from compress.hardware import check_bf16, describe
from compress.machine import ONEDNN_SETS, onednn_instructions, onednn_version, summary, torch_instructions
from compress.networks import create

# A convolution makes oneDNN write its log's first lines, in which the instruction set has another name.
ASKED = """
import torch
from compress.machine import onednn_instructions
with torch.no_grad():
    torch.nn.Conv2d(8, 8, 3)(torch.randn(4, 8, 19, 19).to(memory_format=torch.channels_last))
print("ours", onednn_instructions())
"""
IN_THE_LOG = {
    "AVX2": "AVX2",
    "AVX512_CORE": "AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions",
    "AVX512_CORE_VNNI": "AVX-512 with Intel DL Boost",
    "AVX512_CORE_BF16": "AVX-512 with Intel DL Boost and bfloat16 support",
}


@pytest.mark.parametrize("limit", ["AVX2", "DEFAULT"])
def test_the_instructions_are_those_in_onednns_own_log(limit: str) -> None:
    environment = os.environ | {"ONEDNN_VERBOSE": "1", "ONEDNN_MAX_CPU_ISA": limit}
    done = subprocess.run([sys.executable, "-c", ASKED], env=environment, capture_output=True, text=True, check=True)
    logged, ours = re.search(r"cpu,isa:(?:Intel )?(.*)", done.stdout), done.stdout.split()[-1]
    version = re.search(r"oneDNN v([\d.]+)", done.stdout)
    if logged is None or version is None:
        pytest.skip("this torch has no oneDNN, or it keeps no log")
    assert version[1] == onednn_version()
    if ours in IN_THE_LOG:
        assert logged[1] == IN_THE_LOG[ours]
    if limit in ONEDNN_SETS:
        assert list(ONEDNN_SETS).index(ours) <= list(ONEDNN_SETS).index(limit)


def test_a_limit_is_heeded_and_an_unknown_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda _: "sse4_1 avx avx2")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    found = []
    for limit in ("", "AVX", "sse41", "nothing", "AVX512_CORE"):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        found.append(onednn_instructions())
    assert found == ["AVX2", "AVX", "SSE41", "AVX2", "AVX2"]
    monkeypatch.setattr(machine, "_cpuinfo", lambda _: "fp asimd bf16")  # as on aarch64
    assert onednn_instructions() is None


def test_a_record_names_what_computed_it() -> None:
    found = describe(torch.device("cpu"))
    assert found["instructions"]["torch"] == torch.backends.cpu.get_cpu_capability() == torch_instructions()
    assert found["versions"]["onednn"] == onednn_version()
    for part in (found["cpu"], torch.__version__.partition("+")[0], f"{os.cpu_count()} core"):
        assert part in "; ".join(summary())


def test_no_memory_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_a_stride_over_a_map_one_pixel_wide_is_refused_in_bf16_on_a_cpu() -> None:
    network = create("resnet8", input_shape=(1, 8, 2))
    with pytest.raises(UsageError, match=r"precision bf16: blocks\.2\.conv1 takes strides over a map one pixel wide"):
        check_bf16(network, torch.device("cpu"))
    check_bf16(network, torch.device("meta"))
    check_bf16(create("resnet8", input_shape=(1, 8, 3)), torch.device("cpu"))
    assert network.training
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_the_load_of_the_machine_is_none_where_nobody_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 1.0, 0.5), raising=False)
    assert machine.load() == 2.5
    monkeypatch.setattr(os, "getloadavg", Mock(side_effect=OSError), raising=False)
    assert machine.load() is None
    monkeypatch.delattr(os, "getloadavg")
    assert machine.load() is None
