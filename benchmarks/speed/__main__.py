"""The command `python -m benchmarks.speed [exits]`: progress on stderr, ratios and conditions as JSON on stdout."""

from __future__ import annotations

import json
import sys
from typing import Annotated

from cyclopts import App, Parameter, validators

from benchmarks.speed.exit_ratios import ExitSetup, measure_exits
from benchmarks.speed.ratios import measure
from benchmarks.speed.speed_setup import Setup
from compress.errors import UsageError
from compress.hardware import resolve_device, resolve_precision

Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]

app = App(name="python -m benchmarks.speed", help_format="plaintext", version_flags=[])


@app.default
def main(
    *,
    arch: str = "resnet56",
    exits: int = 5,
    rounds: Count = 9,
    device: str = "auto",
    precision: str = "auto",
    batch_size: Count = 128,
    compile: Annotated[bool, Parameter(negative="")] = False,
    minutes: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None,
) -> None:
    """Measure what training costs, as ratios of times and memory measured in turn on this machine.

    Args:
        arch: Network that is trained.
        exits: Number of its exits, where it is trained by MW-BP.
        rounds: Number of timings; the median and the quartiles over them are given.
        device: auto (CUDA where there is one), cpu, cuda, ...
        precision: auto (bf16 where the hardware has it), fp32 or bf16.
        batch_size: Images of a training step.
        compile: Compile our training steps; on CUDA they are anyway, and captured.
        minutes: Time after which no round is begun; what is missing then is left out.
    """
    where = resolve_device(device)
    setup = Setup(
        arch=arch,
        exits=exits,
        device=where,
        precision=resolve_precision(precision, where),
        batch_size=batch_size,
        compile=compile,
        rounds=rounds,
        time_limit=None if minutes is None else 60 * minutes,
    )
    print(json.dumps(measure(setup), indent=2))


@app.command(name="exits")
def exits_command(*, arch: str = "resnet44", exits: int = 5, threads: int = 1, rounds: Count = 9) -> None:
    """Measure whether the time of early exit follows its MACs, on the CPU.

    Args:
        arch: Network that images leave early.
        exits: Number of its exits.
        threads: Number of threads of every engine.
        rounds: Number of timings; the median and the quartiles over them are given.
    """
    setup = ExitSetup(arch=arch, exits=exits, threads=threads, rounds=rounds)
    print(json.dumps(measure_exits(setup), indent=2))


if __name__ == "__main__":
    try:
        app()
    except UsageError as error:
        sys.exit(f"speed: {error}")
