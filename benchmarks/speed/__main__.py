"""The command `python -m benchmarks.speed`: progress and the environment on stderr, the ratios on stdout."""

from __future__ import annotations

import json as json_
import sys
from typing import Annotated

from cyclopts import App, Parameter

from benchmarks.speed.ratios import Setup, Sizes, measure, measure_growth
from compress.errors import UsageError

app = App(name="python -m benchmarks.speed", help_format="plaintext", version_flags=[])


@app.default
def main(
    *,
    growth: Annotated[bool, Parameter(negative="")] = False,
    rounds: int = 9,
    device: str = "auto",
    precision: str = "auto",
    compile: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Measure what training costs, as ratios of times and memory measured in turn on this machine.

    Args:
        growth: Measure how the ratios grow with the number of exits and with depth, instead of the six themselves.
        rounds: Number of timings; the median and the quartiles over them are given.
        device: auto (CUDA where there is one), cpu, cuda, ...
        precision: auto (bf16 where the hardware has it), fp32 or bf16.
        compile: Compile our training steps.
        json: Print one JSON document on stdout.
    """
    setup = Setup.of(Sizes(rounds=rounds), device=device, precision=precision, compile=compile)
    results = measure_growth(setup) if growth else measure(setup)
    for name, value in results.pop("environment").items():
        print(f"{name}: {value}", file=sys.stderr)
    print(json_.dumps(results, indent=2) if json else "\n".join(_lines(results)))


def _lines(results: dict[str, object], *above: str) -> list[str]:
    """A line for every ratio, with its keys."""
    lines = []
    for key, value in results.items():
        if not isinstance(value, dict):
            continue
        if "ratio" in value:
            lines.append(
                f"{' '.join([*above, key]):40} {value['ratio']:.3f}  ({value['low']:.3f} to {value['high']:.3f})"
            )
        else:
            lines += _lines(value, *above, key)
    return lines


if __name__ == "__main__":
    try:
        app()
    except UsageError as error:
        sys.exit(f"speed: {error}")
