"""Pages name every field, key, method and section that the code has, and no others."""

import ast
import re
import shlex
import typing
from pathlib import Path

import pytest

from baselines import METHODS
from benchmarks import Handover, Study, read_study
from benchmarks.study.entry import KEYS
from benchmarks.study.study import CLAIM
from benchmarks.study.tuning_grid import Tuning
from compress.cli.app import app
from compress.records import Configuration, Cost, Data, Environment, Record, Results
from compress.schema import Struct
from compress.training import METHODS as TRAININGS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
UNCHECKED = {"config.batch_size", "results.batch_norm", "results.achieved.equals_masked_whole_to", "schema_version"}


def page(name: str) -> str:
    return (DOCS / name).read_text()


def first_cells(text: str) -> list[str]:
    """The names in backticks in the first cells of all rows of a text's tables."""
    return [
        name for cell in re.findall(r"^\| (.+?) \|", text, flags=re.MULTILINE) for name in re.findall("`(.+?)`", cell)
    ]


def fields(kind: typing.Any, prefix: str = "") -> set[str]:
    """The dotted names of all fields of a struct or dataclass, those of structs within it included."""
    found: set[str] = set()
    for name, hint in typing.get_type_hints(kind).items():
        parts = [part for part in (hint, *typing.get_args(hint)) for part in (part, *typing.get_args(part))]
        inner = next((part for part in parts if isinstance(part, type) and _has_fields(part)), None)
        listed = "[]" if typing.get_origin(hint) is tuple or "tuple" in str(hint) else ""
        if inner is None or inner is kind:
            found.add(f"{prefix}{name}")
        else:
            found |= fields(inner, f"{prefix}{name}{listed}.")
    return found


def _has_fields(kind: type) -> bool:
    return issubclass(kind, Struct) or kind.__name__ in ("ObjectiveNumbers", "Recipe")


def test_every_field_of_a_record_is_explained() -> None:
    parts = {"config": Configuration, "data": Data, "environment": Environment, "cost": Cost, "results": Results}
    known = fields(Record) - set(parts) | {name for key, part in parts.items() for name in fields(part, f"{key}.")}
    known -= {"config.recipe.least_steps"}  # not recorded
    named = set(first_cells(page("run-directory.md").partition("## `run.json`")[2]))
    assert named - UNCHECKED - {"results.exits"} == known - UNCHECKED


def test_every_key_of_a_study_is_explained() -> None:
    text = page("studies.md").partition("### Keys of the file")[2]
    of_file, _, rest = text.partition("### Keys of `[[primary]]`")
    of_primary, _, rest = rest.partition("### Keys of `[[run]]`")
    of_run, _, rest = rest.partition("### Keys of `[tuning]`")
    of_tuning, _, of_handover = rest.partition("### Keys of `[handover]`")
    keys = (typing.get_type_hints(Study).keys() - {"runs", "claims"}) | {"run", "runs_of", "primary"}
    assert set(first_cells(of_file)) == keys
    assert set(first_cells(of_primary)) == CLAIM.keys()
    assert set(first_cells(of_run)) == KEYS.keys()
    assert set(first_cells(of_tuning)) == typing.get_type_hints(Tuning).keys()
    assert set(first_cells(of_handover)) == typing.get_type_hints(Handover).keys()


def test_the_study_that_is_shown_is_one(tmp_path: Path) -> None:
    [text] = re.findall(r"```toml\n(.*?)```", page("studies.md"), flags=re.DOTALL)
    (tmp_path / "small.toml").write_text(text)
    assert [run.name for run in read_study(str(tmp_path / "small.toml")).runs] == ["plain", "multi", "pruned"]


def test_every_method_has_its_row() -> None:
    methods = first_cells(page("pruning.md").partition("## Methods")[2].partition("## Budgets")[0])
    assert sorted(name for name in methods if not name.startswith("--")) == sorted(METHODS)
    for name in TRAININGS:
        assert (
            f"`{name}`" in page("report.md") or f"--method {name}`" in page("method.md") or name in ("mwbp", "auxnet")
        )


def test_every_section_of_a_report_is_explained() -> None:
    titles = {
        call.args[0].value
        for module in (DOCS.parent / "benchmarks/report").rglob("*.py")
        for call in ast.walk(ast.parse(module.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Section"
        if isinstance(call.args[0], ast.Constant)
    }
    explained = set(re.findall(r"^##+ (.+)$|\*\*(.+?)\*\*", page("report.md"), flags=re.MULTILINE))
    assert len(titles) > 10
    assert titles <= {title for either in explained for title in either}


@pytest.mark.parametrize("document", [*PAGES, DOCS.parent / "README.md"], ids=lambda path: path.name)
def test_commands_that_are_shown_parse(document: Path) -> None:
    for language, block in re.findall(r"```(\w*)\n(.*?)```", document.read_text(), flags=re.DOTALL):
        for line in [] if language else block.replace("\\\n", "").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["compress"] or {"-m", "compress"} <= set(words):
                arguments = words[words.index("compress") + 1 :]
                app.parse_args(arguments, exit_on_error=False, print_error=False)
