"""A session: the runs of a study made or found finished, its arms tuned, all measured together and reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baselines import Budget, prune
from benchmarks.entries import StudyRun, Target, entry_and_exit
from benchmarks.latency import bench, latency_ratio
from benchmarks.report import write_report
from benchmarks.study import Study
from benchmarks.tables import rows
from benchmarks.tuning import Factors, Trial, best
from compress.data import Dataset
from compress.errors import UsageError
from compress.recipes import Recipe
from compress.runs import Run
from compress.training import train
from compress.training.progress import console

ROUNDS = 7  # of latency; `compress bench` takes more, six are the least for an interval
Key = tuple[str, Target | None, int]  # an entry's name, its budget, the seed


def run_study(
    study: Study, dataset: Dataset, recipe: Recipe, *, device: str, precision: str, runs: Path, out: Path, resume: bool
) -> list[Run]:
    """All runs of the study that could be made, the reference first, measured and reported into `out`.

    What was finished before is not run again. A run that cannot be made is named, in the report too, and the others go
    on; losing trials are in the report's section on tuning alone.

    Raises:
        UsageError: the reference could not be made, or there is nothing to tune on.
    """
    if study.tuning and not recipe.validation:
        raise UsageError(f"tuning: recipe {recipe.name} holds out no validation images; use one that does, as quick")
    options = {"device": device, "precision": precision, "runs": runs, "resume": resume}
    session = Session(study=study, dataset=dataset, recipe=recipe, options=options)
    session.conduct()
    found = session.reported
    if not _measured_together(found):
        bench(found, device=device, rounds=ROUNDS)
    write_report(
        found,
        out,
        title=study.title,
        about=study.about,
        reference=found[0].id,
        primary=session.primary,
        trials=session.trials,
        failures=session.failures,
    )
    return found


@dataclass(kw_only=True)
class Session:
    """A study under way.

    Attributes:
        chosen: factors of every tuned entry; None where all its trials failed.
        finished: runs that the report is on, by entry, budget and seed.
        attempted: every run asked for, trials among them; None where it could not be made.
        failures: a line on each that could not.
    """

    study: Study
    dataset: Dataset
    recipe: Recipe
    options: dict[str, Any]
    trials: list[Trial] = field(default_factory=list)
    chosen: dict[str, Factors | None] = field(default_factory=dict)
    finished: dict[Key, Run] = field(default_factory=dict)
    attempted: dict[tuple[Key, Factors], Run | None] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def conduct(self) -> None:
        """Make all runs, seed by seed, every entry before those that build on it."""
        for seed in self.study.seeds:
            for entry in self.study.runs:
                self._conduct(entry, seed)
                missing = (entry.name, entry.targets[0], self.study.seeds[0]) not in self.finished
                if entry.name == self.study.reference and missing:
                    raise UsageError(f"the study's reference did not run: {self.failures[-1]}")

    @property
    def reported(self) -> list[Run]:
        """The finished runs, each once, the reference first."""
        names = {run.name: run for run in self.study.runs}
        first = self.finished[self.study.reference, names[self.study.reference].targets[0], self.study.seeds[0]]
        return list({run.id: run for run in (first, *self.finished.values())}.values())

    @property
    def primary(self) -> tuple[str, str] | None:
        """A run each of the primary contrast's two entries; None where none was declared, or one did not run."""
        finished = {name: run.id for (name, _, _), run in self.finished.items()}
        ids = tuple(finished[name] for name in self.study.primary if name in finished)
        return (ids[0], ids[1]) if len(ids) == 2 else None

    def _conduct(self, entry: StudyRun, seed: int) -> None:
        tuning = self.study.tuning
        if tuning and tuning.includes(entry) and entry.name not in self.chosen:
            trials = [self._trial(entry, tuning.target(entry), factors) for factors in tuning.factors]
            winner = best(trials)
            self.trials += trials
            self.chosen[entry.name] = winner.factors if winner else None
        factors = self.chosen.get(entry.name, Factors())
        if factors is None:
            self._fail(f"{entry.name}, seed {seed}", "none of its trials finished")
            return
        for target in entry.targets:
            if run := self._attempt((entry.name, target, seed), entry, factors):
                self.finished[entry.name, target, seed] = run

    def _trial(self, entry: StudyRun, target: Target | None, factors: Factors) -> Trial:
        run = self._attempt((entry.name, target, self.study.seeds[0]), entry, factors)
        return Trial.of(entry, target, factors, run)

    def _attempt(self, key: Key, entry: StudyRun, factors: Factors) -> Run | None:
        """The run, or None where it could not be made, which is noted; asked for again it is what it was."""
        if (key, factors) in self.attempted:
            return self.attempted[key, factors]
        title = _title(key, factors)
        console.print(f"[{len(self.attempted) + 1}/{self._runs_to_make()}] {title}")
        try:
            run = self._run(key, entry, factors)
        except Exception as error:  # whatever it is: one run that fails must not cost a night's others
            self._fail(title, str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}")
            run = None
        self.attempted[key, factors] = run
        return run

    def _run(self, key: Key, entry: StudyRun, factors: Factors) -> Run:
        _, target, seed = key
        shared = {"seed": seed, **self.options}
        if target is not None:
            return prune(
                entry.arch,
                self.dataset,
                budget=self._budget(target, seed),
                technique=entry.technique,
                reference=self._reference(entry, seed),
                schedule=entry.schedule,
                timed=latency_ratio,
                recipe=self.recipe,
                **factors.options(entry, self.recipe),
                **shared,
            )
        assert entry.arch is not None
        return train(
            entry.arch,
            self.dataset,
            method=entry.training,
            exits=entry.exits,
            recipe=factors.recipe(self.recipe),
            **entry.architecture,
            **shared,
        )

    def _budget(self, target: Target, seed: int) -> Budget:
        if not isinstance(target.value, str):
            return Budget(**{target.option: target.value})
        run, exit = self._earlier(target.value, seed)
        return Budget(macs=run.exits[-1 if exit is None else exit - 1]["macs"])

    def _reference(self, entry: StudyRun, seed: int) -> str | None:
        if entry.from_ is None:
            return None
        run, exit = self._earlier(entry.from_, seed)
        return str(run.path) if exit is None else f"{run.path}:{exit}"

    def _earlier(self, reference: str, seed: int) -> tuple[Run, int | None]:
        """The run that an entry's `from` or `match` names, and its exit if one is named."""
        name, exit = entry_and_exit(reference)
        found = [run for (entry, _, of), run in self.finished.items() if (entry, of) == (name, seed)]
        if not found:
            raise UsageError(f"{name} did not run")
        if exit is not None and exit > len(found[0].exits):
            raise UsageError(f"{reference}: {name} has {len(found[0].exits)} exit(s)")
        return found[0], exit

    def _fail(self, title: str, reason: str) -> None:
        self.failures.append(f"{title}: {' '.join(reason.split())}")
        console.print(f"did not run: {self.failures[-1]}")

    def _runs_to_make(self) -> int:
        tuning = self.study.tuning
        trials = [len(tuning.factors) - 1 for entry in self.study.runs if tuning and tuning.includes(entry)]
        return len(self.study.seeds) * sum(len(entry.targets) for entry in self.study.runs) + sum(trials)


def _title(key: Key, factors: Factors) -> str:
    """As in ``l1 at speedup 2.5, seed 0, rate x0.3``."""
    name, target, seed = key
    title = name if target is None else f"{name} at {target}"
    return ", ".join([title, f"seed {seed}", *([] if factors == Factors() else [str(factors)])])


def _measured_together(runs: list[Run]) -> bool:
    """Whether one session of `bench` has measured them all."""
    frame = rows(runs)
    if "bench_session" not in frame:
        return False
    return bool(frame["bench_session"].notna().all()) and frame["bench_session"].nunique() == 1
