"""The record of a run, `run.json`: what was done, with what, and what came out; checked whole where it is read.

`Record` holds plain data, fields that this version does not know included, so that a record is written again as it was
read. The structs behind it say what every field must be: who reads a record can rely on it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from compress import networks
from compress.documents import LONGEST, fitted, parse_json
from compress.errors import UsageError
from compress.recipes import Recipe

SCHEMA_VERSION = 2  # 1: objectives were names
Count = Annotated[int, Meta(ge=0)]
Number = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Shares = Annotated[tuple[Share, ...], Meta(min_length=1)]  # one an exit
Amount = Annotated[float, Meta(ge=0)]
Above = Annotated[float, Meta(gt=0)]
# Quartiles, where it was measured. Bounds on either would crash msgspec 0.22, which confuses them with the length.
Quantity = float | tuple[float, float, float]
OWN_ID = re.compile(r".*_s\d+_([0-9a-f]{8})")


@dataclass(kw_only=True)
class Record:
    """`run.json`; plain data throughout.

    Attributes:
        status: running, finished or failed (then `failure` says why).
        kind: train, prune or control; method: as on the command line.
        spec: of the network in `model.safetensors`.
        config: all that decides the result; its digest is the end of the run's id.
        parent: for a pruned run, the id of the run it started from.
        cost: epochs, wall seconds, training MACs, and seconds and MACs of choosing what to prune, 0 where nothing was
            (chosen while training, the seconds are among the former); `total_epochs` and `total_training_macs` (which
            has what choosing took) include the parent's and the teacher's.
        results: of every exit, and of pruning: see the README's "The run directory".
    """

    status: str
    kind: str
    method: str
    arch: str
    spec: dict[str, Any]
    config: dict[str, Any]
    data: dict[str, Any]
    seed: int
    parent: str | None = None
    environment: dict[str, Any]
    command: str
    cost: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    schema_version: int = SCHEMA_VERSION


class Normalised(Struct, frozen=True):
    """What images are normalised by, a channel each."""

    mean: tuple[Share, ...]
    std: tuple[Above, ...]


class Objective(Struct, frozen=True, kw_only=True):
    """The fields of `compress.training.Objective`."""

    gammas: tuple[float, ...]
    lambdas: tuple[float, ...]
    segments: tuple[Number, ...]
    decay_factors: tuple[float, ...]
    gradient_factors: tuple[float, ...]
    update: str
    loss_ratio_rate: bool
    frozen_trunk: bool
    self_distillation: Share
    teacher: Share
    temperature: float


class Request(Struct, frozen=True, kw_only=True):
    """What `compress prune` was asked for; empty where nothing was pruned."""

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
    """All that decides a result; a reference's is without its seed."""

    kind: Literal["train", "prune", "control"]
    method: str
    objective: Objective
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
    request: Request

    def __post_init__(self) -> None:
        networks.Spec.from_json(self.spec, "spec.")


class Split(Struct, frozen=True, kw_only=True):
    """Numbers of images, and what they were drawn by."""

    train: Number
    validation: Count
    calibration: Count
    test: Number
    seed: int


class Data(Struct, frozen=True, kw_only=True):
    """The images."""

    name: str
    copy: str
    digest: str
    skipped: Count
    classes: tuple[str, ...]
    normalisation: Normalised
    split: Split


class Machine(Struct, frozen=True, kw_only=True):
    """Where something was measured: of `compress.hardware.describe` what is read again."""

    cpu: str
    gpu: str | None
    device: str = ""


class Environment(Machine, frozen=True, kw_only=True):
    """Where, with what and how a network was trained."""

    device: str
    cores: Number | None
    threads: Number
    precision: str
    platform: str
    python: str
    versions: dict[str, str]
    commit: str | None
    world_size: Number
    compiled: bool | UnsetType = UNSET


class Cost(Struct, frozen=True, kw_only=True):
    """What making a network took."""

    epochs: Number
    seconds: Amount
    training_macs: Number
    total_training_macs: Number
    total_epochs: Count | UnsetType = UNSET
    choosing_macs: Count | UnsetType = UNSET
    choosing_seconds: Amount | UnsetType = UNSET


class Exit(Struct, frozen=True, kw_only=True):
    """One row of `results.exits`."""

    exit: Number
    block: Number
    depth: Number
    macs: Number
    params: Number
    activations: Number | UnsetType = UNSET
    val_accuracy: Share | None
    test_accuracy: Share
    test_loss: Amount


class Size(Struct, frozen=True, kw_only=True):
    """What was asked of pruning, or what came out; whatever of these was asked or is known."""

    ratio: Share | UnsetType = UNSET
    speedup: Annotated[float, Meta(gt=0, le=1e9)] | UnsetType = UNSET
    macs: Above | UnsetType = UNSET
    params: Above | UnsetType = UNSET
    latency_ratio: Quantity | UnsetType = UNSET


class Choosing(Struct, frozen=True, kw_only=True):
    """What choosing took, of earlier versions' records."""

    macs: Count
    seconds: Amount


class Results(Struct, frozen=True, kw_only=True):
    """What came out."""

    exits: Annotated[tuple[Exit, ...], Meta(min_length=1)]
    weights: str
    requested: Size = Size()
    achieved: Size = Size()
    choosing: Choosing | UnsetType = UNSET
    val_accuracy_before: Shares | UnsetType | None = UNSET  # None without validation images
    val_accuracy_pruned: Shares | UnsetType | None = UNSET


class Fields(Struct, frozen=True, kw_only=True):
    """What `run.json` must be; `cost` and `results` are checked where a run is finished."""

    status: Literal["running", "finished", "failed"]
    kind: Literal["train", "prune", "control"]
    method: str
    arch: str
    spec: dict[str, Any]
    config: Configuration
    data: Data
    seed: Count
    parent: str | None = None
    environment: Environment
    command: str
    cost: dict[str, Any] = {}
    results: dict[str, Any] = {}
    failure: str | None = None

    def __post_init__(self) -> None:
        spec = networks.Spec.from_json(self.spec, "spec.")
        self._check_agreement(spec)
        if (self.status == "failed") != (self.failure is not None):
            raise UsageError(f"failure: {self.failure!r}, of a run that is {self.status}")
        if self.status == "finished":
            fitted(self.cost, Cost, "cost")
            self._check_results(spec, fitted(self.results, Results, "results"))

    def _check_agreement(self, spec: networks.Spec) -> None:
        """Refuse what stands there twice and is not the same."""
        config, data, channels = self.config, self.data, spec.input_shape[0]
        before = networks.Spec.from_json(config.spec)
        for name, one, other in (
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
            if one != other:
                raise UsageError(f"{name}: {one!r}, and elsewhere in the record {other!r}"[:LONGEST])

    def _check_results(self, spec: networks.Spec, results: Results) -> None:
        exits = [(row.exit, row.block) for row in results.exits]
        wanted = [(number, exit.block) for number, exit in enumerate(spec.exits, start=1)]
        if exits != wanted:
            raise UsageError(f"results.exits: numbers and blocks {exits}, but the spec has {wanted}")
        validated: dict[str, Any] = {
            f"exits[{number}].val_accuracy": row.val_accuracy for number, row in enumerate(results.exits)
        }
        validated |= {name: getattr(results, name) for name in ("val_accuracy_before", "val_accuracy_pruned")}
        images = self.data.split.validation
        for name, value in validated.items():
            if value is not UNSET and (value is None) != (images == 0):
                raise UsageError(f"results.{name}: {value}, on {images} validation images")
        if self.kind == "prune" and results.requested == Size():
            raise UsageError("results.requested: nothing, of a pruned run")
        if self.kind == "prune" and results.achieved.speedup is UNSET:
            raise UsageError("results.achieved: object missing required field `speedup`")


class Version(Struct, frozen=True):
    """Which schema a record has, which is read before all else."""

    schema_version: int


def parse_record(content: bytes, directory: str) -> Record:
    """The record that a `run.json` holds, in a directory of that name.

    Raises:
        UsageError: it is corrupt: the field is named.
        SchemaError: another version wrote it in a form of its own.
    """
    document = parse_json(content)
    version = fitted(document, Version).schema_version
    if version != SCHEMA_VERSION:
        raise SchemaError(version)
    fitted(document, Fields)
    known = {field.name for field in dataclasses.fields(Record)}
    record = Record(**{name: value for name, value in document.items() if name in known})
    own = OWN_ID.fullmatch(directory)
    if own and own[1] != digest_of(record.config):
        raise UsageError(f"config: its digest is {digest_of(record.config)}, and the run's name ends in {own[1]}")
    return record


class SchemaError(UsageError):
    """The record has schema `version`, which this version does not read."""

    def __init__(self, version: int) -> None:
        mend = "upgrade" if version > SCHEMA_VERSION else "run it again"
        super().__init__(f"its record has schema {version}, this version reads {SCHEMA_VERSION}: {mend}")


def digest_of(config: dict[str, Any]) -> str:
    """Eight characters that are another configuration's with a chance of one in four thousand million."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def without_seed(config: dict[str, Any]) -> dict[str, Any]:
    """What runs share that differ by their seed, and their parents' and teachers' seed, alone."""
    return {key: value for key, value in config.items() if key not in ("seed", "parent", "teacher")}
