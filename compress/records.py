"""The record of a run, `run.json`: plain data, written back as it was read, unknown nested fields included.

The structs below define the type of every field. They are checked when a record is read.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from compress import networks
from compress.documents import LONGEST, fitted, parse_json
from compress.ensemble_exit import EnsembleExit
from compress.errors import UsageError
from compress.objective_numbers import ObjectiveNumbers
from compress.per_class import PerClass
from compress.recipes import Recipe
from compress.schema import UNSET, Meta, Struct, UnsetType

SCHEMA_VERSION = 2  # 1: objectives were names
Count = Annotated[int, Meta(ge=0)]
Number = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Shares = Annotated[tuple[Share, ...], Meta(min_length=1)]  # one per exit
Amount = Annotated[float, Meta(ge=0)]
Above = Annotated[float, Meta(gt=0)]
# A number, or the quartiles of a measurement.
Quantity = float | tuple[float, float, float]
OWN_ID = re.compile(r".*_s\d+_([0-9a-f]{8})")


class Normalised(Struct, frozen=True):
    """Mean and standard deviation of every channel, by which images are normalised."""

    mean: tuple[Share, ...]
    std: tuple[Above, ...]


class Request(Struct, frozen=True, kw_only=True):
    """The options of `compress prune`; empty if nothing was pruned."""

    method: str = ""
    scope: str = ""
    ranking: str = ""
    allocate: str | None = None
    schedule: str = ""
    shape: str = ""
    round_to: Number = 1
    steps: Number = 1
    gradual: bool = False
    nearest: bool = False
    ratio: float | None = None
    speedup: float | None = None
    macs: float | None = None
    params: float | None = None
    latency_ratio: float | None = None
    exit: Number | None = None
    step: Number | None = None


class Configuration(Struct, frozen=True, kw_only=True):
    """Everything that determines a result but the hardware; later fields have defaults, since ids are digests of it."""

    kind: Literal["train", "prune", "control"]
    method: str
    objective: ObjectiveNumbers
    spec: dict[str, Any]
    recipe: Recipe
    data: str
    normalisation: Normalised | None = None
    augmentable: bool = True
    seed: Count = 0
    precision: str
    parent: str | None = None
    reference: Configuration | None = None
    teacher: str | None = None
    teacher_reference: Configuration | None = None
    initial: str | None = None
    code: str | None = None
    compile: bool = False
    ensemble: Count = 0
    capture: bool = True
    request: Request

    def __post_init__(self) -> None:
        networks.Spec.from_json(self.spec, "spec.")


class Split(Struct, frozen=True, kw_only=True):
    """Number of images in every part, and the random seed of the split."""

    train: Number
    validation: Count
    calibration: Count
    test: Number
    seed: int


class Data(Struct, frozen=True, kw_only=True):
    """The data set."""

    name: str
    copy: str
    digest: str
    skipped: Count
    classes: tuple[str, ...]
    normalisation: Normalised
    split: Split


class Machine(Struct, frozen=True, kw_only=True):
    """The fields of `describe` that are read again."""

    cpu: str
    gpu: str | None
    device: str = ""


class Environment(Machine, frozen=True, kw_only=True):
    """Hardware, software and processes that trained a network."""

    device: str = field()  # no default, unlike a machine's
    cores: Number | None
    threads: Number
    precision: str
    platform: str
    python: str
    versions: dict[str, str]
    commit: str | None
    world_size: Number
    compiled: bool
    captured: bool = False


class Cost(Struct, frozen=True, kw_only=True):
    """What it took to make a network.

    Attributes:
        total_epochs: epochs, including those of the parent and the teacher.
        choosing_macs, choosing_seconds: spent on choosing what to prune; None if it was not timed. Seconds of choices
            during training are part of `seconds`, too.
        total_training_macs: MACs of training and choosing, including those of the parent and the teacher; None where
            one of them started from given weights, as nobody knows what these took.
    """

    epochs: Count
    total_epochs: Count
    seconds: Amount
    training_macs: Count
    choosing_macs: Count
    choosing_seconds: Amount | None
    total_training_macs: Count | None


class Exit(Struct, frozen=True, kw_only=True):
    """A row of `results.exits`."""

    exit: Number
    block: Number
    depth: Number
    macs: Number
    params: Number
    activations: Number
    val_accuracy: Share | None
    test_accuracy: Share
    test_loss: Amount


class Size(Struct, frozen=True, kw_only=True):
    """The size that pruning was asked for, or the size that it achieved; unset where it is not known."""

    ratio: Share | UnsetType = UNSET
    speedup: Annotated[float, Meta(gt=0, le=1e9)] | UnsetType = UNSET
    macs: Above | UnsetType = UNSET
    params: Above | UnsetType = UNSET
    latency_ratio: Quantity | UnsetType = UNSET


class Choosing(Struct, frozen=True, kw_only=True):
    """What it took to choose what to prune, summed over the steps of a pruning in steps."""

    macs: Count
    seconds: Amount


class Results(Struct, frozen=True, kw_only=True):
    """The results of a finished run; a row per exit, and what pruning did."""

    exits: Annotated[tuple[Exit, ...], Meta(min_length=1)]
    weights: str
    ensemble: EnsembleExit | UnsetType = UNSET
    per_class: PerClass | UnsetType = UNSET
    requested: Size = Size()
    achieved: Size = Size()
    choosing: Choosing | UnsetType = UNSET
    val_accuracy_before: Shares | UnsetType | None = UNSET  # None without validation images
    val_accuracy_pruned: Shares | UnsetType | None = UNSET


@dataclass(kw_only=True)
class Record:
    """The content of `run.json` as plain data; `check` compares it with the structs above.

    Attributes:
        status: running, finished or failed (then `failure` gives the reason).
        spec: the network in `model.safetensors`.
        config: everything that determines the result but the hardware, see `Configuration`.
        data, environment: see `Data` and `Environment`.
        parent: for a pruned network or one with a frozen trunk, the id of the run it started from.
        cost, results: see `Cost` and `Results`; complete if the run is finished.
    """

    status: Literal["running", "finished", "failed"]
    kind: str
    method: str
    arch: str
    spec: dict[str, Any]
    config: dict[str, Any]
    data: dict[str, Any]
    seed: Count
    parent: str | None = None
    environment: dict[str, Any]
    command: str
    cost: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    schema_version: int = SCHEMA_VERSION

    def check(self) -> None:
        """Raise UsageError if a field has another type than the structs say, or contradicts another."""
        config, data = fitted(self.config, Configuration, "config"), fitted(self.data, Data, "data")
        fitted(self.environment, Environment, "environment")
        spec = networks.Spec.from_json(self.spec, "spec.")
        self._check_agreement(spec, config, data)
        if (self.status == "failed") != (self.failure is not None):
            raise UsageError(f"failure: {self.failure!r}, of a run that is {self.status}")
        if self.status == "finished":
            fitted(self.cost, Cost, "cost")
            self._check_results(spec, fitted(self.results, Results, "results"), data.split.validation)

    def _check_agreement(self, spec: networks.Spec, config: Configuration, data: Data) -> None:
        """Raise UsageError if two fields that must agree do not."""
        channels = spec.input_shape[0]
        before = networks.Spec.from_json(config.spec)
        for name, value, other in (
            ("config.kind", config.kind, self.kind),
            ("config.method", config.method, self.method),
            ("config.seed", config.seed, self.seed),
            ("config.data", config.data, data.digest),
            ("config.parent", config.parent, self.parent),
            ("arch", self.arch, before.arch),
            ("spec", spec if self.kind == "train" else before, before),
            ("number of data.classes", len(data.classes), spec.classes),
            ("number of data.normalisation.mean", len(data.normalisation.mean), channels),
            ("number of data.normalisation.std", len(data.normalisation.std), channels),
        ):
            if value != other:
                raise UsageError(f"{name}: {value!r}, and elsewhere in the record {other!r}"[:LONGEST])

    def _check_results(self, spec: networks.Spec, results: Results, images: int) -> None:
        exits = [(row.exit, row.block) for row in results.exits]
        wanted = [(number, exit.block) for number, exit in enumerate(spec.exits, start=1)]
        if exits != wanted:
            raise UsageError(f"results.exits: numbers and blocks {exits}, but the spec has {wanted}")
        if results.per_class is not UNSET:
            results.per_class.check(len(spec.exits), spec.classes)
        if results.ensemble is not UNSET:
            results.ensemble.check(len(spec.exits), spec.classes)
        validated: dict[str, Any] = {
            f"exits[{number}].val_accuracy": row.val_accuracy for number, row in enumerate(results.exits)
        }
        validated |= {name: getattr(results, name) for name in ("val_accuracy_before", "val_accuracy_pruned")}
        for name, value in validated.items():
            if value is not UNSET and (value is None) != (images == 0):
                raise UsageError(f"results.{name}: {value}, on {images} validation images")
        if self.kind == "prune" and results.requested == Size():
            raise UsageError("results.requested: nothing, of a pruned run")
        if self.kind == "prune" and results.achieved.speedup is UNSET:
            raise UsageError("results.achieved: object missing required field `speedup`")


class Version(Struct, frozen=True):
    """The schema version of a record, which is read first."""

    schema_version: int


def parse_record(content: bytes, directory: str) -> Record:
    """Parse and check the content of a `run.json` in a directory of that name.

    Raises:
        UsageError: the record is corrupt; the message names the field.
        SchemaError: the record has another schema version.
    """
    document = parse_json(content)
    version = fitted(document, Version).schema_version
    if version != SCHEMA_VERSION:
        raise SchemaError(version)
    record = fitted(document, Record)
    record.check()
    own = OWN_ID.fullmatch(directory)
    if own and own[1] != digest_of(record.config):
        raise UsageError(f"config: its digest is {digest_of(record.config)}, and the run's name ends in {own[1]}")
    return record


class SchemaError(UsageError):
    """The record has a schema version that this version cannot read."""

    def __init__(self, version: int) -> None:
        mend = "upgrade" if version > SCHEMA_VERSION else "run it again"
        super().__init__(f"its record has schema {version}, this version reads {SCHEMA_VERSION}: {mend}")


def digest_of(config: dict[str, Any]) -> str:
    """The first 8 hexadecimal digits of the SHA-256 of a configuration."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def without_seed(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that is equal for runs that differ in their seeds alone."""
    return {key: value for key, value in config.items() if key not in ("seed", "parent", "teacher")}
