"""The tutorial on photos: its blocks are run as they stand there, in order, the last one where there is no PyTorch."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from compress.cli.app import main

PAGE = (Path(__file__).parents[2] / "docs" / "own-photos.md").read_text()
NO_TORCH = 'import runpy, sys; sys.modules["torch"] = sys.modules["compress"] = None; sys.argv = sys.argv[1:]; '
NO_TORCH += 'runpy.run_path(sys.argv[0], run_name="__main__")'


def test_a_folder_of_photos_becomes_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = []
    for language, block in re.findall(r"```(\w*)\n(.*?)```", PAGE, flags=re.DOTALL):
        if language == "python":
            exec(block, {})
        for line in [] if language else block.splitlines():
            commands.append(line)
            words = shlex.split(line)
            if words[0] == "compress":
                assert main(words[1:]) == 0, (line, capsys.readouterr().err)
            elif words[0] == "python":
                command = [sys.executable, "-c", NO_TORCH, *words[1:]]
                done = subprocess.run(command, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [Path(path) for path, _, _ in rows] == sorted(Path("new").iterdir())
    assert {label for _, label, _ in rows} <= {path.name for path in Path("photos").iterdir()}
    assert [line.split()[:2] for line in commands if line.startswith("compress")] == [
        ["compress", name] for name in ("data", "train-mwbp", "select", "exits")
    ]
