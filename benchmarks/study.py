"""Studies: a TOML file that names runs; what is missing is run, then all are measured and reported."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from baselines import METHODS as PRUNING
from baselines import Budget, prune
from benchmarks.latency import bench
from benchmarks.report import write_report
from benchmarks.tables import rows
from compress.data import Dataset
from compress.errors import UsageError, nearest
from compress.networks import spec_of
from compress.recipes import Recipe
from compress.runs import Run
from compress.training import train
from compress.training.progress import console

ROUNDS = 5  # of latency; `compress bench` takes more
METHODS = {"train": "bp", "train-mwbp": "mwbp"}
COMMANDS = (*METHODS, "prune")
T = TypeVar("T", "Study", "StudyRun")
BUNDLED = files("benchmarks") / "studies"


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One entry of a study, run once a seed; the fields are the command's options.

    `match` names an earlier entry whose last exit's MACs are the budget of this pruned one.
    """

    name: str
    command: str
    arch: str
    exits: int | str | None = None
    width: int = 1
    method: str = "l1"
    ratio: float | None = None
    speedup: float | None = None
    macs: float | None = None
    match: str | None = None

    def __post_init__(self) -> None:
        if self.command not in COMMANDS:
            raise UsageError(f"run {self.name}: command {self.command!r}: {nearest(self.command, COMMANDS)}")
        if self.command == "prune":
            spec_of(self.arch)
            if self.method not in PRUNING:
                raise UsageError(f"run {self.name}: method {self.method!r}: {nearest(self.method, PRUNING)}")
            if self.exits is not None or self.width != 1:
                raise UsageError(f"run {self.name}: exits and width are not for prune; name the width in arch")
            if self.match is None:
                Budget(ratio=self.ratio, speedup=self.speedup, macs=self.macs)
            elif {self.ratio, self.speedup, self.macs} != {None}:
                raise UsageError(f"run {self.name}: match is a budget already, leave out the other")
        else:
            spec_of(self.arch, exits=self.exits or 1, width=self.width)
            if {self.ratio, self.speedup, self.macs, self.match} != {None}:
                raise UsageError(f"run {self.name}: budgets are for prune alone")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison to be made: runs on one data set, by one recipe, for the same seeds.

    Attributes:
        takes: how long it takes, in words, on what.
        reference: the entry that the others are compared with.
    """

    title: str
    about: str
    takes: str
    dataset: str
    recipe: str
    seeds: tuple[int, ...]
    reference: str
    runs: tuple[StudyRun, ...]

    def __post_init__(self) -> None:
        if not self.seeds or any(type(seed) is not int for seed in self.seeds):
            raise UsageError("seeds is a list of one or more whole numbers, as in seeds = [0, 1, 2]")
        names = [run.name for run in self.runs]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"run {name} is named twice")
        if self.reference not in names:
            raise UsageError(f"reference {self.reference!r}: {nearest(self.reference, names)}")
        for position, run in enumerate(self.runs):
            if run.match is not None and run.match not in names[:position]:
                raise UsageError(
                    f"run {run.name}: match {run.match!r} is no earlier run; {nearest(run.match, names[:position])}"
                )


def read_study(name: str) -> Study:
    """The study of that name, bundled or in a TOML file.

    Raises:
        UsageError: no such study, or keys that are missing, unknown or do not fit, with the nearest right one.
    """
    bundled = sorted(file.name.removesuffix(".toml") for file in BUNDLED.iterdir() if file.name.endswith(".toml"))
    try:
        text = (BUNDLED / f"{name}.toml").read_text("utf-8") if name in bundled else Path(name).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"study {name}: not a text file in UTF-8") from error
    except OSError as error:
        raise UsageError(f"study {name!r} is neither a bundled study nor a file; {nearest(name, bundled)}") from error
    try:
        data = tomllib.loads(text)
        entries = data.pop("run", [])
        runs = tuple(_fields(StudyRun, entry) for entry in entries)
        seeds = data.get("seeds", [0])
        return _fields(Study, data | {"runs": runs, "seeds": tuple(seeds) if isinstance(seeds, list) else ()})
    except (tomllib.TOMLDecodeError, TypeError, UsageError) as error:
        raise UsageError(f"study {name}: {error}") from error


def _fields(cls: type[T], data: Mapping[str, Any]) -> T:
    """The dataclass from a TOML table: no key unknown, every value of its field's type."""
    if not isinstance(data, Mapping):
        raise UsageError(f"{data!r} is not a table: write [[run]] above each run")
    known = get_type_hints(cls)
    for key, value in data.items():
        if key not in known:
            raise UsageError(f"unknown key {key!r}; {nearest(key, known)}")
        types: tuple[type, ...] = get_args(known[key]) or (known[key],)
        if get_origin(known[key]) is not tuple and type(value) not in (*types, int if float in types else None):
            raise UsageError(f"{key} = {value!r} is not {' or '.join(one.__name__ for one in types)}")
    return cls(**data)


def run_study(
    study: Study, dataset: Dataset, recipe: Recipe, *, device: str, precision: str, runs: Path, out: Path, resume: bool
) -> list[Run]:
    """All runs of the study, finished (what was finished before is not run again), measured and reported into `out`."""
    finished: dict[tuple[str, int], Run] = {}
    for seed in study.seeds:
        for entry in study.runs:
            number = len(finished) + 1
            console.print(f"[{number}/{len(study.seeds) * len(study.runs)}] {entry.name}, seed {seed}")
            options: dict[str, Any] = {
                "seed": seed,
                "recipe": recipe,
                "device": device,
                "precision": precision,
                "runs": runs,
                "resume": resume,
            }
            if entry.command == "prune":
                budget = _budget(entry, finished[entry.match, seed] if entry.match else None)
                run = prune(entry.arch, dataset, budget=budget, method=entry.method, **options)
            else:
                method = METHODS[entry.command]
                run = train(entry.arch, dataset, method=method, exits=entry.exits, width=entry.width, **options)
            finished[entry.name, seed] = run
    reference = finished[study.reference, study.seeds[0]]
    ordered = [reference, *(run for run in finished.values() if run is not reference)]
    if not _measured_together(ordered):
        bench(ordered, device=device, rounds=ROUNDS)
    write_report(ordered, out, title=study.title, about=study.about, reference=reference.id)
    return ordered


def _budget(entry: StudyRun, matched: Run | None) -> Budget:
    macs = matched.exits[-1]["macs"] if matched else entry.macs
    return Budget(ratio=entry.ratio, speedup=entry.speedup, macs=macs)


def _measured_together(runs: list[Run]) -> bool:
    """Whether one session of `bench` has measured them all."""
    frame = rows(runs)
    if "bench_session" not in frame:
        return False
    return bool(frame["bench_session"].notna().all()) and frame["bench_session"].nunique() == 1
