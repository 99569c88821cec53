"""`compress data`: the data sets that are here, and what the machine computes with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from compress.cli.options import OUTPUT, Output, Seed
from compress.cli.printing import print_json, print_table, table_of
from compress.data.catalogue import FOLDER, available, find_folder
from compress.data.division import Division
from compress.errors import UsageError
from compress.machine import summary


def data(
    name: str | None = None,
    *,
    data_dir: Path | None = None,
    split: str | None = None,
    split_seed: Seed | None = None,
    output: Output = OUTPUT,
) -> None:
    """Show which data sets are here and how to get the others, and what this machine computes with.

    Args:
        name: folder:PATH, to show what lies there: images by part and class, and what is unused, twice or uneven.
        data_dir: Directory in which the data are looked for first.
        split: For folder:PATH without parts: percent of train, val and test images, such as 70/15/15 (the default) or
            80/20 (no val); or a run, whose files keep their parts while new ones are divided.
        split_seed: Seed of that division (default: 0).
    """
    division = Division.asked(split, split_seed)
    if name is None and division.options:
        raise UsageError("--split and --split-seed go with folder:PATH")
    if name is not None:
        if not name.startswith(FOLDER):
            raise UsageError(f"{name}: only class folders, folder:PATH, have an inventory; see compress data")
        root = find_folder(name, data_dir)

        from compress.data import take_inventory

        inventory = take_inventory(root, division)
        if output.json:
            return print_json(inventory.to_json())
        print(f"{inventory.root}: {len(inventory.images['train'])} classes")
        print_table(table_of(inventory.rows()))
        return print(*inventory.lines(), sep="\n")
    rows, machine = available(data_dir), "; ".join(summary())
    if output.json:
        return print_json({"datasets": [dataclasses.asdict(row) for row in rows], "machine": machine})
    for row in rows:
        print(f"{row.name:14}{row.what}\n{'':14}{row.where}" + (f": {row.how}" if row.how else ""))
    print(f"this machine: {machine}")
