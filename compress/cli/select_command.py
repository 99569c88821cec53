"""`compress select`: the best exit of any run within limits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.cli.bench_command import ENGINES, PRECISIONS
from compress.cli.options import OUTPUT, PLACE, Output, PlaceOptions, Whole, options
from compress.cli.quantities import COUNTS, SHARES, SIZES, TIMES, quantity
from compress.errors import UsageError, nearest

if TYPE_CHECKING:
    from benchmarks import Selection

FORMATS = {"onnxruntime": "onnx", "openvino": "openvino"}  # of a bundle, by engine; PyTorch's engines read pt2


@options("Limits")
@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """What the network may cost at most, and how accurate it must be.

    Attributes:
        max_macs: Most multiply-accumulates per image, such as 30e6 or 30M.
        max_params: Most parameters, such as 500k.
        max_bytes: Largest size of the weights, such as 2MB or 500KiB; of the quantised file in int8.
        max_latency: Longest median time of a batch, measured now by --engine, such as 5ms, 800us or 0.1s.
        min_accuracy: Least accuracy on validation images, such as 0.9 or 90%: the cheapest network that has it is
            chosen.
        max_drop: Points of validation accuracy given up at most for a cheaper network, where the images cannot tell the
            two apart (default: 1); not with --min-accuracy, which has the cheapest network anyway.
    """

    max_macs: str | None = None
    max_params: str | None = None
    max_bytes: str | None = None
    max_latency: str | None = None
    min_accuracy: str | None = None
    max_drop: float | None = None

    def limits(self) -> dict[str, float]:
        """Return the limits by the names that `Limits` has for them."""
        if self.max_drop is not None and self.min_accuracy is not None:
            raise UsageError("--min-accuracy and --max-drop: give one of them; with --min-accuracy the cheapest wins")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise UsageError(f"--max-drop {self.max_drop:g}: points of accuracy, from 0 to 100")
        found = {
            name: quantity(option, text, units, like)
            for name, option, text, units, like in (
                ("macs", "max-macs", self.max_macs, COUNTS, "30e6 or 30M"),
                ("params", "max-params", self.max_params, COUNTS, "5e5 or 500k"),
                ("bytes", "max-bytes", self.max_bytes, SIZES, "2e6, 2MB or 500KiB"),
                ("seconds", "max-latency", self.max_latency, TIMES, "5ms, 800us or 0.1s"),
                ("accuracy", "min-accuracy", self.min_accuracy, SHARES, "0.9 or 90%"),
            )
            if text is not None
        }
        if found.get("accuracy", 0) > 1:
            raise UsageError(f"--min-accuracy {self.min_accuracy}: a share, such as 0.9 or 90%")
        return found


@options("Measuring")
@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """How the network will be served, which is how it is measured.

    Attributes:
        engine: The engine that will serve: onnxruntime, openvino, eager, compile or, on CUDA, cudagraphs.
        precision: fp32, bf16, fp16 or int8; other than in fp32 accuracy is measured anew, on validation images.
        batch_size: Images per batch.
        threads: Threads of the CPU.
        rounds: How many times each network is timed.
        data_dir: Directory in which the data are looked for first.
    """

    engine: str = "onnxruntime"
    precision: str = "fp32"
    batch_size: Whole = 1
    threads: Whole = 1
    rounds: Whole = 9
    data_dir: Path | None = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments of `Serving` but the device."""
        for option, name, known in (("engine", self.engine, ENGINES), ("precision", self.precision, PRECISIONS)):
            if name not in known:
                raise UsageError(f"--{option} {name!r}: {nearest(name, known)}")
        for option, value in (("batch-size", self.batch_size), ("threads", self.threads), ("rounds", self.rounds)):
            if value < 1:
                raise UsageError(f"--{option} {value}: 1 or more")
        return {name: value for name, value in vars(self).items() if name != "data_dir"}


LIMITS, SERVING = LimitOptions(), ServingOptions()


def select(
    *run: str,
    dataset: str | None = None,
    export: Path | None = None,
    limits: LimitOptions = LIMITS,
    serving: ServingOptions = SERVING,
    place: PlaceOptions = PLACE,
    output: Output = OUTPUT,
) -> int:
    """Choose the best network among all exits, ensembles and early-exit policies of finished runs, within limits.

    It is the most accurate one on validation images or, of those that these cannot tell from it, the cheapest; a least
    accuracy makes it the cheapest that has it. Test accuracy is read after the choice. If nothing is within the limits,
    what comes nearest is named, and the exit status is 1.

    Args:
        run: RUN, RUN:EXIT (a number, or ensemble) or directories of runs to choose among (default: all finished runs
            under --runs).
        dataset: The data set, where the runs have several.
        export: Write a bundle of the chosen network into this directory: onnx, openvino or pt2, as --engine needs.
    """
    bounds, settings = limits.limits(), serving.settings()
    if export is not None and export.exists() and (not export.is_dir() or any(export.iterdir())):
        raise UsageError(f"--export {export}: is there and not empty; name a new directory")

    from benchmarks.selection.comparable_runs import any_there, none_there

    if not run and not any_there(place.runs):
        raise none_there(place.runs)

    from benchmarks import Limits, Serving
    from benchmarks import select as choose
    from benchmarks.selection.choice import MAX_DROP
    from compress.cli.printing import print_json

    selection = choose(
        run,
        limits=Limits(**bounds),
        serving=Serving(device=place.device, **settings),
        max_drop=MAX_DROP if limits.max_drop is None else limits.max_drop / 100,
        dataset=dataset,
        directory=place.runs,
        data_dir=serving.data_dir,
    )
    bundle = None
    if export is not None and selection.chosen is not None:
        bundle = _export(selection, export, serving.data_dir)
    if output.json:
        print_json(selection.to_json() | ({"bundle": bundle} if export is not None else {}))
    else:
        _show(selection, bundle)
    return 0 if selection.chosen is not None else 1


def _export(selection: Selection, out: Path, data_dir: Path | None) -> str:
    """Write a bundle of the chosen network, as its engine needs it; returns the bundle's directory."""
    from compress.console import console
    from compress.export.exporting import write_bundle
    from compress.export.form import Form
    from compress.export.subject import subject_of

    chosen, serving = selection.chosen, selection.serving
    assert chosen is not None
    early = chosen.early
    form = Form(
        format=FORMATS.get(serving.engine, "onnx" if early else "pt2"),  # a cascade is run by a runtime
        precision="int8" if serving.precision == "int8" else "fp32",
        cascade=early is not None,
    )
    form.check_installed()
    subject = subject_of(chosen.run, None if early else chosen.exit, form, data_dir)
    policy, certificate = (early.policy, early.certificate) if early else (None, None)
    latencies = selection.latencies
    if serving.precision != form.precision:
        console.print(
            f"careful: the bundle computes in {form.precision}: its latency in {serving.precision} is not stated"
        )
        latencies = []
    bundle = write_bundle(replace(subject, latencies=latencies), out, policy, certificate)
    if early and (notice := bundle.manifest["early_exit"]["notice"]):
        console.print(notice)
    return os.fspath(bundle.path)


def _show(selection: Selection, bundle: str | None) -> None:
    """Print the contenders, the choice and why it was made."""
    from benchmarks.selection.contender_table import contender_table
    from benchmarks.selection.explanation import cautions, percent, reasons, within
    from compress.cli.printing import print_table
    from compress.console import console

    for line in selection.skipped:
        console.print(f"skipped: {line}")
    print_table(contender_table(selection))
    print()
    lines: Sequence[str] = reasons(selection)
    if selection.chosen is not None and selection.test_accuracy is not None and selection.test_interval is not None:
        read = f"{percent(selection.test_accuracy)}, 95% interval {within(selection.test_interval)}"
        lines = [*lines, f"test accuracy of {selection.chosen}, read after the choice: {read}"]
    for line in [*lines, *(f"careful: {line}" for line in cautions(selection))]:
        print(line)
    if bundle is not None:
        print(f"bundle: {bundle}")
