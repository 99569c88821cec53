"""A finished run whose images can be opened again, and runs of any network made of it."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compress import Place
from compress.data import open_dataset
from compress.network_cost import exit_costs
from compress.networks import Network
from compress.recipes import Recipe
from compress.runs import Run
from compress.training import train

MakeRun = Callable[[Network], Run]


@pytest.fixture(scope="session")
def trained(tiny_folder: Path, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """MW-BP with two exits on 8x8 grey images in class folders, some held out."""
    small = open_dataset(f"folder:{tiny_folder}", image_size=8)
    recipe, place = replace(brief, validation=0.2, calibration=0.2), Place(runs=tmp_path_factory.mktemp("runs"))
    return train("resnet8", small, method="mwbp", exits=2, recipe=recipe, place=place)


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
