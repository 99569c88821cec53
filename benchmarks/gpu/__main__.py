"""The command `python -m benchmarks.gpu`: test, time and compare on this machine, in minutes, into one archive.

It needs no network, and of packages torch, numpy, Pillow, safetensors and rich alone.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.gpu.stage import STAGES
from compress.errors import UsageError, one_line
from compress.home import settle
from compress.signals import heeded

LEAST, MOST = 0.5, 24 * 60.0  # minutes
LEAST_TORCH = (2, 11)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Test, time and compare on this machine, in a few minutes, into one archive of records: CUDA "
        "tests, ratios of training speed, latencies of the study's networks (at most a minute each), then the study, "
        "seed by seed, until the time is up. What is done is saved at once. compress report ARCHIVE makes the report.",
    )
    parser.add_argument("--device", default="auto", help="auto (CUDA if there is one; the default), cpu, cuda, cuda:1")
    parser.add_argument("--minutes", type=minutes, default=9.0, help="for all of it (default: 9)")
    parser.add_argument("--data-dir", help="directory of CIFAR-10, as class folders or in its published form")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="directory to work in (default: gpu-check)")
    parser.add_argument("--study", help="a bundled study or a file (default: headline, where there are a GPU and data)")
    parser.add_argument("--first-seed", type=seed, default=0, help="is added to the study's seeds: another per machine")
    only = "only these (default: all); without the study they share the time"
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help=only)
    return parser.parse_args(arguments)


def minutes(text: str) -> float:
    """A number of minutes; raises ArgumentTypeError for what is none."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LEAST <= value <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r}: minutes, from {LEAST:g} to {MOST:g}")
    return value


def seed(text: str) -> int:
    """A seed; raises ArgumentTypeError for what is none."""
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 0 on, below 10 to the 9th")
    return int(text)


def check_torch() -> None:
    """Refuse PyTorch before 2.11, which pyproject.toml asks for where this is installed.

    Raises:
        UsageError: it is older, or not there.
    """
    try:
        found = version("torch")
    except PackageNotFoundError:
        raise UsageError("torch is not installed") from None
    if tuple(int(part) for part in re.findall("[0-9]+", found)[:2]) < LEAST_TORCH:
        raise UsageError(f"torch {found} is too old: {'.'.join(map(str, LEAST_TORCH))} or later is needed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 2 where it could not begin."""
    started, given = time.monotonic(), parsed(arguments)
    settle()
    try:
        check_torch()

        from benchmarks.gpu.check import Check  # here and below, as --help needs no torch
        from benchmarks.gpu.check_setting import Wanted
        from compress.console import console

        wanted = Wanted(
            device_name=given.device,
            study_name=given.study,
            data_dir=given.data_dir,
            out=given.out.absolute(),
            first_seed=given.first_seed,
        )
        if wanted.note:
            console.print(wanted.note)
        print(Check(wanted=wanted, minutes=given.minutes, stages=given.stages, started=started).carry_out())
    except UsageError as error:
        print(f"gpu: {one_line(str(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    try:
        with heeded():
            sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("gpu: interrupted; what was done is in the archive, and the same command goes on")
