"""Missing runs: what a study asked for and did not make, by name, with the reason."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.section import Bullets, Section
from benchmarks.results.escaping import SENTENCE, inline

SHOWN = 10  # the others are folded


def missing_section(failures: Sequence[str]) -> Section | None:
    """A line on every run that is missing; None if none is."""
    lines = [f"did not run: {inline(failure, SENTENCE)}" for failure in failures]
    return Section("Did not run", [Bullets(lines, shown=SHOWN)], level=2) if lines else None
