"""Entries of a study: the networks to train and to prune that its file lists, checked before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from baselines import Budget, FineTuning, Technique
from benchmarks.results.arms import BUDGETS
from compress.documents import fitted
from compress.errors import UsageError, nearest
from compress.networks import Architecture, is_number, spec_of
from compress.recipes import FineTuneSchedule, Recipe, quick
from compress.training import Method, spec_to_train
from compress.training.methods import SINGLE_EXIT

TRAINING = {"train": "bp", "train-mwbp": "mwbp"}  # the method of each command, where an entry names none
COMMANDS = (*TRAINING, "prune")

# The keys of an entry with the types of their values; defaults are those of the classes that the entry holds.
ARCHITECTURE: dict[str, Any] = {
    **dict.fromkeys(("width", "image_size"), int),
    **dict.fromkeys(("blocks", "widths"), tuple[int, ...]),
    **dict.fromkeys(("form", "head"), str),
}
TECHNIQUE: dict[str, Any] = {
    **dict.fromkeys(("method", "scope", "ranking", "allocate", "shape"), str),
    **dict.fromkeys(("round_to", "steps"), int),
    **dict.fromkeys(("gradual", "nearest"), bool),
    "keep": str | tuple[str, ...],
}
MATCH_TRAINING = "match_training"
EXIT_TRAINING: dict[str, Any] = {
    **dict.fromkeys(("auxiliary_weight", "ensemble_teacher", "self_distillation"), float),
    "ensemble": int,
    "annealing": str,
}
RECIPE: dict[str, Any] = {  # what an entry changes in the study's recipe
    **dict.fromkeys(("label_smoothing", "warmup"), float),
    **dict.fromkeys(("averaging", "optimizer"), str),
    "zero_scale": bool,
}
TRAINED_KEYS: dict[str, Any] = {
    **dict.fromkeys(("arch", "method", "update", MATCH_TRAINING), str),
    **dict.fromkeys(("exits", "extra_decay"), int | str),
    "gamma": str | tuple[float, ...],
    **EXIT_TRAINING,
    **RECIPE,
    **ARCHITECTURE,
}
PRUNED_KEYS: dict[str, Any] = {
    **dict.fromkeys(("arch", "from", "schedule"), str),
    **TECHNIQUE,
    **dict.fromkeys(BUDGETS, float | tuple[float, ...]),
    "match": str | tuple[str, ...],
}
KEYS = {"name": str, "command": str, **TRAINED_KEYS, **PRUNED_KEYS}


@dataclass(frozen=True, kw_only=True)
class Source:
    """An earlier entry of the study, or the part of its network up to an exit (1-based); ``NAME:EXIT`` in the file."""

    name: str
    exit: int | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """The source that a file names.

        Raises:
            UsageError: what follows the colon is no number from 1 on.
        """
        name, colon, exit = text.partition(":")
        if colon and (not is_number(exit) or int(exit) < 1):
            raise UsageError(f"{text!r}: behind the colon stands the number of an exit, as in {name}:2")
        return cls(name=name, exit=int(exit) if colon else None)

    def __str__(self) -> str:
        return self.name if self.exit is None else f"{self.name}:{self.exit}"


@dataclass(frozen=True)
class Match:
    """A budget: the MACs of an earlier entry's network, or of its part up to an exit."""

    source: Source

    def __str__(self) -> str:
        return f"match {self.source}"


Target = Budget | Match


@dataclass(frozen=True, kw_only=True)
class Trained:
    """An entry that trains a network, once a seed.

    Attributes:
        changes: fields of the study's recipe that it changes, with their values.
        match_training: an earlier entry that trains: this one has as many epochs as cost its training MACs.
    """

    name: str
    architecture: Architecture
    method: Method
    exits: int | str | None = None
    changes: tuple[tuple[str, Any], ...] = ()
    match_training: str | None = None
    targets: ClassVar[tuple[None]] = (None,)  # one run a seed, without a budget

    @property
    def sources(self) -> tuple[tuple[str, Source], ...]:
        """The earlier entry that it names, with the key that names it."""
        return ((MATCH_TRAINING, Source.parse(self.match_training)),) if self.match_training else ()

    @property
    def exit_count(self) -> int:
        """The number of its network's exits."""
        return len(spec_to_train(self.architecture, self.method, self.exits).exits)

    def recipe(self, shared: Recipe) -> Recipe:
        """The study's recipe with what the entry changes in it."""
        return shared.changed(**dict(self.changes))


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """An entry that makes a trained network smaller, or trains a control of its size, once a seed and target.

    Attributes:
        source: what is pruned; None: the plain network of `arch`.
        targets: one or more budgets, in the order of the file.
    """

    name: str
    technique: Technique
    targets: tuple[Target, ...]
    arch: str | None = None
    source: Source | None = None
    fine_tuning: FineTuning

    @property
    def sources(self) -> tuple[tuple[str, Source], ...]:
        """The earlier entries that it names, each with the key that names it: ``from`` or ``match``."""
        matched = tuple(("match", target.source) for target in self.targets if isinstance(target, Match))
        return matched if self.source is None else (("from", self.source), *matched)


Entry = Trained | Pruned


def read_entry(table: object) -> Entry:
    """The entry that a ``[[run]]`` table of a study's file describes.

    Raises:
        UsageError: a key is missing, unknown, not for this command, or its value does not fit.
    """
    values = read_table(table, KEYS, required=("name", "command"))
    name, command = values.pop("name"), values.pop("command")
    try:
        if command not in COMMANDS:
            raise UsageError(f"command {command!r}: {nearest(command, COMMANDS)}")
        if "arch" not in values and "from" not in values:
            raise UsageError("arch is missing, as in arch = 'resnet56'")
        return _pruned(name, values) if command == "prune" else _trained(name, command, values)
    except UsageError as error:
        raise UsageError(f"run {name}: {error}") from error


def read_table(table: object, keys: Mapping[str, Any], *, required: Collection[str] = ()) -> dict[str, Any]:
    """The values of a TOML table, converted to the types that `keys` names.

    Raises:
        UsageError: it is no table, a key is unknown or missing, or a value is of another type.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{table!r} is not a table: write [[run]] above each run, [tuning] above what is tried")
    for key in table:
        if key not in keys:
            raise UsageError(f"unknown key {key!r}; {nearest(key, keys)}")
    for key in required:
        if key not in table:
            raise UsageError(f"{key} is missing")
    return {key: fitted(value, keys[key], key) for key, value in table.items()}


def _trained(name: str, command: str, values: dict[str, Any]) -> Trained:
    _refuse(values, PRUNED_KEYS.keys() - TRAINED_KEYS.keys(), "for prune alone")
    usual = "bp-extra-decay" if "extra_decay" in values else TRAINING[command]
    method = Method(
        name=values.get("method", usual),
        decay_exits=values.get("extra_decay"),
        **_picked(values, ("update", "gamma", *EXIT_TRAINING)),
    )
    right = "train" if method.name in SINGLE_EXIT else "train-mwbp"
    if command != right:
        raise UsageError(f"method {method.name} goes with command {right}")
    if command == "train":
        _refuse(values, ("exits", "head", "update", "gamma", *EXIT_TRAINING), "for train-mwbp alone")
    architecture = Architecture(values["arch"], **_picked(values, ARCHITECTURE))
    changes = tuple(_picked(values, RECIPE).items())
    picked = _picked(values, ("exits", MATCH_TRAINING))
    entry = Trained(name=name, architecture=architecture, method=method, changes=changes, **picked)
    entry.recipe(quick())  # refuses values that no recipe has
    method.objective(spec_to_train(architecture, method, entry.exits))  # refuses what does not go together
    return entry


def _pruned(name: str, values: dict[str, Any]) -> Pruned:
    _refuse(
        values,
        TRAINED_KEYS.keys() - PRUNED_KEYS.keys(),
        "not for prune: name what is pruned in arch, or an earlier run by from",
    )
    if "arch" in values:
        spec_of(values["arch"])
    schedule = values.get("schedule", "small-rate")
    if schedule not in get_args(FineTuneSchedule):
        raise UsageError(f"schedule {schedule!r}: {nearest(schedule, get_args(FineTuneSchedule))}")
    return Pruned(
        name=name,
        technique=Technique(**_picked(values, TECHNIQUE)),
        targets=_targets(values),
        arch=values.get("arch"),
        source=Source.parse(values["from"]) if "from" in values else None,
        fine_tuning=FineTuning(schedule=schedule),
    )


def _targets(values: dict[str, Any]) -> tuple[Target, ...]:
    given = [option for option in BUDGETS if option in values]
    if len(given) != 1:
        raise UsageError(f"give one of {', '.join(BUDGETS)}, not {' and '.join(given) or 'none'}")
    [option], value = given, values[given[0]]
    targets: list[Target] = []
    for amount in value if isinstance(value, tuple) else (value,):
        target = Match(Source.parse(amount)) if option == "match" else Budget(**{option: amount})
        if target in targets:
            raise UsageError(f"{target} is there twice")
        targets.append(target)
    if not targets:
        raise UsageError(f"{option} is an empty list")
    return tuple(targets)


def _picked(values: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}


def _refuse(values: Mapping[str, Any], keys: Collection[str], why: str) -> None:
    for key in values:
        if key in keys:
            raise UsageError(f"{key} is {why}")
