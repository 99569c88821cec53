"""The check of a machine: what is done on it, in which order and in what time, and the archive of what came of it."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.check_setting import Wanted
from benchmarks.gpu.stage import STAGES, Stage, StageOutcome, carry_out
from benchmarks.gpu.study_records import StudyRecords
from benchmarks.report.record_archive import MANIFEST, SPEED, write_archive
from compress.console import console, duration
from compress.documents import read_file
from compress.errors import reason
from compress.hardware import describe
from compress.machine import installed

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "cuda"
PYTEST = (
    *("-m", "pytest", "-v", "--tb=short", "-m", "cuda and not slow", "-p", "no:cacheprovider"),
    *("-o", "addopts=--import-mode=importlib"),  # without xdist, which need not be there
    # On a machine whose packages are of other versions a warning must not cost the tests.
    *("-W", "default", "--continue-on-collection-errors", "--rootdir", str(ROOT)),
)
ARCHIVE = "gpu-check.zip"
SHORT, SHARE = 60.0, 1 / 9  # seconds of a stage that a study follows at most, and its share of a shorter time
RESERVE = 8.0  # seconds in which the last archive is written
OFTEN, RARELY = 5.0, 10  # seconds between two archives at least, and times as long as writing one takes
ABOUT = ("torch", "numpy", "pillow", "safetensors", "rich", "triton", "torchvision", "torch-pruning", "scipy", "pytest")


@dataclass(kw_only=True)
class Check:
    """A check under way.

    Attributes:
        minutes: for all of it.
        stages: those of `STAGES` that are carried out.
        started: when the command began, by `time.monotonic`.
        outcomes: of the stages that have ended.
    """

    wanted: Wanted
    minutes: float
    stages: Sequence[str]
    started: float
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    outcomes: list[StageOutcome] = field(default_factory=list)
    _saved: float = 0.0
    _saving: float = 0.0

    @property
    def archive(self) -> Path:
        """The file that is there whenever the check ends or is stopped."""
        return self.wanted.out / ARCHIVE

    @cached_property
    def records(self) -> StudyRecords:
        """The records of the study's runs."""
        return StudyRecords(wanted=self.wanted)

    @property
    def left(self) -> float:
        """Seconds until the last archive is to be written."""
        return self.started + 60 * self.minutes - RESERVE - time.monotonic()

    def carry_out(self) -> Path:
        """Carry out all stages; returns the archive, which is written after each of them and during the study."""
        _ = self.records.setting  # refuses, before anything is written
        self.wanted.out.mkdir(parents=True, exist_ok=True)
        self.save()
        saved = True
        for name in (stage for stage in STAGES if stage in self.stages):
            stage = self._stage(name)
            console.print(f"{name}: " + (f"skipped: {stage.skipped}" if stage.skipped else f"{duration(stage.limit)}"))
            meanwhile = self._save_now_and_then if name == "study" else lambda: None
            try:
                self.outcomes.append(carry_out(stage, self.wanted.out / f"{name}.log", meanwhile))
            finally:  # after an interruption, too
                saved = self._try_to_save()
            ended = self.outcomes[-1]
            if ended.status != "skipped":
                console.print(f"{name}: {ended.status} after {duration(ended.seconds)}" + _because(ended.reason))
        if not saved:
            self.save()  # raises what is wrong
        return self.archive

    def save(self) -> None:
        """Write the archive of what there is."""
        begun = time.monotonic()
        self.records.write()
        speed = self.wanted.out / SPEED
        documents = {MANIFEST: json.dumps(self.manifest(), indent=1).encode()}
        if speed.exists():
            documents[SPEED] = read_file(speed)
        write_archive(self.archive, self.records.path, documents)
        self._saved = time.monotonic()
        self._saving = self._saved - begun

    def manifest(self) -> dict[str, Any]:
        """What was asked for, on which machine, and how every stage ended, with the last lines that it printed."""
        device = self.wanted.device
        return {
            "schema_version": 1,
            "study": self.wanted.study.title,
            "note": self.wanted.note,
            "began": self.began.isoformat(timespec="seconds"),
            "minutes": self.minutes,
            "seconds": round(time.monotonic() - self.started, 1),
            "environment": describe(device) | {"installed": installed(ABOUT), "cuda": torch.version.cuda},
            "gpu": _gpu(device),
            "runs": self.records.count,
            "stages": [dataclasses.asdict(outcome) for outcome in self.outcomes],
        }

    def _stage(self, name: str) -> Stage:
        if self.left < 1:
            return Stage(name=name, skipped="the time was over")
        if name == "study":
            return Stage(name=name, limit=self.left, command=self._worker(name, seconds=max(0.0, self.left - RESERVE)))
        limit = self._limit
        if name == "tests":
            command = (sys.executable, *PYTEST, str(TESTS))
            return Stage(name=name, limit=limit, command=command, skipped=self._why_no_tests())
        return Stage(name=name, limit=limit, command=self._worker(name, seconds=limit))

    @property
    def _limit(self) -> float:
        """Seconds of the next stage: little where the study follows, which the time is for, else an equal share."""
        if "study" in self.stages:
            return min(self.left, SHORT, SHARE * 60 * self.minutes)
        return self.left / (len(set(self.stages)) - len(self.outcomes))

    def _worker(self, name: str, *, seconds: float) -> Sequence[str]:
        return (
            sys.executable,
            "-m",
            f"benchmarks.gpu.{name}_worker",
            self.wanted.to_json(),
            f"{time.monotonic() + seconds:.3f}",
        )

    def _why_no_tests(self) -> str | None:
        if self.wanted.device.type != "cuda":
            return "there is no CUDA here" if not torch.cuda.is_available() else "they are for CUDA"
        if find_spec("pytest") is None:
            return "pytest is not installed"
        return None if TESTS.is_dir() else f"there is no {TESTS}"

    def _save_now_and_then(self) -> None:
        """Write the archive if there are other runs than it holds, unless it was written just before."""
        if time.monotonic() > self._saved + max(OFTEN, RARELY * self._saving) and self.records.grown:
            self._try_to_save()

    def _try_to_save(self) -> bool:
        """Write the archive; says so where that fails, in whatever way, as the stages must go on."""
        try:
            self.save()
        except Exception as error:
            console.print(f"not saved: {reason(error)}")
            self._saved = time.monotonic()
            return False
        return True


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _gpu(device: torch.device) -> dict[str, Any] | None:
    """What is known of the GPU; None without one."""
    if device.type != "cuda":
        return None
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "memory": found.total_memory,
        "capability": [found.major, found.minor],
        "processors": found.multi_processor_count,
        "host": platform.machine(),
    }
