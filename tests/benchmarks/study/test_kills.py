"""What the benchmark of kills says of them: which hit a run, and what differs afterwards."""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from benchmarks.study.kills import begun_again, differences, main, repeated, summary, under_way
from benchmarks.study.rehearsal import BUCKET

LOG = """planning: a few steps of every kind of network are timed
Ray: 2 nodes, 2 runs at once, 1 CPUs and 0 GPUs each
plain, seed 0: on host
multi, seed 0: on host
[1/3] plain, seed 0: resnet8_fashion-mini_s0_1; about 3 s left for all
"""


def test_a_run_is_under_way_from_its_beginning_to_its_outcome() -> None:
    assert under_way("") == under_way("planning: a few steps") == []
    assert under_way(LOG) == ["multi, seed 0"]
    assert under_way(f"{LOG}did not run: multi, seed 0: disk full\n") == []
    assert under_way(f"{LOG}multi, seed 0: on host\n") == ["multi, seed 0"]


def test_a_run_that_lost_its_node_begins_again() -> None:
    assert begun_again(f"{LOG}l1 at speedup 1.5, seed 0: on host\n") == []
    assert begun_again(f"{LOG}multi, seed 0: on host\n") == ["multi, seed 0"]


def test_kills_that_hit_nothing_are_told_from_those_that_did() -> None:
    def row(killed: str, hit: list[str], status: int = 0) -> dict[str, Any]:
        return {"killed": killed, "hit": hit, "status": status, "differences": [], "repeated": []}

    rows = [row("node", ["plain"]), row("node", []), row("command", ["multi"]), row("store 60", ["multi"], 1)]
    said = "4 times, 3 kills hit a run under way (1 of a node, 1 of a command, 1 of a store): 3 ended with the same"
    assert summary(rows).startswith(said)
    assert "0 kills hit a run under way (none)" in summary([row("node", [])])


def write_run(place: Path, rate: float, seconds: float) -> None:
    (place / "run").mkdir(parents=True)
    record: dict[str, Any] = dict.fromkeys(("status", "config", "results", "command", "parent", "spec"))
    (place / "run" / "run.json").write_text(json.dumps({**record, "cost": {"epochs": 3}}))
    for file in ("model.safetensors", "predictions.npz"):
        (place / "run" / file).write_bytes(b"")
    line = {"epoch": 1, "rate": rate, "seconds": seconds, "images_per_second": 1 / seconds, "load": 2 * seconds}
    (place / "run" / "metrics.jsonl").write_text(json.dumps(line) + "\n")


def test_epochs_have_to_be_the_same_but_for_their_seconds(tmp_path: Path) -> None:
    for name, rate, seconds in (("expected", 0.1, 1), ("same", 0.1, 2), ("other", 0.2, 1)):
        write_run(tmp_path / name, rate, seconds)
    assert differences(tmp_path / "same", tmp_path / "expected") == []
    assert differences(tmp_path / "other", tmp_path / "expected") == ["run: metrics.jsonl differs"]


@pytest.mark.parametrize(("written", "cut_off", "wrong"), [(4, 0, 0), (5, 0, 1), (5, 1, 0), (6, 1, 1), (3, 1, 1)])
def test_a_checkpoint_is_written_twice_only_where_the_store_died(
    written: int, cut_off: int, wrong: int, tmp_path: Path
) -> None:
    write_run(tmp_path / BUCKET / "kill", 0.1, 1)
    writes = Counter({"kill/run/checkpoint/last.pt": written})
    rehearsal = Mock(store=Mock(folder=tmp_path, writes=lambda: writes))
    assert len(repeated(rehearsal, "kill", cut_off=cut_off)) == wrong


def test_its_help_says_what_a_hit_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "One hits where a run was under way" in said
    assert "--what {node,command}" in said
