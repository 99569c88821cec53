"""Planning: from the arguments of `train` to a complete `Plan`, and from that to a finished run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.console import console
from compress.data import Dataset, open_dataset
from compress.errors import UsageError, checked
from compress.hardware import resolve_device
from compress.networks import (
    Architecture,
    Network,
    Spec,
    code_digest,
    display_name,
    exits_in_name,
    initialised,
    load_pretrained,
    load_weights,
    spec_of,
)
from compress.networks.architecture import Exits
from compress.networks.heads import WIDENING
from compress.recipes import Recipe, recipe_named
from compress.runs import Run, find_run, load
from compress.training.distributed import current_world
from compress.training.execution import Prepared, execute
from compress.training.exit_budgets import is_by_macs, placed_by_macs
from compress.training.hooks import Options
from compress.training.methods import CONTROLS, FROZEN, SINGLE_EXIT, TEMPERATURE, Method
from compress.training.objectives import precision_of
from compress.training.plan import Plan
from compress.training.recorded_command import command_line, training_words
from compress.training.references import check_same_data, found_reference, plain_spec, trunk_run
from compress.training.run_data import moved_since

DEFAULT_EXITS = 5
DEFAULT_TEACHER_SHARE = 0.5


@checked
@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how a run is computed, and where it is kept.

    Attributes:
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ...
        precision: ``auto`` (bf16 where the hardware has it), ``fp32`` or ``bf16``.
        runs: directory of the run directories.
        resume: continue a run even if an earlier attempt failed.
        compile: compile the blocks. Faster after a first minute; the last bits of results differ, so it is another run.
        capture: on a GPU, capture the steps as a CUDA graph with compiled blocks; without it is another run there.
    """

    device: str = "auto"
    precision: str = "auto"
    runs: Path = Path("runs")
    resume: bool = False
    compile: bool = False
    capture: bool = True


@checked
@dataclass(frozen=True, kw_only=True)
class Start:
    """What a training starts from, and what it learns from besides the labels.

    Attributes:
        weights: file of initial weights, see `load_weights`. For frozen-trunk: those of the trunk and its own head.
        pretrained: start from the weights that torchvision or timm publishes for the net.
        teacher: run whose last exit's logits are distilled, with the method's share of the loss (half if it has none).
        trunk: for frozen-trunk: run by plain BP whose trunk is frozen. None, and no weights: the newest one with the
            same architecture, data, recipe and seed, trained first if there is none.
    """

    weights: str | Path | None = None
    pretrained: bool = False
    teacher: str | Path | None = None
    trunk: str | Path | Run | None = None

    @property
    def given(self) -> bool:
        """Whether it names initial weights."""
        return self.weights is not None or self.pretrained


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
    """Train an architecture on a data set and return the finished run.

    A run that was interrupted is continued; a run that is finished already is returned as it is. With a recipe of 0
    epochs the network that `start` gives is evaluated and recorded as it is.

    Args:
        arch: architecture, or its name, as `create` takes it.
        dataset: data set, or its name.
        method: ``bp``, ``mwbp``, another key of `METHODS`, or a `Method` with options.
        exits: as `create` takes them, or ``macs:5``: five at equal shares of the trunk's MACs. None: one for BP; else
            the number in the architecture's name, or 5, or the number of blocks if that is smaller.
        recipe: recipe, or its name.
        seed: random seed for initial weights, data order and augmentation (the recipe has one for the split).
        start: what the training starts from, and learns from besides the labels.
        place: where and how it is computed, and where the run is kept.

    Raises:
        UsageError: an argument is unknown or does not fit, another process holds the run, or it failed.
    """
    dataset = open_dataset(dataset) if isinstance(dataset, str) else dataset
    if line := moved_since(dataset, place.runs):
        console.print(line)
    recipe = recipe_named(recipe) if isinstance(recipe, str) else recipe
    arch = Architecture.of(arch)
    asked: dict[str, Any] = {"method": method, "exits": exits, "recipe": recipe, "seed": seed, "place": place}
    plan = plan_of(arch, dataset, **asked, start=start)
    if plan.method == FROZEN and plan.parent is None and plan.initial is None:
        plain = plain_spec(plan.spec, arch.image_size)
        trunk = found_reference(plain, dataset, recipe, seed, place.runs)
        trunk = trunk or train_reference(plain, dataset, recipe, seed, place, image_size=arch.image_size)
        plan = plan_of(arch, dataset, **asked, start=dataclasses.replace(start, trunk=trunk))
    return execute(plan, lambda _: Prepared(network=_initial_network(plan, start)), resume=place.resume)


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

    Published initial weights are downloaded if need be, since their digest is part of the plan. The plan of a
    frozen-trunk training has no `parent` unless `start` names the trunk's run.

    Raises:
        UsageError: an argument is unknown or does not fit.
    """
    dataset = open_dataset(dataset) if isinstance(dataset, str) else dataset
    recipe = recipe_named(recipe) if isinstance(recipe, str) else recipe
    method, arch, runs = Method(name=method) if isinstance(method, str) else method, Architecture.of(arch), place.runs
    spec = spec_to_train(arch, method, exits, input_shape=dataset.input_shape, classes=len(dataset.classes))
    method, teacher = _with_teacher(method, start.teacher, dataset, recipe, runs)
    objective = method.objective(spec)
    _check_start(start, method, recipe)
    _check_recipe(recipe, method, dataset, spec)
    # Refused here and not when the network trains, since a frozen trunk would be trained before.
    Options(compile=place.compile, capture=place.capture).check(objective, recipe, processes=current_world().size)
    device = resolve_device(place.device)
    precision = precision_of(place.precision, objective, device)
    trunk, whole = None, method.name == FROZEN or not recipe.epochs
    if start.trunk is not None:
        trunk = trunk_run(start.trunk, dataclasses.replace(spec, exits=spec.exits[-1:]), dataset, recipe, runs)
    words = training_words(spec, method, teacher, trunk, runs) + start_options(start) + ["--compile"] * place.compile
    words += ["--no-capture"] * (not place.capture)
    if arch.image_size is not None and not dataset.name.startswith("folder:"):
        words += ["--image-size", str(arch.image_size)]  # else among the options of the data
    in_python = f"  # with {spec.arch} registered in Python" if spec.foreign and ":" not in spec.arch else ""
    return Plan(
        name=" ".join([display_name(spec), *_variant(method)]),
        kind="control" if method.name in CONTROLS else "train",
        method=method.name,
        objective=objective,
        spec=spec,
        recipe=recipe,
        dataset=dataset,
        seed=seed,
        precision=precision,
        device=device,
        runs=runs,
        command=command_line(words, dataset, recipe, seed, precision) + in_python,
        parent=trunk,
        teacher=teacher,
        initial=load_start(initialised(spec, seed), start, whole=whole) if start.given else None,
        code=code_digest(spec),
        compile=place.compile,
        ensemble=method.ensemble,
        capture=place.capture,
    )


def train_reference(
    spec: Spec, dataset: Dataset, recipe: Recipe, seed: int, place: Place, *, image_size: int | None = None
) -> Run:
    """Train the reference that `found_reference` did not find, and print that."""
    console.print(
        f"no finished {spec.arch} by plain BP with this data, recipe and seed under {place.runs}: training one first"
    )
    return train(Architecture(spec.arch, image_size=image_size), dataset, recipe=recipe, seed=seed, place=place)


def spec_to_train(arch: Architecture, method: Method, exits: Exits | None = None, **images: Any) -> Spec:
    """The spec of the network that `train` trains by a method; `images` (shape, classes) and errors as in `spec_of`.

    Exits may also be asked for as in ``macs:5``: at equal shares of the trunk's MACs.
    """
    if method.name in SINGLE_EXIT and arch.head:
        raise UsageError(f"head {arch.head}: of auxiliary exits, and {method.name} has none")
    if method.head is not None:
        if arch.head not in (None, method.head):
            raise UsageError(f"head {arch.head}: {method.name} has {method.head} heads; leave out one of the two")
        arch = dataclasses.replace(arch, head=method.head)
    if is_by_macs(exits):
        exits = placed_by_macs(str(exits), spec_of(arch, **images))
    if exits is None and method.name not in SINGLE_EXIT and exits_in_name(arch.name) is None:
        exits = min(DEFAULT_EXITS, len(spec_of(arch, **images).blocks))
    return spec_of(arch, exits=exits, **images)


def _check_start(start: Start, method: Method, recipe: Recipe) -> None:
    if start.given and start.trunk is not None:
        raise UsageError(f"trunk {start.trunk}: has weights of its own; leave out --weights and --pretrained, or it")
    if not recipe.epochs and not (start.given and method.name == "bp"):
        raise UsageError(
            "epochs 0: nothing would be trained; to take a trained network as it is, give its --weights (or "
            "--pretrained) to plain BP"
        )
    if recipe.zero_scale and start.given:
        raise UsageError("zero-scale: the given weights would take the place of the zeros; leave it out")
    if method.name != FROZEN and start.trunk is not None:
        raise UsageError(f"trunk {start.trunk}: goes with method {FROZEN}, not {method.name}")
    if start.weights is not None and start.pretrained:
        raise UsageError("give either --weights or --pretrained, not both")


def _check_recipe(recipe: Recipe, method: Method, dataset: Dataset, spec: Spec) -> None:
    if recipe.zero_scale and not any(block.kind == "norm-last" for block in spec.blocks):
        raise UsageError(f"zero-scale: {spec.arch} has no norm-last blocks, which --form norm-last gives")
    if (
        recipe.optimizer == "muon"
        and method.name == FROZEN
        and not any(exit.head in WIDENING for exit in spec.exits[:-1])
    ):
        raise UsageError(f"optimizer muon: {FROZEN} trains heads alone, and these have no convolution")
    images = len(dataset.train)
    if dataset.validation or round(recipe.validation * images):
        return
    if recipe.select == "best-validation":
        raise UsageError(f"recipe {recipe.name}: best-validation: it holds out none of {images} images to choose by")
    if method.ensemble:
        raise UsageError(
            f"ensemble {method.ensemble}: its weights are fitted on validation images, and recipe {recipe.name} holds "
            f"none of {images} images out: --validation {max(0.05, 1 / images):.2g} does"
        )


def _with_teacher(
    method: Method, teacher: str | Path | None, dataset: Dataset, recipe: Recipe, runs: Path
) -> tuple[Method, Run | None]:
    """The method with a share of the loss for its teacher, and the teacher's run, trained on the same images."""
    if teacher is None:
        if method.teacher is not None:
            raise UsageError(f"teacher-weight {method.teacher:g}: there is no teacher; name a run with --teacher")
        if method.temperature != TEMPERATURE and not (method.self_distillation or method.ensemble_teacher):
            raise UsageError(
                f"temperature {method.temperature:g}: nothing is distilled: give --teacher, --self-distillation or "
                "--ensemble-teacher, or leave it out"
            )
        return method, None
    run = find_run(teacher, runs)
    check_same_data(run, dataset, recipe)
    return dataclasses.replace(method, teacher=method.teacher or DEFAULT_TEACHER_SHARE), run


def _initial_network(plan: Plan, start: Start) -> Network:
    """The network to train: freshly initialised, then the weights of the trunk or of `start` loaded into it."""
    network = initialised(plan.spec, plan.seed, zero_scale=plan.recipe.zero_scale)
    if plan.parent:
        missing, _ = network.load_state_dict(load(plan.parent).state_dict(), strict=False)
        assert all(name.startswith("heads.") for name in missing)
    elif plan.initial:
        load_start(network, start)
    return network


def load_start(network: Network, start: Start, *, whole: bool = False) -> str:
    """Load the initial weights in place and return their digest; `whole` as in `load_pretrained`."""
    return load_pretrained(network, whole=whole) if start.weights is None else load_weights(network, start.weights)


def start_options(start: Start) -> list[str]:
    """The command-line options that give these initial weights."""
    words = ["--weights", str(Path(start.weights).resolve())] if start.weights is not None else []
    return words + ["--pretrained"] * start.pretrained


def _variant(method: Method) -> list[str]:
    """The words that the name of a run adds for its method; none for plain BP and for MW-BP in its default form."""
    if method.name not in ("bp", "mwbp"):
        return [method.name]
    return ["sequential"] if method.sequential else []
