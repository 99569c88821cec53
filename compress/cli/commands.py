"""The `compress` command: one thin function a subcommand, all sharing the same options and manners.

Results go to stdout (a table, or with `--json` one JSON document); everything else goes to stderr. What a user can
mend is one line and exit status 2.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from baselines import FineTuning, Job, carry_out, foresee, run_and_exit
from benchmarks import (
    COMPARISON,
    REPORT,
    Comparison,
    Setting,
    bench,
    bench_all,
    distinct_runs,
    latency_ratio,
    main_table,
    plan_study,
    probe,
    probe_tables,
    read_comparison,
    read_probes,
    read_study,
    run_study,
    write_probe_figure,
    write_report,
)
from compress import __version__
from compress.cli.options import (
    ARCHITECTURE,
    BENCH,
    BUDGET,
    COMMON,
    EXTRAS,
    FINE_TUNING,
    PLACE,
    PROTOCOL,
    RECIPE,
    TECHNIQUE,
    WHOLE,
    ArchitectureOptions,
    BenchOptions,
    BudgetOptions,
    Common,
    Extras,
    FineTuningOptions,
    PlaceOptions,
    Protocol,
    RecipeOptions,
    TechniqueOptions,
)
from compress.cli.output import (
    print_json,
    print_table,
    run_as_json,
    show_forecasts,
    show_inventory,
    show_latencies,
    show_runs,
)
from compress.console import console
from compress.data import available, take_inventory
from compress.errors import UsageError, one_line
from compress.hardware import is_out_of_memory, summary
from compress.networks import Architecture, is_foreign
from compress.runs import find_run, finished_runs
from compress.training import Method, Place, Start, train
from compress.training.distributed import joined
from compress.training.methods import SINGLE_EXIT

app = App(
    name="compress",
    help="Small, fast image classifiers: multi-exit training, pruning baselines, and a fair comparison of both.",
    version=lambda: "\n".join([__version__, *summary().split("; ")]),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)

SEVERAL_PROCESSES = ("train", "train-mwbp", "prune")  # the commands that torchrun may start
REPORTS = Path("report")


@app.command(name="train")
def train_(
    *,
    arch: str = "resnet110",
    extra_decay: str | None = None,
    seed: Annotated[int, WHOLE] = 0,
    architecture: ArchitectureOptions = ARCHITECTURE,
    changes: RecipeOptions = RECIPE,
    extras: Extras = EXTRAS,
    protocol: Protocol = PROTOCOL,
    place: PlaceOptions = PLACE,
    common: Common = COMMON,
) -> None:
    """Train a network by plain backpropagation (BP), one exit at the end.

    Args:
        arch: resnetN (pre-activation), resnetNv1 (the original form) or resnetNnl (norm-last), N = 6n+2; wrn-28-10;
            mobilenetv2; torchvision:NAME, timm:NAME, or python:MODULE:FACTORY, a function of yours.
        extra_decay: A control: with the weight decay that MW-BP with these exits brings (a number, or blocks).
        seed: Of weights, order and augmentation.
    """
    name = "bp" if extra_decay is None else "bp-extra-decay"
    method = extras.method(name=name, decay_exits=extra_decay)
    _train(architecture.of(arch, protocol), method, None, seed, changes, extras, protocol, place, common)


@app.command(name="train-mwbp")
def train_mwbp(
    *,
    arch: str = "resnet44",
    exits: str | None = None,
    head: str | None = None,
    method: str = "mwbp",
    update: str | None = None,
    gamma: str = "depth-squared",
    trunk: str | None = None,
    self_distillation: float = 0.0,
    gradient_equilibrium: Annotated[bool, Parameter(negative="")] = False,
    seed: Annotated[int, WHOLE] = 0,
    architecture: ArchitectureOptions = ARCHITECTURE,
    changes: RecipeOptions = RECIPE,
    extras: Extras = EXTRAS,
    protocol: Protocol = PROTOCOL,
    place: PlaceOptions = PLACE,
    common: Common = COMMON,
) -> None:
    """Train a multi-exit network by multi-way backpropagation (MW-BP): several compact models from one training.

    Args:
        arch: resnetN (pre-activation), resnetNv1 (the original form) or resnetNnl (norm-last), N = 6n+2; wrn-28-10;
            mobilenetv2; or a name with its exits, as MwResNet-56-5; torchvision:NAME, timm:NAME, or
            python:MODULE:FACTORY, a function of yours.
        exits: How many, the last one included (default 5), at equal steps; block numbers, as in 5,9,13,17,end, or names
            of modules, as in layer1,layer2,end; or paper, the published ones.
        head: Of auxiliary exits: bn-relu-gap-fc (default, but gap-fc after post-activation blocks and ln-mean-fc where
            channels come last), relu-gap-fc, bn-relu-flatten-fc, or bn-relu-conv-gap-fc, a stronger one with a
            convolution of stride 2.
        method: mwbp; auxnet (its first form); or a control: deep-supervision, mwbp-uniform-decay, frozen-trunk.
        update: simultaneous (default): one backward pass; or sequential: the authors' order, a pass an exit, fp32.
        gamma: Weights of auxiliary losses: depth-squared (the authors'), uniform, or numbers, as in 0.1,0.3,0.6,1.
        trunk: Method frozen-trunk: the run whose trunk gets exits (default: found, or trained first).
        self_distillation: Share of auxiliary losses in which the last exit teaches.
        gradient_equilibrium: Let every segment follow the mean of its exits' gradients, not the sum.
        seed: Of weights, order and augmentation.
    """
    if method in SINGLE_EXIT:
        raise UsageError(f"method {method}: one exit, by plain BP: use compress train (with --extra-decay EXITS)")
    how = extras.method(
        name=method,
        update=update,
        gamma=gamma,
        self_distillation=self_distillation,
        gradient_equilibrium=gradient_equilibrium,
    )
    shape = dataclasses.replace(architecture.of(arch, protocol), head=head)
    _train(shape, how, exits, seed, changes, extras, protocol, place, common, trunk=trunk)


def _train(
    arch: Architecture,
    method: Method,
    exits: str | None,
    seed: int,
    changes: RecipeOptions,
    extras: Extras,
    protocol: Protocol,
    place: PlaceOptions,
    common: Common,
    trunk: str | None = None,
) -> None:
    recipe = protocol.named_recipe(epochs=protocol.epochs, stochastic_depth=extras.stochastic_depth)
    run = train(
        arch,
        protocol.open(enlarged=is_foreign(arch.name)),
        method=method,
        exits=exits,
        recipe=recipe.changed(**vars(changes)),
        seed=seed,
        start=Start(weights=extras.weights, pretrained=extras.pretrained, teacher=extras.teacher, trunk=trunk),
        place=Place(
            device=place.device,
            precision=protocol.precision,
            runs=place.runs,
            resume=protocol.resume,
            compile=extras.compile,
        ),
    )
    show_runs([run], as_json=common.json)


@app.command(name="prune")
def prune_(
    *,
    arch: str | None = None,
    budget: BudgetOptions = BUDGET,
    technique: TechniqueOptions = TECHNIQUE,
    fine_tuning: FineTuningOptions = FINE_TUNING,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    seed: Annotated[int, WHOLE] = 0,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    protocol: Protocol = PROTOCOL,
    place: PlaceOptions = PLACE,
    common: Common = COMMON,
) -> None:
    """Make a trained network smaller, to a budget, and fine-tune it; or train a control of that budget.

    Give one budget, or several of a kind separated by commas.

    Args:
        arch: Of the reference (default resnet110), which is found among the finished runs or trained first.
        from_: The run to start from, on its data, instead of looking for one; RUN:EXIT cuts it there first.
        seed: Of the reference and of fine-tuning.
        dry_run: Train nothing: say what can be reached, whether the budget can, and how long it would take.
    """
    recipe = protocol.named_recipe()
    dataset = protocol.open_of(run_and_exit(from_, place.runs)[0]) if from_ else protocol.open()
    jobs = [
        Job(
            arch=arch,
            dataset=dataset,
            budget=one,
            technique=technique.technique(),
            recipe=recipe,
            reference=from_,
            fine_tuning=FineTuning(epochs=protocol.epochs, **vars(fine_tuning)),
            seed=seed,
            place=Place(device=place.device, precision=protocol.precision, runs=place.runs, resume=protocol.resume),
            timed=latency_ratio,
        )
        for one in budget.all(place.runs)
    ]
    if dry_run:
        return show_forecasts([foresee(job) for job in jobs], as_json=common.json)
    show_runs([carry_out(job) for job in jobs], as_json=common.json)


@app.command(name="bench")
def bench_(
    *run: str,
    options: BenchOptions = BENCH,
    place: PlaceOptions = PLACE,
    common: Common = COMMON,
) -> None:
    """Measure what every exit of finished runs costs: size, latency, memory and, where the machine can tell, energy.

    Latency is measured interleaved; ratios are to the last exit of the first run named, taken round by round. It and
    joules are written to each run's bench.json, beside what was measured under other conditions; bytes, activations
    and peak memory, of a training step and of inference, to costs.json.

    Args:
        run: Run directories, or ids (or their beginnings) under --runs.
    """
    options.check(run)
    if options.all is not None:
        done = bench_all(options.all, device=place.device, **options.settings())
        return show_latencies(done.rows, done.skipped, as_json=common.json)
    found = [find_run(name, place.runs) for name in run]
    measured = bench(found, device=place.device, **options.engines(), **options.settings())
    show_latencies(measured, as_json=common.json)


@app.command(name="probe")
def probe_(
    *run: str,
    retrain: Annotated[bool, Parameter(negative="")] = False,
    epochs: Annotated[int | None, WHOLE] = None,
    out: Path = REPORTS,
    data_dir: Path | None = None,
    place: PlaceOptions = PLACE,
    common: Common = COMMON,
) -> None:
    """Measure what every block of finished runs has learnt: whether shallow ones lack supervision.

    For every block: the accuracy of a linear probe, the share of the final loss's gradient that reaches it, its
    similarity to the next block (CKA), and the accuracy lost when it is skipped. Written to each run's probe.json.

    Args:
        run: Run directories, or ids (or their beginnings) under --runs.
        retrain: Also freeze a quarter, half and three quarters of the blocks and train the rest anew, by plain BP.
        epochs: Of retraining, instead of the run's own.
        out: Directory of the figure that lays the runs over one another.
        data_dir: Where to look for the data first.
    """
    found = [find_run(name, place.runs) for name in run]
    documents = probe(found, retrain=retrain, epochs=epochs, data_dir=data_dir, device=place.device)
    measured = read_probes(found)
    figure = write_probe_figure(*measured, out / "probe")
    if common.json:
        named = [{"run": one.id} | document for one, document in zip(found, documents, strict=True)]
        return print_json({"runs": named, "figure": str(figure)})
    for table in probe_tables(*measured):
        print_table(table)
        print()
    print(figure)


@app.command(name="study")
def study_(
    name: str,
    *,
    out: Path | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    protocol: Protocol = PROTOCOL,
    place: PlaceOptions = PLACE,
    common: Common = COMMON,
) -> None:
    """Run a whole comparison: what is missing is trained, then all is measured and reported.

    Args:
        name: quickstart, pruning, fashion-mnist, cifar10, cifar10-paper, cifar100-paper, svhn-paper, or a TOML
            file of your own.
        out: Directory of the report (default: report/NAME).
        dry_run: Train nothing: show every run, what it waits for, which are finished, and how long the rest takes.
    """
    study = read_study(name)
    console.print(f"{study.title}: {study.takes}")
    setting = Setting(
        study=study,
        dataset=protocol.open(study.dataset),
        recipe=protocol.named_recipe(study.recipe, epochs=protocol.epochs),
        place=Place(device=place.device, precision=protocol.precision, runs=place.runs, resume=protocol.resume),
    )
    if dry_run:
        plan = plan_study(setting)
        if common.json:
            return print_json(plan.to_json())
        print_table(plan.table())
        return print(plan.summary())
    out = out or REPORTS / Path(name).stem
    runs = run_study(setting, out=out)
    if common.json:
        return print_json({"runs": [run_as_json(run) for run in runs], "report": str(out / REPORT)})
    print_table(main_table(runs, runs[0].id))
    console.print(f"report: {out / REPORT}")


@app.command(name="report")
def report_(
    runs_dir: Annotated[Path, Parameter(env_var="COMPRESS_RUNS")] = PLACE.runs,
    *,
    out: Path = REPORTS,
    common: Common = COMMON,
) -> None:
    """Write the comparison of all finished runs: Markdown, the same as an HTML page, CSV, figures, and their records.

    Args:
        runs_dir: Directory of the run directories; or of a report, which is made again from its records.
        out: Directory to write into.
    """
    if not runs_dir.is_dir():
        raise UsageError(f"{runs_dir} is not a directory of runs; train some first: compress study quickstart")
    skipped: list[str] = []
    if (runs_dir / COMPARISON).exists():
        comparison = read_comparison(runs_dir)
    else:
        runs, skipped = finished_runs(runs_dir)
        comparison = Comparison(runs=runs)
    runs, repeated = distinct_runs(comparison.runs)
    comparison, skipped = dataclasses.replace(comparison, runs=runs), [*skipped, *repeated]
    for reason in skipped:
        console.print(f"skipped: {reason}")
    path = write_report(**vars(comparison), out=out)
    if common.json:
        return print_json({"report": str(path), "runs": [run.id for run in comparison.runs], "skipped": skipped})
    console.print(f"{len(comparison.runs)} runs reported")
    print(path)


@app.command(name="data")
def data_(name: str | None = None, *, data_dir: Path | None = None, common: Common = COMMON) -> None:
    """Show which data sets are here and how to get the rest, and what this machine computes with.

    Args:
        name: folder:PATH, to show what lies there: images by part and class, and what is unused, twice or uneven.
        data_dir: Where to look first.
    """
    if name is not None:
        return show_inventory(take_inventory(name, data_dir), as_json=common.json)
    rows = available(data_dir)
    if common.json:
        return print_json({"datasets": [dataclasses.asdict(row) for row in rows], "machine": summary()})
    for row in rows:
        print(f"{row.name:14}{row.what}\n{'':14}{row.where}" + (f": {row.how}" if row.how else ""))
    print(f"this machine: {summary()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, or 2 for an error of the user's."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in given and not faulthandler.is_enabled():
        faulthandler.enable(2)  # stderr; for a training that makes no progress, too: see the watchdog
    command = next(iter(given), "")
    try:
        with joined() as world:
            if world.size > 1 and command in app and command not in SEVERAL_PROCESSES:
                raise UsageError(f"{command} runs in one process; under torchrun: {', '.join(SEVERAL_PROCESSES)}")
            app(given, exit_on_error=False, print_error=False, result_action="return_none")
    except Exception as error:
        text = _what_to_mend(error, command)
        if text is None or "--debug" in given:
            raise
        print(f"compress: {one_line(text)}", file=sys.stderr)
        return 2
    return 0


def _what_to_mend(error: Exception, command: str) -> str | None:
    """What the user can mend: a mistake, a file that cannot be used, too little memory; None of faults of ours."""
    if isinstance(error, UsageError | CycloptsError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or command}: {error.strerror or error}"
    if is_out_of_memory(error):
        return f"{command}: there is not enough memory here; smaller images, batches or networks take less"
    return None
