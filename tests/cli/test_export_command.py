"""`compress export`: what it prints, and that the line to try works."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from compress import Place
from compress.data import open_dataset
from compress.recipes import Recipe
from compress.training import train


def test_the_command_prints_the_files_the_accuracy_and_a_line_to_try(
    compress: Callable[..., tuple[int, str, str]],
    refused: Callable[..., str],
    tiny_folder: Path,
    brief: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = train(
        "resnet8", open_dataset(f"folder:{tiny_folder}", image_size=8), recipe=brief, place=Place(runs=tmp_path)
    )
    monkeypatch.chdir(tmp_path)
    out = Path("bundle")
    status, said, _ = compress("export", f"{run.id}:1", "--runs", tmp_path, "--out", out, "--format", "pt2")
    assert status == 0
    *files, accuracy, line = said.splitlines()
    assert [Path(row.split()[-1]).name for row in files] == sorted(file.name for file in out.iterdir())
    assert f"{run.exits[0]['test_accuracy']:.2%}" in accuracy
    assert line == f"try it: python {out / 'predict.py'} photo.jpg"
    assert "is not empty" in refused("export", run.id, "--runs", tmp_path, "--out", out)
    status, said, _ = compress("export", run.id, "--runs", tmp_path, "--out", "other", "--format", "pt2", "--json")
    assert json.loads(said)["manifest"] == json.loads(Path("other/bundle.json").read_text())
