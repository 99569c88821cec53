"""Studies: a TOML file that names runs and how they are tuned, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin, get_type_hints

from benchmarks.study.entry import StudyRun
from benchmarks.study.tuning import Tuning
from compress.documents import fitted, parse_toml, read_file
from compress.errors import UsageError, checked, nearest

T = TypeVar("T", "Study", "StudyRun", "Tuning")
BUNDLED = files("benchmarks") / "study" / "bundled"


@dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison to be made: runs on one data set, by one recipe, for the same seeds.

    Attributes:
        takes: how long it takes, in words, on what.
        reference: the entry that the others are compared with.
        primary: the two entries whose difference the study is made for, if declared: all others are exploratory.
        tuning: what is tried for every arm; None: nothing, the recipe's rates stand.
    """

    title: str
    about: str
    takes: str
    dataset: str
    recipe: str
    seeds: tuple[int, ...]
    reference: str
    runs: tuple[StudyRun, ...]
    primary: tuple[str, ...] = ()
    tuning: Tuning | None = None

    def __post_init__(self) -> None:
        if not self.seeds or any(type(seed) is not int for seed in self.seeds):
            raise UsageError("seeds is a list of one or more whole numbers, as in seeds = [0, 1, 2]")
        if len(set(self.seeds)) < len(self.seeds):
            raise UsageError(f"seeds = {list(self.seeds)}: one of them is there twice")
        names = [run.name for run in self.runs]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"run {name} is named twice")
        if self.reference not in names:
            raise UsageError(f"reference {self.reference!r}: {nearest(self.reference, names)}")
        self._check_primary(names)
        for position, run in enumerate(self.runs):
            run.check_earlier(self.runs[:position], names)
            if self.tuning:
                self.tuning.check(run)

    def _check_primary(self, names: list[str]) -> None:
        if self.primary and (len(self.primary) != 2 or len(set(self.primary)) != 2):
            raise UsageError("primary names the two different runs of one contrast, as in primary = ['a', 'b']")
        for name in self.primary:
            if name not in names:
                raise UsageError(f"primary {name!r}: {nearest(name, names)}")
            if len(self.runs[names.index(name)].targets) > 1:
                raise UsageError(f"primary {name!r} has several budgets; name a run that has one")


@checked
def read_study(name: str) -> Study:
    """The study of that name, bundled or in a TOML file.

    Raises:
        UsageError: no such study, or keys that are missing, unknown or do not fit, with the nearest right one.
    """
    bundled = sorted(file.name.removesuffix(".toml") for file in BUNDLED.iterdir() if file.name.endswith(".toml"))
    try:
        content = (BUNDLED / f"{name}.toml").read_bytes() if name in bundled else read_file(Path(name))
    except FileNotFoundError as error:
        raise UsageError(f"study {name!r} is neither a bundled study nor a file; {nearest(name, bundled)}") from error
    except (UsageError, ValueError) as error:
        raise UsageError(f"study {name!r} cannot be read: {error}; bundled are {', '.join(bundled)}") from error
    try:
        data = parse_toml(content)
        entries = data.pop("run", [])
        if not entries or "runs" in data:
            raise UsageError("unknown key 'runs'; did you mean 'run'?" if "runs" in data else "it has no [[run]]")
        runs = tuple(_fields(StudyRun, entry) for entry in entries)
        tuning = {"tuning": _fields(Tuning, data.pop("tuning"))} if "tuning" in data else {}
        return _fields(Study, {"seeds": [0]} | data, runs=runs, **tuning)
    except (TypeError, UsageError) as error:
        raise UsageError(f"study {name}: {error}") from error


def _fields(cls: type[T], data: Mapping[str, Any], **parts: Any) -> T:
    """The dataclass from a TOML table: no key unknown, every value of its field's type; `from` is the field `from_`.

    `parts` are fields that are tables of their own, made before.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"{data!r} is not a table: write [[run]] above each run, [tuning] above what is tried")
    known = {name.rstrip("_"): (name, hint) for name, hint in get_type_hints(cls).items()}
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            raise UsageError(f"unknown key {key!r}; {nearest(key, known)}")
        name, hint = known[key]
        fitted(value, str if get_origin(hint) is Literal else hint, key)  # which literal, its dataclass says
        values[name] = tuple(value) if isinstance(value, list) else value
    return cls(**values | parts)
