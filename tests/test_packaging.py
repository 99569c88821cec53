"""The wheel holds the three packages with their data alone; their files have names and sizes to be found and read."""

import ast
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import compress

ROOT = Path(__file__).parents[1]
INFO = f"multiway_compress-{compress.__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The contents of the wheel, built for real from this checkout."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    result = subprocess.run(build, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (file,) = out.iterdir()
    return zipfile.Path(file)


def test_wheel_holds_the_three_packages_alone(wheel: zipfile.Path) -> None:
    assert {entry.name for entry in wheel.iterdir()} == {"compress", "baselines", "benchmarks", INFO}


@pytest.mark.parametrize(
    "file",
    [
        "compress/data/fashion_mini.npz",
        "compress/data/FASHION-MNIST-LICENSE",
        "compress/export/predict.py",
        "compress/py.typed",
        "compress/__init__.pyi",
        "benchmarks/report/page.html",
        "benchmarks/study/bundled/quickstart.toml",
        f"{INFO}/licenses/LICENSE",
    ],
)
def test_wheel_holds_data_and_licences_unchanged(wheel: zipfile.Path, file: str) -> None:
    assert (wheel / file).read_bytes() == (ROOT / file.removeprefix(f"{INFO}/licenses/")).read_bytes()


def test_wheel_installs_the_command(wheel: zipfile.Path) -> None:
    assert "compress = compress.__main__:main" in (wheel / INFO / "entry_points.txt").read_text()


def test_no_two_library_files_share_a_name() -> None:
    files = [file for package in ("compress", "baselines", "benchmarks") for file in (ROOT / package).rglob("*.py")]
    names = Counter(file.name for file in files)
    assert sorted(name for name, count in names.items() if count > 1) == ["__init__.py", "__main__.py"]


def test_no_package_has_a_name_that_is_its_modules_too() -> None:
    """Whichever is imported first would be what the name means."""
    stubs = [stub for package in ("compress", "benchmarks") for stub in (ROOT / package).rglob("__init__.pyi")]
    listed = [(stub, line) for stub in stubs for line in ast.parse(stub.read_text()).body]
    names = {(stub, line.module): line.names for stub, line in listed if isinstance(line, ast.ImportFrom)}
    assert len(names) > 50
    assert [(stub, module) for (stub, module), given in names.items() if module in {each.name for each in given}] == []


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for package in ("compress", "baselines", "benchmarks", "docs", "tests"):
        for file in (ROOT / package).rglob("*.py"):
            lines = file.read_text().splitlines()
            assert len(lines) <= 350, f"{file}: {len(lines)} lines"
            for node in ast.walk(ast.parse("\n".join(lines))):
                if isinstance(node, ast.FunctionDef):
                    yield f"{file.relative_to(ROOT)}: {node.name}", node


def test_files_functions_and_signatures_are_of_a_size_to_be_read() -> None:
    for name, function in functions():
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= 60, f"{name} has {length} lines"
        given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        parameters = [argument for argument in given if argument.arg not in ("self", "cls")]
        assert len(parameters) <= 8, f"{name} has {len(parameters)} parameters"
