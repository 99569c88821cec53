"""The command's entrance: it starts with its own companions alone, and says readably when it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compress.__main__ import COMPANIONS, HOME, main
from compress.home import settle


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that Python searches before all others, with no companion imported yet."""
    monkeypatch.syspath_prepend(tmp_path)
    for package in COMPANIONS:
        monkeypatch.delitem(sys.modules, package, raising=False)
    return tmp_path


def write(file: Path) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise RuntimeError('somebody else ran')")
    return file


def test_command_refuses_a_foreign_package_in_the_working_directory(tmp_path: Path) -> None:
    package = COMPANIONS[-1]
    foreign = write(tmp_path / package / "__init__.py")
    # With -m the working directory comes first, so `package` is found there and `compress` in HOME.
    result = subprocess.run(
        [sys.executable, "-m", "compress", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(HOME)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"compress: the package {package!r} that Python finds is another one, {foreign}")


@pytest.mark.parametrize("file", ["baselines/__init__.py", "benchmarks.py"])
def test_foreign_package_or_module_is_named_and_not_run(
    file: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign, package = write(folder / file), file.partition("/")[0].removesuffix(".py")
    assert main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{package!r} that Python finds is another one, {foreign}, not that of {HOME}: rename" in line


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("compress.__main__.COMPANIONS", ("absent",))
    assert main() == 2
    assert capsys.readouterr().err == (
        f"compress: the package 'absent' is missing from {HOME}: install multiway-compress again\n"
    )


def test_folder_that_takes_a_missing_packages_place_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "absent").mkdir()
    monkeypatch.setattr("compress.__main__.COMPANIONS", ("absent",))
    assert main() == 2
    assert f"is another one, {folder / 'absent'}, not" in capsys.readouterr().err


def test_own_packages_lead_to_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "benchmarks").mkdir()  # no package without an __init__.py: ours, found later, is taken
    monkeypatch.setattr("compress.cli.app.main", lambda: 7)
    assert main() == 7


HOMELESS = """
import pwd, sys
def no_account(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = no_account
from compress.__main__ import main
for words in {commands!r}:
    sys.argv = ["compress", *words]
    print("status", main())
"""


def test_a_user_without_an_account_or_a_home_can_train(tiny_folder: Path, tmp_path: Path) -> None:
    small = ["--arch", "resnet8", "--epochs", "1", "--dataset", f"folder:{tiny_folder}"]
    commands = [["data"], ["train", *small, "--stream", "--workers", "0"], ["bench", "nothing"]]
    result = subprocess.run(
        [sys.executable, "-c", HOMELESS.replace("{commands!r}", repr(commands))],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    statuses = [line for line in result.stdout.splitlines() if line.startswith("status")]
    assert statuses == ["status 0", "status 0", "status 2"], result.stderr
    assert "Traceback" not in result.stderr
    assert "matplotlib" not in result.stderr.lower()


def test_a_home_that_is_not_there_is_no_place_for_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settle()
    assert os.environ["HOME"] == str(tmp_path / "nowhere")
    assert Path(os.environ["MPLCONFIGDIR"]).parent == tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "compress: interrupted; a run that had begun goes on by the same command\n"),
        (("3 of 85 runs are done",), "compress: interrupted; 3 of 85 runs are done\n"),
    ],
)
def test_an_interruption_is_one_line(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt(*words)

    monkeypatch.setattr("compress.cli.app.main", interrupted)
    assert main() == 130
    assert capsys.readouterr().err == said
