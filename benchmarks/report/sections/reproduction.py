"""Reproduction: the command, commit, configuration and machine behind every row of a report."""

from __future__ import annotations

from benchmarks.report.group import Group
from benchmarks.report.section import Block, Bullets, Section, Text
from benchmarks.results.escaping import SENTENCE, code, inline
from compress.runs import Run

DIGESTS = (
    "Each run's id ends in a digest of its whole resolved configuration: the command, at that commit and with those "
    "versions, makes a run with the same id."
)


def reproduction_section(group: Group) -> Section:
    """Every run's command, under the environment and commit that it was made with."""
    made: dict[str, list[Run]] = {}
    for run in group.runs:
        made.setdefault(_environment(run), []).append(run)
    blocks: list[Block] = [Text(DIGESTS)]
    for environment, own in made.items():
        commands = [f"{code(run.id)}: {code(run.record.command)}" for run in own]
        blocks += [Text(f"Trained on {inline(environment, SENTENCE)}:"), Bullets(commands, wrapped=False)]
    return Section("How to reproduce each row", blocks)


def _environment(run: Run) -> str:
    """As in ``Intel(R) Xeon(R), 2 threads, fp32; Python 3.11.7, torch 2.15.0; commit 1a2b3c4d5e6f``."""
    env = run.record.environment
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    where = env["gpu"] or f"{env['cpu']}, {env['threads']} thread{'s' if env['threads'] > 1 else ''}"
    return f"{where}, {env['precision']}; Python {env['python']}, {versions}; commit {env['commit'] or 'unknown'}"
