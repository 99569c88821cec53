"""The `compress` command, also as `python -m compress`."""

import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from compress.home import settle
from compress.signals import TerminatedError, heeded

HOME = Path(__file__).resolve().parents[1]
COMPANIONS = ("baselines", "benchmarks")


def main() -> int:
    """Run the command; return its exit status: 2 where a package that it needs is missing or is another one's."""
    for package in COMPANIONS:
        if problem := _problem(package):
            print(f"compress: {problem}", file=sys.stderr)
            return 2
    settle()
    try:
        with heeded():
            from compress.cli.app import main as command  # here, as it imports the packages just checked

            return command()
    except KeyboardInterrupt as interruption:
        signalled = signal.SIGTERM if isinstance(interruption, TerminatedError) else signal.SIGINT
        what = "terminated" if signalled == signal.SIGTERM else "interrupted"
        how = str(interruption) or "a run that had begun goes on by the same command"
        print(f"compress: {what}; {how}", file=sys.stderr)
        return 128 + signalled


def _problem(package: str) -> str | None:
    """Return what is wrong with a package and what to do; None where it is the one installed with `compress`."""
    spec = find_spec(package)
    if spec is None:
        return f"the package {package!r} is missing from {HOME}: install multiway-compress again"
    # A folder without __init__.py has no origin, but locations.
    found = Path(spec.origin or next(iter(spec.submodule_search_locations or ()))).resolve()
    if found == HOME / package / "__init__.py":
        return None
    return (
        f"the package {package!r} that Python finds is another one, {found}, not that of {HOME}: "
        f"rename or uninstall it, or run compress from another folder"
    )


if __name__ == "__main__":
    sys.exit(main())
