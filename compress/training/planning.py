"""From what a user asks for to a plan, and from the plan to a finished run: `train`."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.console import console
from compress.data import Dataset, open_dataset
from compress.errors import UsageError, checked
from compress.hardware import Precision, resolve_device
from compress.networks import (
    Architecture,
    Network,
    Spec,
    code_digest,
    default_heads,
    display_name,
    exits_in_name,
    initialised,
    load_pretrained,
    load_weights,
    place_exits,
    spec_of,
)
from compress.recipes import OF_REFERENCE, Recipe, is_named, options_of, recipe_named
from compress.runs import RECORD, Run, find_run, finished_runs, load
from compress.training.distributed import current_world
from compress.training.execution import Prepared, execute
from compress.training.methods import CONTROLS, SINGLE_EXIT, Method
from compress.training.objectives import precision_of
from compress.training.plan import Plan, batch_for_few, check_seed, published_normalisation

DEFAULT_EXITS = 5
Exits = int | str | Sequence[int | str]
FROZEN = "frozen-trunk"
DEFAULT_TEACHER_SHARE = 0.5


@checked
@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how a run is computed, and where it is kept.

    Attributes:
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ...
        precision: ``auto`` (bf16 where the hardware has it), ``fp32`` or ``bf16``.
        runs: directory of the run directories.
        resume: go on even where an earlier attempt failed.
        compile: run the blocks compiled: faster after a minute, other last bits, so another run.
    """

    device: str = "auto"
    precision: str = "auto"
    runs: Path = Path("runs")
    resume: bool = False
    compile: bool = False


@checked
@dataclass(frozen=True, kw_only=True)
class Start:
    """What a training starts from, and learns from besides the labels.

    Attributes:
        weights: a file of initial weights, see `load_weights`.
        pretrained: start from the weights that torchvision or timm publishes for the net.
        teacher: a run whose last exit's logits are distilled; the method says how strongly (None there: half).
        trunk: frozen-trunk: the run by plain BP whose trunk gets exits. None: the newest one of the same architecture,
            data, recipe and seed; where there is none, one is trained first.
    """

    weights: str | Path | None = None
    pretrained: bool = False
    teacher: str | Path | None = None
    trunk: str | Path | None = None


START, PLACE = Start(), Place()


@checked
def train(
    arch: Architecture | str,
    dataset: Dataset | str = "fashion-mini",
    *,
    method: Method | str = "bp",
    exits: Exits | None = None,
    recipe: Recipe | str = "quick",
    seed: int = 0,
    start: Start = START,
    place: Place = PLACE,
) -> Run:
    """The finished run of an architecture trained on a data set: trained now, continued, or found finished.

    Args:
        arch, exits: as `create` takes them; exits None is 1 for BP, else what the name says, 5, or the number of blocks
            if fewer.
        dataset: a data set, or the name of one.
        method: ``bp``, ``mwbp``, another key of `METHODS`, or a `Method` with options.
        seed: of weights, order and augmentation (the split has its own, in the recipe).
        start: what the training starts from, and learns from besides the labels.
        place: where and how it is computed, and where its run is kept.

    Raises:
        UsageError: an argument is unknown or does not fit, another process holds the run, or it failed.
    """
    arch = Architecture.of(arch)
    dataset = open_dataset(dataset) if isinstance(dataset, str) else dataset
    recipe = recipe_named(recipe) if isinstance(recipe, str) else recipe
    asked: dict[str, Any] = {"method": method, "exits": exits, "recipe": recipe, "seed": seed, "place": place}
    plan = plan_of(arch, dataset, **asked, start=start)
    if plan.method == FROZEN and plan.parent is None:
        trunk = _trunk(None, plan.spec, arch, dataset, recipe, seed, place)
        plan = plan_of(arch, dataset, **asked, start=dataclasses.replace(start, trunk=trunk.path))
    initial = _initial(plan.spec, seed, start)
    return execute(
        plan,
        lambda _: Prepared(network=initial[0] if initial else _fresh(plan.spec, seed, plan.parent)),
        resume=place.resume,
    )


def plan_of(
    arch: Architecture | str,
    dataset: Dataset | str = "fashion-mini",
    *,
    method: Method | str = "bp",
    exits: Exits | None = None,
    recipe: Recipe | str = "quick",
    seed: int = 0,
    start: Start = START,
    place: Place = PLACE,
) -> Plan:
    """The plan that `train` executes for the same arguments; nothing is trained or written.

    The plan of a frozen-trunk training has no `parent` unless `start` names the trunk.

    Raises:
        UsageError: an argument is unknown or does not fit.
    """
    check_seed(seed)
    dataset = open_dataset(dataset) if isinstance(dataset, str) else dataset
    recipe = recipe_named(recipe) if isinstance(recipe, str) else recipe
    method, arch, runs = Method(name=method) if isinstance(method, str) else method, Architecture.of(arch), place.runs
    spec = spec_to_train(arch, method, exits, input_shape=dataset.input_shape, classes=len(dataset.classes))
    method, taught_by = _with_teacher(method, start.teacher, dataset, recipe, runs)
    objective = method.objective(spec)  # a method that does not fit is refused before anything is written
    _check_start(start, method)
    where = resolve_device(place.device)
    used = precision_of(place.precision, objective, where)
    parent = _trunk(start.trunk, spec, arch, dataset, recipe, seed, place) if start.trunk is not None else None
    initial = _initial(spec, seed, start)
    command = _command(spec, method, taught_by, parent, runs) + _start(start, place)
    if arch.image_size is not None and not dataset.name.startswith("folder:"):
        command += ["--image-size", str(arch.image_size)]  # else among the options of the data
    return Plan(
        name=" ".join([display_name(spec), *_variant(method)]),
        kind="control" if method.name in CONTROLS else "train",
        method=method.name,
        objective=objective,
        spec=spec,
        recipe=recipe,
        dataset=dataset,
        seed=seed,
        precision=used,
        device=where,
        runs=runs,
        command=command_line(command, dataset, recipe, seed, used) + _registered(spec),
        parent=parent,
        teacher=taught_by,
        initial=initial[1] if initial else None,
        code=code_digest(spec),
        compile=place.compile,
    )


def command_line(
    own: list[str],
    dataset: Dataset,
    recipe: Recipe,
    seed: int,
    precision: Precision,
    *,
    epochs: int | None = None,
    changes: Sequence[str] = (),
) -> str:
    """The shell command of a run, for its record: its own options and those that every kind of run shares.

    A recipe that no command can give, since it was made in Python, is pointed out in a comment.

    Args:
        recipe: of the run, or the one that fine-tuning was derived from, then with the `epochs` that the command asks
            for.
        changes: options that change the recipe otherwise.
    """
    options = ["--dataset", dataset.name, *dataset.options, "--recipe", recipe.name]
    options += ["--epochs", str(recipe.epochs if epochs is None else epochs), *changes]
    options += options_of(recipe) if epochs is None else []
    command = shlex.join(["compress", *own, *options, "--seed", str(seed), "--precision", precision])
    named = is_named(recipe) if epochs is None else is_named(recipe, OF_REFERENCE)
    return command if named else f"{command}  # with a recipe made in Python: see config.recipe in run.json"


def found_reference(spec: Spec, dataset: Dataset, recipe: Recipe, seed: int, runs: Path) -> Run | None:
    """The newest finished run by plain BP with this network (of one exit), data, split, recipe and seed; says which."""
    return current_world().on_leader(lambda: _newest_reference(spec, dataset, recipe, seed, runs))


def train_reference(
    spec: Spec, dataset: Dataset, recipe: Recipe, seed: int, place: Place, *, image_size: int | None = None
) -> Run:
    """The reference that `found_reference` looks for and did not find, trained, which is said."""
    console.print(
        f"no finished {spec.arch} by plain BP with this data, recipe and seed under {place.runs}: training one first"
    )
    return train(Architecture(spec.arch, image_size=image_size), dataset, recipe=recipe, seed=seed, place=place)


def is_reference(run: Run, spec: Spec, dataset: Dataset, recipe: Recipe, seed: int) -> bool:
    """Whether a run is one by plain BP with this network (of one exit), data, split, recipe and seed."""
    wanted = {"kind": "train", "method": "bp", "spec": spec.to_json(), "recipe": recipe.to_json(), "seed": seed}
    wanted |= {"teacher": None, "initial": None, "augmentable": dataset.augmentable}
    wanted["normalisation"] = published_normalisation(dataset)
    same_batch = run.record.config.get("batch_size") == batch_for_few(recipe, dataset)
    return run.record.data["digest"] == dataset.digest and same_batch and wanted.items() <= run.record.config.items()


def _newest_reference(spec: Spec, dataset: Dataset, recipe: Recipe, seed: int, runs: Path) -> Run | None:
    found = [run for run in finished_runs(runs)[0] if is_reference(run, spec, dataset, recipe, seed)]
    if not found:
        return None
    newest = max(found, key=lambda run: (run.path / RECORD).stat().st_mtime)
    console.print(f"the reference is {newest.id}")
    return newest


def run_option(run: Run, runs: Path) -> str:
    """How a command names a run: its id where it lies among the others, else its path."""
    return run.id if run.path.parent == runs else str(run.path.resolve())


def check_same_data(run: Run, dataset: Dataset, recipe: Recipe) -> None:
    """Refuse a run that was trained on other images, or on images that the recipe holds out.

    Raises:
        UsageError: the shape of the images, the images, their normalisation or their split differ.
    """
    record, trained = run.record, run.record.config["recipe"]
    if run.spec.input_shape != dataset.input_shape:
        raise UsageError(
            f"run {run.id} takes images (C, H, W) {run.spec.input_shape}, {dataset.name} has "
            f"{dataset.input_shape}: use --dataset {record.data['name']}, with --image-size if its images were resized"
        )
    if record.data["digest"] != dataset.digest:
        raise UsageError(
            f"run {run.id} was trained on {record.data['name']}, whose images are not {dataset.name}'s: "
            f"use --dataset {record.data['name']}"
        )
    if any(trained[key] != getattr(recipe, key) for key in ("validation", "calibration", "split_seed")):
        raise UsageError(
            f"run {run.id} was trained on another split of {dataset.name} (recipe {trained['name']}) than recipe "
            f"{recipe.name} holds out, so its validation images would not be unseen: use --recipe {trained['name']}"
        )
    if record.config["normalisation"] != published_normalisation(dataset):
        raise UsageError(
            f"run {run.id} takes images normalised otherwise than {dataset.name}'s: use --dataset {record.data['name']}"
        )


def spec_to_train(arch: Architecture, method: Method, exits: Exits | None = None, **images: Any) -> Spec:
    """The spec of what `train` trains by a method; `images` (shape, classes) and errors are those of `spec_of`."""
    if method.name in SINGLE_EXIT and arch.head:
        raise UsageError(f"head {arch.head}: of auxiliary exits, and {method.name} has none")
    if method.head is not None:
        if arch.head not in (None, method.head):
            raise UsageError(f"head {arch.head}: {method.name} has {method.head} heads; leave out one of the two")
        arch = dataclasses.replace(arch, head=method.head)
    if exits is None and method.name not in SINGLE_EXIT and exits_in_name(arch.name) is None:
        exits = min(DEFAULT_EXITS, len(spec_of(arch, **images).blocks))
    return spec_of(arch, exits=exits, **images)


def _check_start(start: Start, method: Method) -> None:
    if method.name == FROZEN and (start.weights or start.pretrained):
        raise UsageError(f"weights and pretrained: {FROZEN} has its trunk's; leave them out")
    if method.name != FROZEN and start.trunk is not None:
        raise UsageError(f"trunk {start.trunk}: goes with method {FROZEN}, not {method.name}")


def _with_teacher(
    method: Method, teacher: str | Path | None, dataset: Dataset, recipe: Recipe, runs: Path
) -> tuple[Method, Run | None]:
    """The method with a share for its teacher, and the teacher's run, which must know the same images."""
    if teacher is None:
        if method.teacher is not None:
            raise UsageError(f"teacher-weight {method.teacher:g}: there is no teacher; name a run with --teacher")
        return method, None
    run = find_run(teacher, runs)
    check_same_data(run, dataset, recipe)
    return dataclasses.replace(method, teacher=method.teacher or DEFAULT_TEACHER_SHARE), run


def _trunk(
    trunk: str | Path | None,
    spec: Spec,
    arch: Architecture,
    dataset: Dataset,
    recipe: Recipe,
    seed: int,
    place: Place,
) -> Run:
    """The run whose trunk gets exits: the given one, or the plain network of the same trunk, found or trained."""
    plain = dataclasses.replace(spec, exits=spec.exits[-1:])
    if trunk is None:
        nature = Architecture(spec.arch, image_size=arch.image_size)  # all else is in the architecture's name
        usual = spec_of(nature, input_shape=spec.input_shape, classes=spec.classes)
        if usual != plain:
            raise UsageError(
                f"frozen-trunk: {spec.arch} has {len(usual.blocks)} blocks by nature: give exits by their numbers"
            )
        found = found_reference(plain, dataset, recipe, seed, place.runs)
        run = found or train_reference(plain, dataset, recipe, seed, place, image_size=arch.image_size)
    else:
        run = find_run(trunk, place.runs)
        check_same_data(run, dataset, recipe)
    if run.spec != plain:
        raise UsageError(
            f"trunk {run.id}: its blocks are not those of a plain {display_name(plain)} for {plain.classes} classes: "
            f"name a run by plain BP of that, or give exits by the numbers of its {len(run.spec.blocks)} blocks"
        )
    return run


def _initial(spec: Spec, seed: int, start: Start) -> tuple[Network, str] | None:
    """The network with the initial weights asked for, and their digest; None where none are."""
    if start.weights is not None and start.pretrained:
        raise UsageError("give either --weights or --pretrained, not both")
    if start.weights is None and not start.pretrained:
        return None
    network = _fresh(spec, seed, None)
    return network, load_pretrained(network) if start.weights is None else load_weights(network, start.weights)


def _registered(spec: Spec) -> str:
    """A comment on a command that no shell can run, since the net is known to one Python process alone."""
    return f"  # with {spec.arch} registered in Python" if spec.foreign and ":" not in spec.arch else ""


def _start(start: Start, place: Place) -> list[str]:
    """The options of a run's command that say where it starts from and how it computes."""
    words = ["--weights", str(Path(start.weights).resolve())] if start.weights is not None else []
    return words + ["--pretrained"] * start.pretrained + ["--compile"] * place.compile


def _fresh(spec: Spec, seed: int, parent: Run | None) -> Network:
    """The network to train: newly initialised, its trunk and last head the parent's where there is one."""
    network = initialised(spec, seed)
    if parent:
        missing, _ = network.load_state_dict(load(parent).state_dict(), strict=False)
        assert all(name.startswith("heads.") for name in missing)
    return network


def _command(spec: Spec, method: Method, teacher: Run | None, trunk: Run | None, runs: Path) -> list[str]:
    """The run's own part of its command."""
    own = ["train" if method.name in SINGLE_EXIT else "train-mwbp", "--arch", spec.arch]
    if method.name not in SINGLE_EXIT:
        own += ["--exits", _exits_option(spec)]
        heads = [exit.head for exit in spec.exits[:-1]]
        own += ["--head", heads[0]] if heads and method.head is None and heads != default_heads(spec) else []
    own += method.options()
    own += ["--teacher", run_option(teacher, runs)] if teacher else []
    own += ["--trunk", run_option(trunk, runs)] if trunk else []
    return own


def _variant(method: Method) -> list[str]:
    """What a run's name says of its method, where that is neither plain BP nor MW-BP in its default form."""
    if method.name not in ("bp", "mwbp"):
        return [method.name]
    return ["sequential"] if method.sequential else []


def _exits_option(spec: Spec) -> str:
    numbers = [exit.block for exit in spec.exits]
    if not spec.foreign and tuple(numbers) == place_exits(len(numbers), len(spec.blocks)):
        return str(len(numbers))
    return ",".join(spec.exit_names)
