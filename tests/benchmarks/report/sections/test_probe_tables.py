"""Probe tables: what was measured is shown, and shallow blocks are compared image by image and seed by seed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import probe, probe_tables, read_probes, write_probe_figure
from benchmarks.report.group import Group
from benchmarks.report.section import Text
from benchmarks.report.sections.probe_tables import probes_section, shallow_comparison
from compress.runs import Run


def test_the_tables_say_what_was_measured(reopened: list[Run], grouped: Callable[..., Group], tmp_path: Path) -> None:
    assert probes_section(grouped([Run(tmp_path, reopened[0].record)])) is None
    document, *_ = probe(reopened)
    section = probes_section(grouped(reopened))
    assert section is not None
    assert section.blocks[0] == Text("On 40 validation images.")
    blocks, retrained = read_probes(reopened)
    networks, shallow = probe_tables(blocks, retrained)
    assert list(networks.columns) == ["measure", "ResNet-14", "ResNet-8", "MwResNet-8-2"]
    half = networks.set_index("measure").loc["probe after 1/2 of the blocks, %"]
    assert half["ResNet-14"] == f"{100 * document['blocks'][2]['probe_accuracy']:.1f}"
    assert list(zip(shallow["network"], shallow["compared with"], strict=True)) == [
        ("ResNet-8", "ResNet-14"),
        ("MwResNet-8-2", "ResNet-14"),
        ("MwResNet-8-2", "ResNet-8"),
    ]
    assert write_probe_figure(blocks, retrained, tmp_path / "figure" / "probe").exists()


def probed(right: Sequence[Sequence[int]]) -> pd.DataFrame:
    """Three blocks of a plain network and of one by MW-BP, whose first block is right so, seed by seed."""
    plain = [1, 0, 0, 1, 1, 0]
    return pd.DataFrame(
        [
            {
                **dict.fromkeys(("series", "network", "method"), name),
                "run": f"{name} {seed}",
                "seed": seed,
                "kind": "train",
                "blocks": 3,
                "position": block / 3,
                "right": np.array((answers if block == 1 else plain) * 20, dtype=bool),
            }
            for seed, own in enumerate(right)
            for name, answers in (("bp", plain), ("mwbp", list(own)))
            for block in (1, 2, 3)
        ]
    )


@pytest.mark.parametrize(
    ("right", "verdict"),
    [([1, 1, 1, 1, 1, 0], "stronger"), ([0, 0, 0, 1, 0, 0], "weaker"), ([1, 0, 1, 0, 1, 0], "no difference shown")],
)
def test_shallow_blocks_are_compared_image_by_image(right: list[int], verdict: str) -> None:
    """Only the first third counts; the plain network is right about one image in two."""
    columns = shallow_comparison(probed([right] * 3)).columns
    assert columns["shallow blocks"] == [verdict]
    assert columns["difference, points"] == [f"{100 * (np.mean(right) - 0.5):+.1f}"]
    assert shallow_comparison(probed([right] * 2)).columns["shallow blocks"] == [f"{verdict} (preliminary)"]
    assert shallow_comparison(probed([right])).columns["shallow blocks"] == [f"these two trained networks: {verdict}"]


def test_trainings_that_disagree_widen_the_interval() -> None:
    """A verdict from one training alone would not have survived another one."""
    seeds = [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 0, 0, 1, 0, 0]]
    assert shallow_comparison(probed(seeds)).columns["shallow blocks"] == ["no difference shown"]
