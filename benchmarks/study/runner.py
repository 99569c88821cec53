"""Running a study: every missing run is made, then all runs are measured together and reported."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from baselines import carry_out
from benchmarks.measuring.bench_file import Measurement, read_measurements
from benchmarks.measuring.latency import bench
from benchmarks.report.comparison import Comparison
from benchmarks.results.lag_warnings import warn_of_lag
from benchmarks.results.repeated_runs import distinct_runs
from benchmarks.study.dry_run import plan_study
from benchmarks.study.entry import Pruned
from benchmarks.study.graph import Node
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.setting import Setting
from compress.console import console, duration
from compress.errors import UsageError, reason
from compress.runs import InUseError, Run, claimed, finished_runs
from compress.stores.mirror import leased, passing_by
from compress.training import train
from compress.training.deadline import OutOfTimeError, deadline

ROUNDS = 7  # of latency; `compress bench` takes more, and an interval needs six
PATIENCE = 60.0  # seconds for which a run that another process makes is waited for before finished runs are looked for
KEPT_BACK = 0.2  # share of a time limit
MEASURING = ".measuring.lock"


def run_study(
    setting: Setting,
    *,
    out: Path,
    time_limit: float | None = None,
    report: bool = True,
    timing: bool = True,
    execute: Callable[[Runner], None] | None = None,
) -> list[Run]:
    """All runs of the study that could be made, the reference first, measured and reported into `out`.

    Finished runs are not made again, and runs that another process is making are left to it. A run that cannot be made
    is named, in the report too, and the others go on. Trials that lost are in the report's section on tuning alone.

    Args:
        time_limit: seconds after which no run goes on: none is begun that is not expected to end by then, and one under
            way stops after its epoch, with its checkpoint kept. A share of `KEPT_BACK` is for measuring and the report.
        report: whether runs are measured and reported; false: they are made alone, and the whole limit is for that.
        timing: whether latency is measured; false, where the machine is busy: of measurements only the accuracy and
            the size of files in int8, of a study that asks for them.
        execute: makes the missing runs of a runner; None: `Runner.make_all`, in this process.

    Raises:
        UsageError: the reference could not be made.
        KeyboardInterrupt: interrupted; the message says how to go on.
    """
    from benchmarks.report.report import write_report  # here, as training does without what draws

    share = 1 - KEPT_BACK if report else 1.0
    until = math.inf if time_limit is None else time.monotonic() + share * time_limit
    runner = Runner.of(setting, until=until)
    outcomes = runner.outcomes
    try:
        (execute or Runner.make_all)(runner)
        found = outcomes.reported
        if report and found:
            with _alone(setting.place.runs / MEASURING):  # timings beside other work are wrong, and reports would mix
                runner.measure(found, timing=timing)
                write_report(runner.comparison(found), out)
    except KeyboardInterrupt as error:
        done, every = sum(map(bool, outcomes.runs.values())), len(outcomes.nodes)
        raise type(error)(f"{done} of {every} runs are done; the same command goes on with the rest") from error
    return found


@dataclass(kw_only=True)
class Runner:
    """A study under way.

    Attributes:
        seconds: a guess for every run that was missing at first.
        started: when, by `time.monotonic`.
        until: when no run may go on, by `time.monotonic`.
        eager: whether the first run begins although the guess says that it does not end by then, and the others
            although the reference of the first seed failed: as much as possible is made of a machine that is lent.
        failures: a line for every run that could not be made, and for latency or int8 that could not be measured.
        abreast: how many runs are made at once.
    """

    outcomes: Outcomes
    seconds: Mapping[Node, float]
    started: float = field(default_factory=lambda: time.monotonic())
    until: float = math.inf
    eager: bool = False
    failures: list[str] = field(default_factory=list)
    abreast: int = 1

    @classmethod
    def of(cls, setting: Setting, *, until: float = math.inf) -> Runner:
        """The runner of a study with its finished runs; says what the study shows and how much there is to do."""
        console.print(setting.study.about.strip())
        plan = plan_study(setting)
        console.print(plan.summary())
        for line in distinct_runs(finished_runs(setting.place.runs)[0])[1]:
            console.print(f"not counted: {line}")
        return cls(outcomes=plan.outcomes, seconds=plan.seconds, until=until)

    def make_all(self) -> None:
        """Make all missing runs, each when what it waits for is there.

        Runs that another process holds are passed over, and waited for when there is nothing else to do.

        Raises:
            UsageError: the study's reference could not be made.
        """
        held: dict[Node, Path] = {}
        while self.outcomes.left and time.monotonic() < self.until:
            free = [node for node in self.outcomes.ready if node not in held and self._fits(node)]
            if not free and not held:
                break  # nothing that could begin ends within the limit
            if not free:
                held = self._wait(held)
            elif path := self._attempt(free[0]):
                held[free[0]] = path
            self.outcomes.find()  # what other processes made meanwhile
            if self.outcomes.lost and not self.eager:
                raise UsageError(f"the study's reference did not run: {self.failures[-1]}")
        self.conclude()

    def conclude(self) -> None:
        """Note what was not made, and which contrasts cannot be tested therefore."""
        for claim in self.outcomes.untestable:
            self.failures.append(f"the primary contrast, {claim.claim}: one of its networks has no run")
        if left := self.outcomes.left:
            self.failures += [f"{node}: the time limit came before it" for node in left]
            of = f"{len(left)} of {len(self.outcomes.nodes)} runs"
            console.print(f"{of}: the time limit came before them; the same command goes on with them")

    def comparison(self, runs: list[Run]) -> Comparison:
        """The study's comparison of its runs."""
        study, reference = self.outcomes.setting.study, self.outcomes.reference
        return Comparison(
            runs=runs,
            title=study.title,
            about=study.about,
            reference=reference.id if reference else None,
            claims=self.outcomes.claims,
            trials=self.outcomes.trials,
            failures=self.failures,
            screen=self.outcomes.screen,
        )

    def measure(self, runs: list[Run], *, timing: bool = True) -> None:
        """Measure the latency of all runs together, then the study's int8, unless that was done; a failure is noted.

        Without `timing` only what does not depend on how busy the machine is.
        """
        from benchmarks.results.rows import rows

        setting, sessions = self.outcomes.setting, rows(runs).get("bench_session")
        if timing and (sessions is None or sessions.isna().any() or sessions.nunique() > 1):
            with self._noting("latency"):
                warn_of_lag(runs, bench(runs, device=setting.place.device, rounds=ROUNDS))
        engine = setting.study.int8
        known = [any(_is_int8(each, engine) for each in read_measurements(run, untimed=not timing)) for run in runs]
        if engine and (left := [run for run, measured in zip(runs, known, strict=True) if not measured]):
            together = [*runs[:1], *(run for run in left if run is not runs[0])]  # ratios are to the reference
            how = {"rounds": ROUNDS} if timing else {"rounds": 0, "batch_sizes": [1]}
            with self._noting("int8"):
                bench(together, engine=engine, precision="int8", device="cpu", data_dir=setting.data_dir, **how)

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Note an error and go on."""
        try:
            yield
        except Exception as error:  # of any kind: what took a night to train is worth a report without it
            self.note(what, error)

    def time_left(self) -> str:
        """How long all missing runs take, at the pace of those made so far; a guess before there is one."""
        left = sum(seconds for node, seconds in self.seconds.items() if node not in self.outcomes.runs)
        return f"{duration(left / self.abreast)}, a guess," if self._pace is None else duration(left * self._pace)

    @property
    def _pace(self) -> float | None:
        """Seconds for each second guessed, of the runs made so far; None before there is one."""
        runs = self.outcomes.runs
        made = sum(seconds for node, seconds in self.seconds.items() if runs.get(node))
        return (time.monotonic() - self.started) / made if made else None

    def _fits(self, node: Node) -> bool:
        """Whether a run is expected to end within the limit."""
        if self._pace is None and self.eager:
            return True
        expected = self.seconds.get(node, 0.0) * (self._pace or 1.0)
        return time.monotonic() + expected <= self.until

    def _attempt(self, node: Node) -> Path | None:
        """Make a run, or note that it could not be made; the run's directory where another process holds it."""
        runs, every = self.outcomes.runs, len(self.outcomes.nodes)
        console.print(f"[{len(runs) + 1}/{every}] {node}; about {self.time_left()} left for all")
        try:
            with deadline(self.until), passing_by():
                runs[node] = self._make(node)
        except InUseError as error:
            console.print(f"{node}: left to the process that holds {error.path}")
            return error.path
        except OutOfTimeError as error:
            console.print(f"{node}: {error}")
        except Exception as error:  # of any kind: one run that fails must not cost a night's others
            runs[node] = None
            self.note(node, error)
        return None

    def _make(self, node: Node) -> Run:
        return make(self.outcomes, node)

    def _wait(self, held: Mapping[Node, Path]) -> dict[Node, Path]:
        """Wait a while for the first run held by another process; returns the runs that are still held."""
        still = {}
        for node, path in held.items():
            first = path == next(iter(held.values()))
            if first:
                console.print(f"waiting for another process, which makes {path.name}")
            try:
                patience = min(PATIENCE, max(0.0, self.until - time.monotonic()))
                with claimed(path, patience=patience if first else 0):
                    pass
            except InUseError:
                still[node] = path
        return still

    def note(self, what: object, error: Exception) -> None:
        """Note that something could not be made or measured, and why, for the report; and say so."""
        self.failures.append(f"{what}: {reason(error)}")
        console.print(f"did not run: {self.failures[-1]}")


def make(outcomes: Outcomes, node: Node) -> Run:
    """Make the run of a node that waits for nothing, or find it finished.

    Raises:
        UsageError: it cannot be made, or another process holds it (`InUseError`).
    """
    if isinstance(node.entry, Pruned):
        return carry_out(outcomes.job(node))
    return train(**outcomes.training(node))


def _is_int8(measurement: Measurement, engine: str | None) -> bool:
    return (measurement.engine, measurement.precision) == (engine, "int8")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock; says so where another process holds it, and waits for that."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print("waiting for another process, which measures and reports")
        lock.acquire()
    try:
        with leased(path, patience=-1):  # where other machines do not see the lock
            yield
    finally:
        lock.release()
