"""A session: the runs of a study made or found finished, its arms tuned, all measured together and reported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from baselines import carry_out
from benchmarks.measuring.latency import bench
from benchmarks.report.comparison import Comparison
from benchmarks.report.report import write_report
from benchmarks.results.lag_warnings import warn_of_lag
from benchmarks.results.rows import rows
from benchmarks.results.series import distinct_runs
from benchmarks.study.clock import Clock
from benchmarks.study.dry_run import plan_study
from benchmarks.study.graph import Node
from benchmarks.study.progress import Ledger
from benchmarks.study.setting import Setting
from compress.console import console, duration
from compress.errors import UsageError, reason
from compress.runs import InUseError, Run, claimed, finished_runs
from compress.training import train

ROUNDS = 7  # of latency; `compress bench` takes more, six are the least for an interval
PATIENCE = 60.0  # seconds for which another process's run is waited for before all is looked at again
MEASURING = ".measuring.lock"


def run_study(setting: Setting, *, out: Path) -> list[Run]:
    """All runs of the study that could be made, the reference first, measured and reported into `out`.

    What was finished before is not run again, and what another process is making is left to it. A run that cannot be
    made is named, in the report too, and the others go on; losing trials are in the report's section on tuning alone.

    Raises:
        UsageError: the reference could not be made.
        KeyboardInterrupt: with what to do to go on.
    """
    session = Session.of(setting)
    try:
        session.conduct()
        found = session.ledger.reported
        with _alone(setting.runs / MEASURING):  # what is timed beside another is timed wrong, and reports would mix
            session.measure(found)
            comparison = Comparison(
                runs=found,
                title=setting.study.title,
                about=setting.study.about,
                reference=found[0].id,
                primary=session.ledger.primary,
                trials=session.ledger.trials,
                failures=session.failures,
            )
            write_report(comparison, out)
    except KeyboardInterrupt as error:
        done, every = sum(map(bool, session.ledger.outcomes.values())), len(session.ledger.nodes)
        raise type(error)(f"{done} of {every} runs are done; the same command goes on with the rest") from error
    return found


@dataclass(kw_only=True)
class Session:
    """A study under way.

    Attributes:
        failures: a line on each run that could not be made, and on latency where it could not be measured.
    """

    ledger: Ledger
    clock: Clock
    failures: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, setting: Setting) -> Session:
        """At its beginning; how much there is to do is said."""
        plan = plan_study(setting)
        console.print(plan.summary())
        for line in distinct_runs(finished_runs(setting.runs)[0])[1]:
            console.print(f"not counted: {line}")
        return cls(
            ledger=Ledger(setting=setting, outcomes={one.node: one.run for one in plan.runs if one.run}),
            clock=Clock(foreseen={one.node: one.seconds or 0.0 for one in plan.left}),
        )

    def conduct(self) -> None:
        """Make all runs that are missing, each when what it waits for is there.

        Those that another process holds are passed over, and waited for when there is nothing else to do.
        """
        held: dict[Node, Path] = {}
        while self.ledger.left:
            free = [node for node in self.ledger.ready if node not in held]
            if not free:
                held = self._wait(held)
            elif path := self._attempt(free[0]):
                held[free[0]] = path
            self.ledger.find()  # what other processes made meanwhile
            if self.ledger.lost:
                raise UsageError(f"the study's reference did not run: {self.failures[-1]}")
        declared = self.ledger.setting.study.primary
        if declared and self.ledger.primary is None:
            self.failures.append(f"the primary contrast, {' against '.join(declared)}: one of them has no run")

    def _attempt(self, node: Node) -> Path | None:
        """Make a run, or note that it could not be made; the directory in which another process does, if so."""
        outcomes, every = self.ledger.outcomes, len(self.ledger.nodes)
        left = duration(self.clock.left(outcomes)) + ("" if self.clock.pace(outcomes) else ", a guess,")
        console.print(f"[{len(outcomes) + 1}/{every}] {node}; about {left} left for all")
        try:
            outcomes[node] = self._run(node)
        except InUseError as error:
            console.print(f"{node}: left to the process that holds {error.path}")
            return error.path
        except Exception as error:  # whatever it is: one run that fails must not cost a night's others
            outcomes[node] = None
            self._failed(node, error)
        return None

    def measure(self, runs: list[Run]) -> None:
        """Measure all together, unless that was done; where it fails they are reported all the same."""
        if not _measured_together(runs):
            try:
                warn_of_lag(runs, bench(runs, device=self.ledger.setting.device, rounds=ROUNDS))
            except Exception as error:  # whatever it is: what took a night to train is worth a report without it
                self._failed("latency", error)

    def _failed(self, what: object, error: Exception) -> None:
        self.failures.append(f"{what}: {reason(error)}")
        console.print(f"did not run: {self.failures[-1]}")

    def _run(self, node: Node) -> Run:
        if node.target:
            return carry_out(self.ledger.job(node))
        return train(**self.ledger.setting.training(node, self.ledger.factors(node)))

    def _wait(self, held: Mapping[Node, Path]) -> dict[Node, Path]:
        """Wait for the first for a while; which are still held: to attempt them would be to choose anew for nothing."""
        still = {}
        for node, path in held.items():
            first = path == next(iter(held.values()))
            if first:
                console.print(f"waiting for another process, which makes {path.name}")
            try:
                with claimed(path, patience=PATIENCE if first else 0):
                    pass
            except InUseError:
                still[node] = path
        return still


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock; another process that does is waited for, which is said."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print("waiting for another process, which measures and reports")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _measured_together(runs: list[Run]) -> bool:
    """Whether one session of `bench` has measured them all."""
    frame = rows(runs)
    if "bench_session" not in frame:
        return False
    return bool(frame["bench_session"].notna().all()) and frame["bench_session"].nunique() == 1
