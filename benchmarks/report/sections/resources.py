"""Resources: what every network took to train and takes to keep and run; unmeasured columns are left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from benchmarks.report.group import Group
from benchmarks.report.section import Section, Table, Text
from benchmarks.results.cells import megabytes, millions, number, trillions
from benchmarks.results.machine_load import OTHERS, UNEVEN, others, spread
from compress.runs import Run

METHOD = (
    "Means over seeds. Training MACs, own: of the run itself, and of the last step if pruning took several. Before: "
    "those of a reference, a teacher or earlier steps, sparse training included. Choosing: those of deciding what to "
    "prune. Epochs and seconds are the run's own. A machine was busy where an epoch took at least "
    f"{UNEVEN:g} times as long as another of the same run (the first left out), or where on average at least "
    f"{OTHERS:g} thread ran or waited beside the run's own in the minute before an epoch's end; of GPUs and streamed "
    "images that tells nothing, as processes of the run itself are counted. Peak memory of a training step is that of "
    "plain BP or, with several exits, of MW-BP's simultaneous update, whatever trained the network; what other "
    "updates, a teacher or sparse training take was not measured."
)
Columns: TypeAlias = dict[str, tuple[str, Callable[[Any], str]]]  # by heading: the summary's column and its format


def _whole(value: float | None) -> str:
    return number(value, ".0f")


SIZES: Columns = {  # of every exit
    "on disk": ("bytes", megabytes),
    "activations": ("activations", millions),
    "peak memory, inference of 1": ("peak_inference_bytes_b1", megabytes),
    "inference of 128": ("peak_inference_bytes_b128", megabytes),
}
COLUMNS: Columns = {
    "training MACs: own": ("training_macs", trillions),
    "before": ("macs_before", trillions),
    "choosing": ("choosing_macs", trillions),
    "epochs": ("epochs", _whole),
    "seconds": ("training_seconds", _whole),
    "peak memory, training step of 128": ("peak_joint_training_bytes", megabytes),
    **SIZES,
}


def resources_section(group: Group) -> Section:
    """The table of training costs, sizes and memory."""
    summary = group.summary
    devices = sorted(summary["memory_device"].dropna().unique()) if "memory_device" in summary else []
    memory = [Text(f"Memory was measured on: {', '.join(devices)}.")] if devices else []
    load = Text(load_note(group.runs, group.epochs))
    return Section("Resources", [resources_table(summary), load, *memory], method=METHOD)


def resources_table(summary: pd.DataFrame) -> Table:
    """A row for each network."""
    last = summary[summary["last"] & summary["step"].isna()]
    before = last["total_training_macs"] - last["training_macs"] - last["choosing_macs"].fillna(0)
    rows = last.assign(macs_before=before).replace({"macs_before": 0, "choosing_macs": 0}, float("nan"))
    return Table.of({"network": row["network"]} | cells(row, COLUMNS) for row in rows.to_dict("records"))


def cells(row: Mapping[Any, Any], columns: Columns) -> dict[str, str]:
    """A row's cells, by heading; `MISSING` where nothing was measured."""
    return {heading: form(row.get(column)) for heading, (column, form) in columns.items()}


def load_note(runs: Sequence[Run], epochs: pd.DataFrame) -> str:
    """What the seconds of the runs can be believed to be, in words.

    Args:
        epochs: of these runs, by `read_epochs`.
    """
    own = [epochs[epochs["run"] == run.id] if len(epochs) else epochs for run in runs]
    spreads = [spread(run, rows) for run, rows in zip(runs, own, strict=True)]
    extra = [others(run, rows) for run, rows in zip(runs, own, strict=True)]
    uneven = [each for each in spreads if each is not None and each >= UNEVEN]
    beside = [each for each in extra if each is not None and each >= OTHERS]
    busy = [(one or 0) >= UNEVEN or (other or 0) >= OTHERS for one, other in zip(spreads, extra, strict=True)]
    unknown = sum(other is None and not shown for other, shown in zip(extra, busy, strict=True))
    said = []
    if any(busy):
        signs = [f"epochs of one run took up to {max(uneven):.1f} times as long as one another"] if uneven else []
        signs += [f"up to {max(beside):.1f} threads ran or waited beside the run's own"] if beside else []
        said.append(
            f"**Seconds are those of a busy machine** in {sum(busy)} of {len(runs)} runs, at least: "
            f"{', and '.join(signs)}. Compare training MACs, not seconds."
        )
    if unknown:
        of = f"{unknown} {'more ' if any(busy) else ''}run{'s' * (unknown > 1)}"
        said.append(f"Whether the machine was busy is not known for {of}, whose records do not tell it.")
    return " ".join(said) or "No record shows a busy machine."
