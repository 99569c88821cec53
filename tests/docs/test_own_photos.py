"""The tutorial on photos: its blocks are run as they stand there, in order; bundles where there is no torch."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from compress.cli.app import main
from compress.export import read_bundle

PAGE = (Path(__file__).parents[2] / "docs" / "own-photos.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = [shlex.split(line) for language, block in BLOCKS if not language for line in block.splitlines()]
NO_TORCH = (  # python SCRIPT ARGUMENT..., where neither torch nor this package can be imported
    'import os, runpy, sys; sys.modules["torch"] = sys.modules["compress"] = None; sys.argv = sys.argv[1:]; '
    'sys.path[0] = os.path.dirname(sys.argv[0]); runpy.run_path(sys.argv[0], run_name="__main__")'
)


def test_the_page_shows_the_whole_way() -> None:
    names = [words[1] for words in COMMANDS if words[0] == "compress"]
    assert names == ["data", "train-mwbp", "select", "exits", "export"]
    assert [words[1] for words in COMMANDS if words[0] == "python"] == ["bundle/predict.py", "cascade/predict.py"]
    assert {words[0] for words in COMMANDS} == {"compress", "python", "pip"}


def test_a_folder_of_photos_becomes_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    [write_photos] = [block for language, block in BLOCKS if language == "python"]
    exec(write_photos, {})
    for command, *words in COMMANDS:
        if command == "compress":
            assert main(words) == 0, (words, capsys.readouterr().err)
        elif command == "python":
            done = subprocess.run([sys.executable, "-c", NO_TORCH, *words], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            rows = [line.split("\t") for line in done.stdout.splitlines()]
            assert [Path(path) for path, *_ in rows] == sorted(Path("new").iterdir())
            assert {label for _, label, *_ in rows} == {path.name for path in Path("photos").iterdir()}
    assert "certified: accuracy drop at most 5 points with 95% confidence" in capsys.readouterr().out
    assert [read_bundle(name).manifest["kind"] for name in ("bundle", "cascade")] == ["model", "cascade"]
