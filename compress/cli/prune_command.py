"""`compress prune`: a trained network made smaller, or a control of that size."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from baselines.budget import Budget
from baselines.technique import METHODS, SHAPES, Allocation, Scope, Technique
from compress.cli.options import (
    DATA,
    TRAINING_PLACE,
    ArchitectureOptions,
    DataOptions,
    Flag,
    Output,
    Seed,
    TrainingPlaceOptions,
    Whole,
    numbers,
    options,
)
from compress.cli.recipe_options import RecipeOptions
from compress.errors import UsageError
from compress.recipes import ClassWeights, FineTuneSchedule, Recipe
from compress.runs import macs_of, run_and_exit

if TYPE_CHECKING:
    MethodName: TypeAlias = str
    ShapeName: TypeAlias = str
else:
    MethodName, ShapeName = Literal[tuple(METHODS)], Literal[tuple(SHAPES)]


@options("Network")
@dataclass(frozen=True, kw_only=True)
class ReferenceOptions:
    """The network to prune.

    Attributes:
        arch: Reference, found among finished runs or trained first (default: resnet110).
        from_: Run to start from, or RUN:EXIT to cut it there first. A pruned network has no ensemble.
        weights: File with the trained weights of --arch, which is pruned as it is: a state dict as safetensors or
            torch.save write it.
        pretrained: Prune torchvision:NAME or timm:NAME with its published weights, as it is.
        seed: Random seed of the reference and of fine-tuning.
    """

    arch: str | None = None
    from_: Annotated[str | None, Parameter(name="--from")] = None
    weights: Path | None = None
    pretrained: Flag = False
    seed: Seed = 0


@options("Budget: give one of these; several values are separated by commas")
@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """What the smaller network may cost.

    Attributes:
        ratio: Share of the prunable channels to remove, such as 0.5.
        speedup: MACs before / after, such as 2.6; met to within 1%.
        macs: MACs to keep, such as 97e6; met to within 1%.
        params: Parameters to keep, such as 600e3; met to within 1%.
        match: RUN or RUN:EXIT, whose MACs are to be met.
        latency_ratio: Latency after / before at batch size 1, such as 0.5.
    """

    ratio: str | None = None
    speedup: str | None = None
    macs: str | None = None
    params: str | None = None
    match: str | None = None
    latency_ratio: str | None = None

    def budgets(self, runs: Path) -> list[Budget]:
        """Return a budget for every value of the one option that was given."""
        given = {name: text for name, text in vars(self).items() if text is not None}
        if len(given) != 1:
            every = ", ".join(f"--{name.replace('_', '-')}" for name in vars(self))
            named = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"give one of {every}, not {named or 'none'}")
        [(name, text)] = given.items()
        if name == "match":
            return [Budget(macs=macs_of(run, runs)) for run in text.split(",")]
        return [Budget(**{name: number}) for number in numbers(name.replace("_", "-"), text)]


@options("Method")
@dataclass(frozen=True, kw_only=True)
class TechniqueOptions:
    """How the network is made smaller.

    Attributes:
        method: Method or control; see --list-methods.
        scope: inner: keep the channels that residual additions join.
        uniform: Remove the same share of every group of channels.
        allocate: Width of each group by how narrowing it raises the loss.
        round_to: Round widths to multiples of this.
        steps: Number of prunings, each with fine-tuning.
        gradual: Take these steps within one fine-tuning.
        shape: scratch-e and scratch-b: method whose shape is trained.
        keep: Modules, separated by commas, whose layers keep their output channels.
        nearest: Take the nearest network where the budget cannot be met.
    """

    method: MethodName = "l1"
    scope: Scope = "all"
    uniform: Annotated[bool, Parameter(negative="--global", show_default=False)] = False
    allocate: Allocation | None = None
    round_to: Whole = 1
    steps: Whole = 1
    gradual: Flag = False
    shape: ShapeName = "l1"
    keep: str | None = None
    nearest: Flag = False

    def technique(self) -> Technique:
        """Return what these options say as the library takes it."""
        given = vars(self) | {"keep": self.keep or (), "ranking": "uniform" if self.uniform else "global"}
        del given["uniform"]
        return Technique(**given)


@options("Recipe")
@dataclass(frozen=True, kw_only=True)
class FineTuningOptions(RecipeOptions):
    """How the smaller network is trained.

    Attributes:
        epochs: Epochs of fine-tuning, and of sparse training before it, or of a control, instead of the recipe's. 0: no
            weight is trained; batch norm's statistics are re-estimated from training images.
        schedule: Learning rates of fine-tuning; restart: those of training.
        learning_rate: Highest rate, instead of the schedule's.
        weight_decay: Weight decay, instead of the recipe's.
        class_weights: balanced: images of rare classes count more, as if all classes had as many.
    """

    schedule: FineTuneSchedule = "small-rate"
    learning_rate: float | None = None
    weight_decay: float | None = None
    class_weights: ClassWeights = "none"


@options("Output")
@dataclass(frozen=True, kw_only=True)
class PruneOutput(Output):
    """What is shown instead of a result.

    Attributes:
        dry_run: Only show what can be reached and how long it would take.
        list_methods: Only list the methods, each with a description.
    """

    dry_run: Flag = False
    list_methods: Flag = False


REFERENCE, BUDGET, TECHNIQUE = ReferenceOptions(), BudgetOptions(), TechniqueOptions()
FINE_TUNING, PRUNE_OUTPUT = FineTuningOptions(), PruneOutput()


def prune(
    *,
    reference: ReferenceOptions = REFERENCE,
    budget: BudgetOptions = BUDGET,
    technique: TechniqueOptions = TECHNIQUE,
    fine_tuning: FineTuningOptions = FINE_TUNING,
    data: DataOptions = DATA,
    place: TrainingPlaceOptions = TRAINING_PLACE,
    output: PruneOutput = PRUNE_OUTPUT,
) -> None:
    """Prune a trained network to a budget and fine-tune it, or train a control of that budget."""
    if output.list_methods:
        from compress.cli.printing import show_methods

        return show_methods(METHODS, as_json=output.json)
    recipe = fine_tuning.named(class_weights=fine_tuning.class_weights)
    changes: dict[str, Any] = {name: getattr(fine_tuning, name) for name in ("epochs", "learning_rate", "weight_decay")}
    recipe.fine_tuning(fine_tuning.schedule).changed(**changes)
    asked = technique.technique()
    budgets = budget.budgets(place.runs)
    start = run_and_exit(reference.from_, place.runs)[0] if reference.from_ is not None else None
    if start is not None:  # what it held out stays held out
        held_out = Recipe.from_json(start.record.config["recipe"])
        recipe = recipe.changed(validation=held_out.validation, calibration=held_out.calibration)
    if reference.arch is not None:
        ArchitectureOptions().check(reference.arch)
    if start is None or data.dataset is not None:
        data.check(recipe)

    from baselines import FineTuning, Job, carry_out, foresee
    from baselines.feasibility import check_all
    from benchmarks import latency_ratio
    from compress.cli.printing import show_forecasts, show_runs
    from compress.console import console
    from compress.training import Start

    if start is not None and start.ensemble is not None:
        console.print(f"run {start.id} has an ensemble; what is pruned from it answers by its exits alone")
    dataset = data.open_of(start, recipe) if start else data.open(recipe)
    jobs = [
        Job(
            arch=reference.arch,
            dataset=dataset,
            budget=each,
            technique=asked,
            recipe=recipe,
            reference=reference.from_,
            start=Start(weights=reference.weights, pretrained=reference.pretrained),
            fine_tuning=FineTuning(schedule=fine_tuning.schedule, **changes),
            seed=reference.seed,
            place=place.place(),
            timed=latency_ratio,
        )
        for each in budgets
    ]
    if output.dry_run:
        return show_forecasts([foresee(job) for job in jobs], as_json=output.json)
    check_all(jobs)
    show_runs([carry_out(job) for job in jobs], as_json=output.json)
