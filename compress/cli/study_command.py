"""`compress study`: a whole comparison, trained, measured and reported."""

from __future__ import annotations

from pathlib import Path

from benchmarks.study.study_file import study_text
from compress.cli.cluster_options import CLUSTER, ClusterOptions
from compress.cli.options import (
    DATA,
    OUTPUT,
    RECIPE,
    TRAINING_PLACE,
    DataOptions,
    Flag,
    Output,
    RecipeOptions,
    TrainingPlaceOptions,
)
from compress.errors import UsageError


def study(
    name: str,
    *,
    out: Path | None = None,
    dry_run: Flag = False,
    recipe: RecipeOptions = RECIPE,
    data: DataOptions = DATA,
    place: TrainingPlaceOptions = TRAINING_PLACE,
    cluster: ClusterOptions = CLUSTER,
    output: Output = OUTPUT,
) -> None:
    """Run a whole comparison: train what is missing, measure all of it and write the report.

    A study with a handover then selects a network within its limit, exports it, and predicts an image with it.

    Args:
        name: quickstart, pruning, fashion-mnist, cifar10, or another bundled study; or a TOML file of your own.
        out: Directory of the report (default: report/NAME).
        dry_run: Train nothing; show every run, what it waits for, and how long the remaining ones take.
    """
    study_text(name)  # refuses what is not there
    if cluster.nodes and not dry_run:
        raise UsageError(f"--nodes {cluster.nodes}: is for the plan on paper, --dry-run")
    execute = None if dry_run else cluster.execute()

    from benchmarks import REPORT, Setting, hand_over, main_table, plan_study, read_study, run_study
    from compress.cli.printing import print_json, print_table, run_as_json
    from compress.console import console

    study = read_study(name)
    console.print(f"{study.title}: {study.takes}")
    named = recipe.named(study.recipe, epochs=recipe.epochs)
    if dry_run and cluster.nodes:
        on_paper = cluster.plan(study, named)
        if output.json:
            return print_json(on_paper.to_json())
        print_table(on_paper.table())
        return print(on_paper.summary())
    setting = Setting(study=study, dataset=data.open(named, study.dataset), recipe=named, place=place.place())
    if dry_run:
        plan = plan_study(setting)
        if output.json:
            return print_json(plan.to_json())
        print_table(plan.table())
        return print(plan.summary())
    out = out or Path("report") / Path(name).stem
    runs, handed = run_study(setting, out=out, execute=execute), []
    if not output.json:
        print_table(main_table(runs, runs[0].id))
        console.print(f"report: {out / REPORT}")
    if study.handover:
        try:
            handed = hand_over(study.handover, runs, setting.dataset, out)
        except UsageError as error:  # the study itself is done
            console.print(f"not handed over: {error}")
    if output.json:
        return print_json({"runs": [run_as_json(run) for run in runs], "report": str(out / REPORT), "handover": handed})
    print(*handed, sep="\n")
