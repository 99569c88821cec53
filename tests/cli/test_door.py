"""The door: help, versions, the list of data sets and one-line errors come without the libraries that compute."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOR_COMMANDS = {"attr", "attrs", "compress", "cyclopts", "docstring_parser", "lazy_loader", "rich", "typing_extensions"}
FOR_OPTIONS = FOR_COMMANDS | {"baselines", "filelock", "msgspec"}
HELP = [
    [command, "--help"] for command in ("train", "train-mwbp", "prune", "bench", "probe", "study", "report", "data")
]
SHOWN = [["data"], ["data", "--json"], ["prune", "--list-methods"]]
REFUSED = [
    ["trian"],
    ["train", "--arhc", "resnet8"],
    ["train", "--arch", "resnet21"],
    ["train", "--arch", "resmet20"],
    ["train", "--width", "x"],
    ["train", "--widths", "1,2"],
    ["train", "--dataset", "cifra10"],
    ["train", "--dataset", "folder:nowhere"],
    ["train", "--data-dir", "nowhere"],
    ["train", "--recipe", "qick"],
    ["train", "--epochs", "many"],
    ["train", "--epochs", "0"],
    ["train", "--seed", "-1"],
    ["train", "--precision", "fp8"],
    ["train", "--teacher", "nobody"],
    ["train-mwbp", "--method", "mwpb"],
    ["train-mwbp", "--gamma", "none"],
    ["train-mwbp", "--method", "frozen-trunk", "--trunk", "nothing"],
    ["prune"],
    ["prune", "--speedup", "fast"],
    ["prune", "--speedup", "0.5"],
    ["prune", "--ratio", "0.5", "--macs", "1e6"],
    ["prune", "--match", "nothing:2"],
    ["prune", "--speedup", "2", "--method", "l3"],
    ["prune", "--speedup", "2", "--gradual"],
    ["prune", "--speedup", "2", "--from", "nothing"],
    ["prune", "--speedup", "2", "--learning-rate", "0"],
    ["bench"],
    ["bench", "nothing"],
    ["bench", "nothing", "--batch-size", "some"],
    ["probe", "nothing"],
    ["report", "nowhere"],
    ["data", "folder:nowhere"],
    ["data", "cifar10"],
]
# Runs command lines one after another; prints, after each, its status and which packages have been imported so far.
RUN = """
import json, sys
from compress.__main__ import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["compress", *words]
    status = main()
    packages = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
    print(json.dumps([words, status, sorted(packages)]), file=sys.stderr)
"""


def imported(lines: list[list[str]], directory: Path) -> list[tuple[list[str], int, set[str]]]:
    """Each command line with its status and the packages that it, and those before it, have imported."""
    command = [sys.executable, "-c", RUN, json.dumps(lines)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory, check=True)
    answers = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[[")]
    assert len(answers) == len(lines), done.stderr
    return [(words, status, set(packages)) for words, status, packages in answers]


@pytest.mark.parametrize("line", [["--help"], ["--version"]])
def test_help_and_version_import_what_reads_a_command_line(line: list[str], tmp_path: Path) -> None:
    [(_, status, packages)] = imported([line], tmp_path)
    assert status == 0
    assert packages - {"__main__", "aa_here", "zz_base"} <= FOR_COMMANDS


@pytest.mark.parametrize(("lines", "wanted"), [(HELP + SHOWN, 0), (REFUSED, 2)], ids=["shown", "refused"])
def test_what_computes_nothing_imports_nothing_that_computes(
    lines: list[list[str]], wanted: int, tmp_path: Path
) -> None:
    for words, status, packages in imported(lines, tmp_path):
        assert (words, status) == (words, wanted)
        assert packages - {"__main__", "aa_here", "zz_base"} <= FOR_OPTIONS, words


def test_importing_the_packages_imports_no_library_that_computes() -> None:
    program = "import sys, compress, baselines, benchmarks; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "scipy", "matplotlib", "bokeh"} & set(done.stdout.split())
