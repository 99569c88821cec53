"""CPU seconds (user and system) of command lines that compute nothing: python -m benchmarks.speed.door [ROUNDS].

Each line runs in a process of its own, all lines in turn, round by round; the median and the extremes are printed.
"""

import resource
import statistics
import subprocess
import sys
import tempfile

LINES = (
    "--help",
    "--version",
    "data",
    "train --help",
    "prune --help",
    "prune --list-methods",
    "trian",
    "train --arch resnet21",
    "train --dataset cifra10",
    "train-mwbp --method mwpb",
    "prune",
    "bench nothing",
    "report nowhere",
)


def cpu_seconds(line: str, directory: str) -> float:
    """Return the CPU time that one command line takes, started anew in an empty directory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "compress", *line.split()], capture_output=True, cwd=directory)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(rounds: int = 5) -> None:
    """Print the CPU time of every line, in seconds."""
    with tempfile.TemporaryDirectory() as directory:
        cpu_seconds(LINES[0], directory)  # compiles what is not compiled yet
        times = [[cpu_seconds(line, directory) for line in LINES] for _ in range(rounds)]
    for line, seconds in zip(LINES, zip(*times, strict=True), strict=True):
        print(f"{line:28}{statistics.median(seconds):.2f}  ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
