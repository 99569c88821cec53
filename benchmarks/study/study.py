"""Studies: a TOML file that lists runs, and how they are tuned, read strictly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from benchmarks.results.claims import Claim, with_exit
from benchmarks.study.entry import MATCH_TRAINING, Entry, Trained, read_entry, read_table
from benchmarks.study.factorial import Factorial, read_factorial
from benchmarks.study.handover import Handover
from benchmarks.study.study_file import study_text
from benchmarks.study.tuning_grid import Tuning
from compress.documents import fitted, parse_toml
from compress.ensemble_exit import ENSEMBLE, ExitName, whole_and_exit
from compress.errors import UsageError, checked, nearest
from compress.recipes import ClassWeights

REQUIRED = ("title", "about", "takes", "dataset", "recipe", "reference")
CLAIM: dict[str, Any] = {
    **dict.fromkeys(("of", "against"), str | tuple[str, ...]),
    **dict.fromkeys(("claim", "if_equivalent"), str),
    **{"joined": bool, "margin": float},
}


@dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison to be made: runs on one data set, by one recipe, for the same seeds.

    Attributes:
        takes: how long it takes, in words, on which hardware.
        reference: name of the entry that the others are compared with.
        runs: the entries.
        claims: contrasts of entries that the study is made for, in the order in which they are tested; every other
            comparison is exploratory.
        epochs, validation, calibration: passes over the training images, and the shares of them that are held out,
            instead of the recipe's.
        class_weights: of images in the cross-entropy, for every run: none, or balanced.
        precision: number format, so that results are alike on hardware that has bf16 and on others.
        int8: the engine that measures every exit in int8, too, at the end; None: none.
        tuning: what is tried for every arm; None: the recipe's learning rate and weight decay are taken as they are.
        handover: what is selected among the runs and exported at the end; None: nothing.
        factorial: the factors that the study screens, whose runs are among its own; None: none.
    """

    title: str
    about: str
    takes: str
    dataset: str
    recipe: str
    reference: str
    runs: tuple[Entry, ...]
    seeds: tuple[int, ...] = (0,)
    claims: tuple[Claim, ...] = ()
    epochs: int | None = None
    validation: float | None = None
    calibration: float | None = None
    class_weights: ClassWeights = "none"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    int8: Literal["onnxruntime", "openvino"] | None = None
    tuning: Tuning | None = None
    handover: Handover | None = None
    factorial: Factorial | None = None

    def __post_init__(self) -> None:
        if not self.seeds:
            raise UsageError("seeds is a list of one or more whole numbers, as in seeds = [0, 1, 2]")
        if len(set(self.seeds)) < len(self.seeds):
            raise UsageError(f"seeds = {list(self.seeds)}: one of them is there twice")
        names = [entry.name for entry in self.runs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"run {twice[0]} is named twice")
        if self.reference not in names:
            raise UsageError(f"reference {self.reference!r}: {nearest(self.reference, names)}")
        if self.claims and self.claims[0].joined:
            raise UsageError("primary: the first is joined, and there is none before it")
        for position, entry in enumerate(self.runs):
            self._check_sources(entry, names[:position], names)
            if self.tuning:
                self.tuning.check(entry)
        for claim in self.claims:
            self._check_claim(claim, names)

    def entry(self, name: str) -> Entry:
        """The entry of that name."""
        return next(entry for entry in self.runs if entry.name == name)

    def _check_claim(self, claim: Claim, names: list[str]) -> None:
        for name in claim.names:
            network, exit = whole_and_exit(name)
            if network not in names:
                raise UsageError(f"primary {name!r}: {nearest(network, names)}")
            if len(self.entry(network).targets) > 1:
                raise UsageError(f"primary {name!r} has several budgets; name a run that has one")
            made = self._exits(self.entry(network))
            if exit is not None and exit not in made:
                listed = ", ".join(map(str, made))
                raise UsageError(f"primary {name!r}: behind the colon stands what {network} predicts: {listed}")
        claim.renamed(self._once)  # refuses one exit under two names

    def _once(self, name: str) -> str:
        """The name of a claim's exit, which for a last exit is that of its network."""
        network, exit = whole_and_exit(name)
        exits = [made for made in self._exits(self.entry(network)) if made != ENSEMBLE]
        return with_exit(network, None if exit == exits[-1] else exit)

    def _exits(self, entry: Entry) -> Sequence[ExitName]:
        """What the entry's network predicts: its exits, shallow to deep, then its ensemble if it has one."""
        if isinstance(entry, Trained):
            exits: list[ExitName] = [*range(1, entry.exit_count + 1)]
            return [*exits, ENSEMBLE] if entry.method.ensemble else exits
        if entry.source is None:
            return [1]
        return [exit for exit in self._exits(self.entry(entry.source.name)) if exit != ENSEMBLE][: entry.source.exit]

    def _check_sources(self, entry: Entry, earlier: list[str], names: list[str]) -> None:
        """Refuse a `from` or `match` that names no earlier entry, or one with several budgets."""
        for key, source in entry.sources:
            named = f"run {entry.name}: {key} '{source}'"
            if source.name not in earlier:
                late = source.name in names
                mend = "put it above, unless it waits for this one" if late else nearest(source.name, earlier)
                raise UsageError(f"{named} is no earlier run; {mend}")
            origin = self.entry(source.name)
            if len(origin.targets) > 1:
                raise UsageError(f"{named} has several budgets; name a run that has one")
            exits = len([exit for exit in self._exits(origin) if exit != ENSEMBLE])
            if source.exit and source.exit > exits:
                raise UsageError(f"{named}: {source.name} has {exits} exit(s)")
            if key == MATCH_TRAINING and (source.exit or not isinstance(origin, Trained) or origin.match_training):
                raise UsageError(f"{named}: name a run that is trained for the recipe's epochs, without an exit")


HINTS = get_type_hints(Study)
KEYS = {name: hint for name, hint in HINTS.items() if name not in ("runs", "claims")} | {"primary": list}


@checked
def read_study(name: str) -> Study:
    """The study of that name, bundled or in a TOML file; `runs_of` names another one whose entries it has.

    Raises:
        UsageError: no such study, or keys that are missing, unknown or do not fit, with the nearest right one.
    """
    content = study_text(name)
    try:
        table = parse_toml(content)
        if "runs" in table:
            raise UsageError("unknown key 'runs'; did you mean 'run'?")
        listed = table
        if "runs_of" in table:
            for key, header in (("run", "[[run]]"), ("factorial", "[factorial]")):
                if key in table:
                    raise UsageError(f"runs_of: the runs of another study, so leave out {header}")
            listed = parse_toml(study_text(fitted(table.pop("runs_of"), str, "runs_of")))
        factorial = read_factorial(listed.pop("factorial")) if "factorial" in listed else None
        entries = fitted(listed.pop("run", []), list, "run") + (factorial.tables if factorial else [])
        if not entries:
            raise UsageError("it has no [[run]]")
        runs, tuning = tuple(read_entry(entry) for table in entries for entry in _by_method(table)), None
        handover = None
        if "tuning" in table:
            tuning = Tuning(**read_table(table.pop("tuning"), get_type_hints(Tuning)))
        if "handover" in table:
            handover = Handover(**read_table(table.pop("handover"), get_type_hints(Handover), required=("max_macs",)))
        settings = read_table(table, KEYS, required=REQUIRED)
        claims = _claims(settings.pop("primary", []))
        return Study(**settings, runs=runs, claims=claims, tuning=tuning, handover=handover, factorial=factorial)
    except UsageError as error:
        raise UsageError(f"study {name}: {error}") from error


def _claims(primary: list[Any]) -> tuple[Claim, ...]:
    """The claims of ``[[primary]]`` tables, or the one of a list of two names."""
    if primary and all(isinstance(name, str) for name in primary):
        if len(primary) != 2 or len(set(primary)) != 2:
            raise UsageError("primary names the two different runs of one contrast, as in primary = ['a', 'b']")
        return (Claim(claim=" against ".join(primary), of=(primary[0],), against=(primary[1],)),)
    tables = [read_table(table, CLAIM, required=("claim", "of", "against")) for table in primary]
    several = [{key: (table[key],) for key in ("of", "against") if isinstance(table[key], str)} for table in tables]
    return tuple(Claim(**table | names) for table, names in zip(tables, several, strict=True))


def _by_method(table: Any) -> list[Any]:
    """A table for every method that a ``[[run]]`` lists, which takes the place of ``{method}`` in the name."""
    methods = table.get("method") if isinstance(table, dict) else None
    if not methods or not isinstance(methods, list):
        return [table]
    names = [str(table.get("name")).replace("{method}", str(method)) for method in methods]
    return [table | {"name": name, "method": method} for name, method in zip(names, methods, strict=True)]
