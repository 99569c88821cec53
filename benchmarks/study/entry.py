"""Entries of a study: what a table of its TOML file asks for, checked before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

from baselines import Budget, Technique
from benchmarks.results.arms import BUDGETS
from compress.errors import UsageError, nearest
from compress.networks import Architecture, is_number, spec_of
from compress.recipes import FineTuneSchedule
from compress.training import Method, spec_to_train
from compress.training.methods import SINGLE_EXIT

TRAINING = {"train": "bp", "train-mwbp": "mwbp"}  # commands, and the method that each trains by unless told otherwise
COMMANDS = (*TRAINING, "prune")
ARCHITECTURE = ("width", "blocks", "widths", "form", "head", "image_size")
FOR_TRAINING = ("exits", *ARCHITECTURE, "update", "gamma", "extra_decay")
TECHNIQUE = tuple(field.name for field in dataclasses.fields(Technique))
FOR_PRUNE = (*BUDGETS, *(name for name in TECHNIQUE if name != "method"), "schedule", "from_")
Numbers = float | tuple[float, ...] | None


class Target(NamedTuple):
    """A budget as the study writes it: the option and its value, a number or for `match` the name of an entry."""

    option: str
    value: float | str

    def __str__(self) -> str:
        """As in ``speedup 2.5``."""
        value = self.value if isinstance(self.value, str) else f"{self.value:,.12g}"
        return f"{self.option.replace('_', '-')} {value}"


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One entry of a study, run once a seed and budget; the fields are the command's options.

    Attributes:
        method: of pruning, default l1, or of training, default what the command says.
        blocks, widths: one a stage.
        from_: `from` in the file: an earlier entry, or its exit as NAME:EXIT, that is pruned; default: the plain
            network of `arch`.
        ratio, speedup, macs, params, latency_ratio, match: the budget, or a list of several, a run each, that are one
            curve. `match` names an earlier entry, or its exit as NAME:EXIT, whose MACs are the budget.
    """

    name: str
    command: str
    arch: str | None = None
    exits: int | str | None = None
    width: int = 1
    blocks: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    form: str = ""
    head: str | None = None
    image_size: int | None = None
    update: str | None = None
    gamma: str | tuple[float, ...] = "depth-squared"
    extra_decay: int | str | None = None
    from_: str | None = None
    method: str | None = None
    scope: str = "all"
    ranking: str = "global"
    allocate: str | None = None
    round_to: int = 1
    steps: int = 1
    gradual: bool = False
    shape: str = "l1"
    keep: str | tuple[str, ...] = ()
    nearest: bool = False
    schedule: FineTuneSchedule = "small-rate"
    ratio: Numbers = None
    speedup: Numbers = None
    macs: Numbers = None
    params: Numbers = None
    latency_ratio: Numbers = None
    match: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        try:
            if self.command not in COMMANDS:
                raise UsageError(f"command {self.command!r}: {nearest(self.command, COMMANDS)}")
            if self.arch is None and self.from_ is None:
                raise UsageError("arch is missing, as in arch = 'resnet56'")
            if self.command == "prune":
                self._check_pruning()
            else:
                self._check_training()
        except UsageError as error:
            raise UsageError(f"run {self.name}: {error}") from error

    @property
    def technique(self) -> Technique:
        """How it is pruned."""
        return Technique(**{name: getattr(self, name) for name in TECHNIQUE} | {"method": self.method or "l1"})

    @property
    def training(self) -> Method:
        """How it is trained."""
        usual = TRAINING[self.command] if self.extra_decay is None else "bp-extra-decay"
        options: dict[str, Any] = {"update": self.update, "gamma": self.gamma, "decay_exits": self.extra_decay}
        return Method(name=self.method or usual, **options)

    @property
    def architecture(self) -> Architecture:
        """The architecture, as `train` takes it."""
        return Architecture(str(self.arch), **{name: getattr(self, name) for name in ARCHITECTURE})

    @property
    def targets(self) -> tuple[Target | None, ...]:
        """A budget a run, in the file's order; the one None of an entry that is trained."""
        given = [(option, getattr(self, option)) for option in BUDGETS if getattr(self, option) is not None]
        targets = [
            Target(option, value) for option, values in given for value in (values if _many(values) else (values,))
        ]
        return tuple(targets) or (None,)

    def check_earlier(self, earlier: Sequence[StudyRun], names: Sequence[str]) -> None:
        """Refuse a `from` or `match` that is no earlier entry, or has several budgets; `names` are all entries'."""
        matched = [str(target.value) for target in self.targets if target and target.option == "match"]
        named = [("from", self.from_)] if self.from_ is not None else []
        for option, reference in [*named, *(("match", name) for name in matched)]:
            name, _ = entry_and_exit(reference)
            known = [run.name for run in earlier]
            if name not in known and name in names:
                raise UsageError(
                    f"run {self.name}: {option} {reference!r} is no earlier run: put it above; what waits for each "
                    "other in a circle can never run"
                )
            if name not in known:
                raise UsageError(f"run {self.name}: {option} {reference!r} is no earlier run; {nearest(name, known)}")
            if len(earlier[known.index(name)].targets) > 1:
                raise UsageError(
                    f"run {self.name}: {option} {reference!r} has several budgets; name a run that has one"
                )

    def _check_training(self) -> None:
        self._refuse(FOR_PRUNE, "for prune alone")
        method = self.training
        if (method.name in SINGLE_EXIT) != (self.command == "train"):
            right = "train" if method.name in SINGLE_EXIT else "train-mwbp"
            raise UsageError(f"method {method.name} goes with command {right}")
        if self.command == "train":
            self._refuse(("exits", "head", "update", "gamma"), "for train-mwbp alone")
        method.objective(spec_to_train(self.architecture, method, self.exits))

    def _refuse(self, options: Sequence[str], why: str) -> None:
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in options:
            if getattr(self, name) != defaults[name]:
                raise UsageError(f"{name.rstrip('_')} is {why}")

    def _check_pruning(self) -> None:
        self._refuse(FOR_TRAINING, "not for prune: name what is pruned in arch, or an earlier run by from")
        if self.arch is not None:
            spec_of(self.arch)
        if self.schedule not in get_args(FineTuneSchedule):
            raise UsageError(f"schedule {self.schedule!r}: {nearest(self.schedule, get_args(FineTuneSchedule))}")
        _ = self.technique  # whose options are checked where they are known
        given = [option for option in BUDGETS if getattr(self, option) is not None]
        if len(given) != 1:
            raise UsageError(f"give one of {', '.join(BUDGETS)}, not {' and '.join(given) or 'none'}")
        for target in self.targets:
            if target is None:
                raise UsageError(f"{given[0]} is an empty list")
            if self.targets.count(target) > 1:
                raise UsageError(f"{target} is there twice")
            if isinstance(target.value, str):
                entry_and_exit(target.value)
            else:
                Budget(**{target.option: target.value})


def entry_and_exit(reference: str) -> tuple[str, int | None]:
    """The entry's name and the number of an exit, as in ``multi:2``; None where the last is meant.

    Raises:
        UsageError: what follows the colon is no number from 1 on.
    """
    name, colon, exit = reference.partition(":")
    if not colon:
        return name, None
    if not is_number(exit) or int(exit) < 1:
        raise UsageError(f"{reference!r}: behind the colon stands the number of an exit, as in {name}:2")
    return name, int(exit)


def _many(value: object) -> bool:
    return isinstance(value, tuple)
