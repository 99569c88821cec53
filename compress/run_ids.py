"""Run ids: the name of a run's directory, which ends in a digest of the run's configuration."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Any

from compress.records import digest_of
from compress.runs import RECORD

LONGEST = 80  # characters of a name in an id: file systems take 255 bytes


def identify(name: str, data: str, seed: int, config: dict[str, Any]) -> str:
    """The run's id: ``mwresnet44-5_cifar10_s0_1a2b3c4d``, ending in a digest of the configuration."""
    return f"{_in_path(name)}_{_in_path(data)}_s{seed}_{digest_of(config)}"


def _in_path(name: str) -> str:
    """A name as part of a directory's name: without separators and control characters, and of limited length."""
    return re.sub(r"[^\w.:,+=-]", "-", name.encode(errors="replace").decode())[:LONGEST].lstrip(".")


def directory_of(runs: Path, name: str, data: str, seed: int, config: dict[str, Any]) -> Path:
    """The directory of a run: an existing one, even if its data had another name, else a new one.

    The configuration identifies the data by their digest.
    """
    path = runs / identify(name, data, seed, config)
    digest = path.name.rpartition("_")[2]
    same = sorted(runs.glob(f"{glob.escape(_in_path(name))}_*_s{seed}_{digest}/{RECORD}"))
    return path if (path / RECORD).exists() or not same else same[0].parent
