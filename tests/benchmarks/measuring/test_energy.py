"""Energy: read from files in the kernel's format, over the end of the counter's range, or not at all."""

from pathlib import Path

import pytest
import torch

from benchmarks.measuring.energy import meter

CPU = torch.device("cpu")


def zone(root: Path, path: str, name: str, energy: int, span: int = 1_000_000) -> Path:
    directory = root / path
    directory.mkdir()
    for file, content in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", span)):
        (directory / file).write_text(f"{content}\n")
    return directory / "energy_uj"


def test_packages_are_added_up_and_counted_on_when_they_start_again(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 5, span=500)
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core", 1),
        zone(tmp_path, "intel-rapl:2", "psys", 1),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1),
    ]
    found = meter(CPU, tmp_path)
    assert found is not None
    assert found.sources == ["RAPL package-0", "RAPL package-1"]
    assert found.joules() == 0
    for other in others:
        other.write_text("999\n")
    first.write_text("950000\n")
    assert found.joules() == pytest.approx(0.05)
    first.write_text("20000\n")  # 50,000 to the end, 20,000 from there
    second.write_text("15\n")
    assert found.joules() == pytest.approx(0.12001)
    first.write_text("10000\n")  # and once round
    assert found.joules() == found.joules() == pytest.approx(1.11001)


def test_what_cannot_be_read_in_full_is_not_measured(tmp_path: Path) -> None:
    assert meter(CPU, tmp_path / "none") is None
    assert meter(torch.device("cuda"), tmp_path) is None
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    energy = zone(tmp_path, "intel-rapl:1", "package-1", 1)
    assert meter(CPU, tmp_path) is not None
    energy.unlink()
    energy.mkdir()  # an OSError, as permission denied is, for root too
    assert meter(CPU, tmp_path) is None
