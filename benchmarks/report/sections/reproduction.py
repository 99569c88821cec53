"""Reproduction: the command, commit, configuration and machine behind every row of a report."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results.escaping import SENTENCE, code, inline
from compress.runs import Run

HEADING = "### How to reproduce each row"
DIGESTS = (
    "The end of each run's id is a digest of its whole resolved configuration: the command, at that commit and with "
    "those versions, makes a run of the same id."
)


def reproduction_section(runs: Sequence[Run]) -> list[str]:
    """Every run's command, under the environment and commit that it was made with."""
    made: dict[str, list[Run]] = {}
    for run in runs:
        made.setdefault(_environment(run), []).append(run)
    parts = [HEADING, DIGESTS]
    for environment, own in made.items():
        rows = "\n".join(f"- {code(run.id)}: {code(run.record.command)}" for run in own)
        parts += [f"Trained on {inline(environment, SENTENCE)}:", rows]
    return parts


def _environment(run: Run) -> str:
    """As in ``Intel(R) Xeon(R), 2 threads, fp32; Python 3.11.7, torch 2.15.0; commit 1a2b3c4d5e6f``."""
    env = run.record.environment
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    where = env["gpu"] or f"{env['cpu']}, {env['threads']} thread{'s' if env['threads'] > 1 else ''}"
    return f"{where}, {env['precision']}; Python {env['python']}, {versions}; commit {env['commit'] or 'unknown'}"
