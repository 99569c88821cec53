"""Serving: how the selected network will run, which is how it is measured."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from benchmarks.measuring.engines import Engine, engine_named
from benchmarks.measuring.latency import LARGEST_BATCH, MOST_ROUNDS, ROUNDS
from compress.errors import UsageError, checked


@checked
@dataclass(frozen=True, kw_only=True)
class Serving:
    """The engine that will serve, and its conditions.

    Attributes:
        device: auto is CUDA where there is one and the engine runs on it, else the CPU.
        rounds: how many times each network is timed.

    Raises:
        UsageError: the engine is unknown, or a number is out of range.
    """

    engine: str = "onnxruntime"
    precision: str = "fp32"
    threads: int = 1
    batch_size: int = 1
    device: str = "auto"
    rounds: int = ROUNDS

    def __post_init__(self) -> None:
        engine_named(self.engine)
        for name, value, most in (
            ("threads", self.threads, os.cpu_count() or 1),
            ("batch-size", self.batch_size, LARGEST_BATCH),
            ("rounds", self.rounds, MOST_ROUNDS),
        ):
            if not 1 <= value <= most:
                raise UsageError(f"--{name} {value}: 1 or more, here {most:,} at most")

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.engine}, {self.precision}, {self.place}, {threads}, batch {self.batch_size}"

    @property
    def place(self) -> torch.device:
        """The device that the engine runs on."""
        return engine_named(self.engine).device(self.device)

    def start(self) -> Engine:
        """The engine, after a check that it is installed and has the precision here.

        Raises:
            UsageError: it is not, or has not.
        """
        engine = engine_named(self.engine)
        engine.check(self.precision, self.place)
        return engine
