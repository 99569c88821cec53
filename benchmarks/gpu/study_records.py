"""The records of a check's study, with the latencies that were measured before its runs were made."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmarks.gpu.check_setting import Wanted
from benchmarks.gpu.untrained import lend_latencies, untrained
from benchmarks.report.comparison import write_records
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.runner import Runner
from benchmarks.study.setting import Setting
from compress.documents import parse_json, read_file
from compress.runs import RECORD

FAILURES = "failures.json"  # a line on every run of the study that could not be made


@dataclass(kw_only=True)
class StudyRecords:
    """Records of the finished runs, in the form of a report's directory."""

    wanted: Wanted
    _written: set[str] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    @cached_property
    def setting(self) -> Setting:
        """The study with its data."""
        return self.wanted.setting()

    @property
    def path(self) -> Path:
        """The directory that they are in."""
        return self.wanted.out / "records"

    @property
    def count(self) -> int:
        """How many runs there were when they were last written."""
        return len(self._written)

    @property
    def grown(self) -> bool:
        """Whether there are runs, finished or not, that were not there then."""
        return {path.parent.name for path in self.wanted.runs.glob(f"*/{RECORD}")} != self._seen

    def write(self) -> None:
        """Write the records of all runs that are finished."""
        self._seen = {path.parent.name for path in self.wanted.runs.glob(f"*/{RECORD}")}
        outcomes = Outcomes(setting=self.setting)
        outcomes.find()
        runs = outcomes.reported
        lend_latencies(untrained(self.setting, self.wanted.timed), runs)
        if runs:
            runner = Runner(outcomes=outcomes, seconds={}, failures=self._failures())
            self.path.mkdir(parents=True, exist_ok=True)
            write_records(runner.comparison(runs), self.path)
        self._written = {run.id for run in runs}

    def _failures(self) -> list[str]:
        try:
            return [str(line) for line in parse_json(read_file(self.wanted.out / FAILURES))]
        except FileNotFoundError:
            return []
