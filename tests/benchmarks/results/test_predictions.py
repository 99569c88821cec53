"""Predictions: which test images a run got right is what its record says, or a line on why it is not known."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.results.predictions import of_last_exits, read_right, read_scores
from benchmarks.results.series import series
from compress.errors import UsageError
from compress.runs import Run


def test_what_was_right_is_what_the_record_says(runs: list[Run]) -> None:
    for run in runs:
        _, right = read_right(run)
        assert right.shape == (len(run.exits), 100)
        assert right.mean(axis=1) == pytest.approx([row["test_accuracy"] for row in run.exits], abs=0.011)
    scores, left_out = read_scores(runs)
    assert not left_out
    assert of_last_exits(scores)[series(runs[1])] is scores[series(runs[1]), 2]
    assert {key: one.seeds for key, one in scores.items()} == {
        (series(runs[0]), 1): (0,), (series(runs[1]), 1): (0, 1), (series(runs[1]), 2): (0, 1),
        (series(runs[3]), 1): (0,),
    }  # fmt: skip


def altered(run: Run, path: Path, content: bytes | None) -> Run:
    path.mkdir()
    if content is not None:
        (path / "predictions.npz").write_bytes(content)
    return Run(path, run.record)


def arrays(path: Path, **contents: np.ndarray) -> bytes:
    np.savez(path / "arrays.npz", **contents)  # type: ignore[arg-type]
    return (path / "arrays.npz").read_bytes()


def test_predictions_that_are_not_there_or_not_the_runs_are_named_in_a_line(runs: list[Run], tmp_path: Path) -> None:
    labels, logits = np.arange(100) % 10, np.zeros((1, 100, 10), dtype=np.float16)
    cases = [
        (None, "missing"),
        (b"", "corrupt"),
        (b"PK\x03\x04 no archive", "corrupt"),
        (json.dumps({}).encode(), "corrupt"),
        (arrays(tmp_path, labels=labels), "corrupt .* no item named 'test_labels"),
        (arrays(tmp_path, test_labels=labels[1:], test_logits=logits[:, 1:]), "the run has 1 exit"),
        (arrays(tmp_path, test_labels=labels, test_logits=logits[0]), "the run has 1 exit"),
        (arrays(tmp_path, test_labels=labels, test_logits=1 - 2 * np.eye(10)[labels][None]), "other accuracies"),
    ]
    for position, (content, reason) in enumerate(cases):
        with pytest.raises(UsageError, match=reason) as refused:
            read_right(altered(runs[0], tmp_path / str(position), content))
        assert "\n" not in str(refused.value)
