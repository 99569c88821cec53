"""A finished run whose images can be opened again, its bundles, and runs of any network made of it.

The exporter takes seconds for the smallest network, so that tests share what it wrote.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compress import Bundle, Place, export_bundle
from compress.data import open_dataset
from compress.network_cost import exit_costs
from compress.networks import Network
from compress.recipes import Recipe
from compress.runs import Run
from compress.training import train

MakeRun = Callable[[Network], Run]
Export = Callable[..., Bundle]


@pytest.fixture(scope="session")
def trained(tiny_folder: Path, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """MW-BP with two exits on 8x8 grey images in class folders, some held out."""
    small = open_dataset(f"folder:{tiny_folder}", image_size=8)
    recipe, place = replace(brief, validation=0.2, calibration=0.2), Place(runs=tmp_path_factory.mktemp("runs"))
    return train("resnet8", small, method="mwbp", exits=2, recipe=recipe, place=place)


@pytest.fixture(scope="session")
def exported(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Export an exit of the run, once in every form, into a directory that is there and empty."""

    @functools.cache
    def export(exit: int | None = None, **form: Any) -> Bundle:
        return export_bundle(trained, exit, out=tmp_path_factory.mktemp("bundle"), **form)

    return export


@pytest.fixture
def run_of(trained: Run, tmp_path: Path) -> MakeRun:
    """Make a finished run of a network for 8x8 grey images, on the same data."""

    def make(network: Network) -> Run:
        rows = [
            trained.exits[0] | {"exit": number, "block": exit.block, "macs": cost.macs, "params": cost.params}
            for number, (exit, cost) in enumerate(zip(network.spec.exits, exit_costs(network), strict=True), start=1)
        ]
        record = replace(
            trained.record,
            arch=network.spec.arch,
            spec=network.spec.to_json(),
            results=trained.record.results | {"exits": rows},
        )
        run = Run(tmp_path / "run", record)
        os.makedirs(run.path)
        run.write_weights(network)
        return run

    return make
