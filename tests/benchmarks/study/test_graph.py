"""The graph of a study: what runs wait for stands before them, and what the claims need before all else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.study.graph import graph
from benchmarks.study.study import read_study
from benchmarks.study.study_file import BUNDLED

CLAIMED = """
title = "Claims"
about = "What is claimed needs two runs, what these start from, and the reference."
takes = "nothing"
dataset = "mnist"
recipe = "quick"
seeds = [3, 5]
reference = "shallow"

[[primary]]
claim = "Deep beats pruned"
of = "deep"
against = "pruned"

[[run]]
name = "shallow"
command = "train"
arch = "resnet8"

[[run]]
name = "beside"
command = "train"
arch = "resnet14"

[[run]]
name = "large"
command = "train"
arch = "resnet32"

[[run]]
name = "deep"
command = "train"
arch = "resnet20"

[[run]]
name = "pruned"
command = "prune"
from = "large"
match = "deep"
"""


def test_what_the_claims_need_comes_first_for_every_seed(tmp_path: Path) -> None:
    path = tmp_path / "claimed.toml"
    path.write_text(CLAIMED)
    assert [(node.entry.name, node.seed) for node in graph(read_study(str(path)))] == [
        *(("shallow", 3), ("large", 3), ("deep", 3), ("pruned", 3)),
        *(("shallow", 5), ("large", 5), ("deep", 5), ("pruned", 5)),
        *(("beside", 3), ("beside", 5)),
    ]


@pytest.mark.parametrize("name", sorted(Path(file.name).stem for file in BUNDLED.iterdir()))
def test_bundled_studies_put_every_run_behind_what_it_starts_from(name: str) -> None:
    nodes = graph(read_study(name))
    assert len(set(nodes)) == len(nodes)
    for position, node in enumerate(nodes):
        named = {source.name for _, source in node.entry.sources}
        assert named <= {before.entry.name for before in nodes[:position] if before.seed == node.seed}
