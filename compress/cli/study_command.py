"""`compress study`: a whole comparison, trained, measured and reported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from benchmarks.study.study_file import study_text
from compress.cli.cluster_options import CLUSTER, ClusterOptions
from compress.cli.options import (
    DATA,
    OUTPUT,
    DataOptions,
    Flag,
    Output,
    PlaceOptions,
    Precision,
    options,
)
from compress.cli.quantities import DURATIONS, quantity
from compress.cli.recipe_options import RECIPE, RecipeOptions
from compress.cli.runs_option import writable
from compress.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.study.cluster_plan import ClusterPlan
    from benchmarks.study.dry_run import StudyPlan
    from benchmarks.study.study import Study
    from compress.recipes import Recipe
    from compress.training import Place


@options("Runs")
@dataclass(frozen=True, kw_only=True)
class StudyPlaceOptions(PlaceOptions):
    """Where and how the runs of a study are computed.

    Attributes:
        precision: Number format (default: the study's); auto: bf16 if the hardware has it.
        resume: Continue a failed run (an interrupted one always does).
        time_limit: Such as 9m: begin no run that is not expected to end by then, stop after the epoch under way, and
            report what is done, for which a fifth is kept back. The same command goes on later. Nothing is handed over.
        report: --no-report: train alone, for the whole of the time limit; neither measure nor report.
        timing: --no-timing: measure no latency, as on a machine that is busy, and hand nothing over; the same command
            without it does later.
    """

    precision: Precision | None = None
    resume: Flag = False
    time_limit: str | None = None
    report: Annotated[bool, Parameter(negative="--no-report", show_default=False)] = True
    timing: Annotated[bool, Parameter(negative="--no-timing", show_default=False)] = True

    @property
    def seconds(self) -> float | None:
        """The time limit in seconds, or None."""
        return None if self.time_limit is None else quantity("time-limit", self.time_limit, DURATIONS, "90s, 9m or 2h")

    def place(self, precision: str) -> Place:
        """Return what these options say as the library takes it, by default with the study's precision."""
        from compress.training import Place

        runs = writable(self.runs)
        return Place(runs=runs, device=self.device, resume=self.resume, precision=self.precision or precision)


STUDY_PLACE = StudyPlaceOptions()


def study(
    name: str,
    *,
    out: Path | None = None,
    dry_run: Flag = False,
    recipe: RecipeOptions = RECIPE,
    data: DataOptions = DATA,
    place: StudyPlaceOptions = STUDY_PLACE,
    cluster: ClusterOptions = CLUSTER,
    output: Output = OUTPUT,
) -> None:
    """Run a whole comparison: train what is missing, measure all of it and write the report.

    A study with a handover then selects a network within its limit, exports it, and predicts an image with it.

    Args:
        name: quickstart, pruning, fashion-mnist, headline, or another bundled study; or a TOML file of your own.
        out: Directory of the report (default: report/NAME).
        dry_run: Train nothing; show every run, what it waits for, and how long the remaining ones take.
    """
    study_text(name)  # refuses what is not there
    cluster.check(dry_run=dry_run)
    seconds = place.seconds

    from benchmarks import REPORT, Setting, hand_over, main_table, plan_study, read_study, run_study
    from compress.cli.printing import print_json, print_table, run_as_json
    from compress.console import console

    study = read_study(name)
    console.print(f"{study.title}: {study.takes}")
    named = _recipe(study, recipe)
    if dry_run and cluster.nodes is not None:
        return _show_plan(cluster.plan(study, named), output)
    dataset = data.open(named, study.dataset)
    execute = cluster.execute(dry_run=dry_run, device=place.device)
    here = cluster.place(place.place(study.precision))
    setting = Setting(study=study, dataset=dataset, recipe=named, place=here, data_dir=data.data_dir)
    if dry_run:
        return _show_plan(plan_study(setting), output)
    out = out or Path("report") / Path(name).stem
    handed: list[str] = []
    runs = run_study(setting, out=out, time_limit=seconds, report=place.report, timing=place.timing, execute=execute)
    written = place.report and bool(runs)
    if not output.json:
        if runs:
            print_table(main_table(runs, runs[0].id))
        console.print(f"report: {out / REPORT}" if written else f"{len(runs)} runs are finished, and nothing reported")
    if study.handover and written and place.timing and seconds is None:
        try:
            handed = hand_over(study.handover, runs, setting.dataset, out)
        except UsageError as error:  # the study itself is done
            console.print(f"not handed over: {error}")
    if output.json:
        path = str(out / REPORT) if written else None
        return print_json({"runs": [run_as_json(run) for run in runs], "report": path, "handover": handed})
    print(*handed, sep="\n")


def _recipe(study: Study, asked: RecipeOptions) -> Recipe:
    """Return the study's recipe; what is asked for goes before its recipe and its epochs."""
    epochs = study.epochs if asked.recipe is None and asked.epochs is None else asked.epochs
    recipe = asked.named(study.recipe, epochs=epochs, class_weights=study.class_weights)
    if not recipe.epochs:
        raise UsageError("--epochs 0: a study trains; give 1 or more")
    return recipe.changed(validation=study.validation, calibration=study.calibration)


def _show_plan(plan: ClusterPlan | StudyPlan, output: Output) -> None:
    from compress.cli.printing import print_json, print_table

    if output.json:
        return print_json(plan.to_json())
    print_table(plan.table())
    print(plan.summary())
