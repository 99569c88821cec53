"""A budget that is another entry's MACs: one for all seeds, so that what is matched is one network in a report."""

from pathlib import Path

from benchmarks import run_study
from benchmarks.results.series import series
from tests.benchmarks.study.conftest import DEEP, HEAD, Settings

STUDY = f"""
{HEAD}
seeds = [0, 1, 2]
run = [
    {DEEP},
    {{name = "half", command = "prune", from = "deep", method = "random", ratio = 0.5}},
    {{name = "matched", command = "prune", from = "deep", method = "l1", nearest = true, match = "half"}},
]
"""


def test_what_is_matched_with_a_pruned_network_is_one_network_for_all_seeds(settings: Settings, tmp_path: Path) -> None:
    made = run_study(settings(STUDY, tmp_path), out=tmp_path / "out", report=False)
    half, matched = ([run for run in made if run.record.method == method] for method in ("random", "l1"))
    macs = [run.exits[-1]["macs"] for run in half]
    assert len({*macs}) > 1, "pruned at random, networks of several seeds differ"
    assert [run.record.results["requested"] for run in matched] == [{"macs": macs[0]}] * 3
    assert len({series(run) for run in matched}) == 1
