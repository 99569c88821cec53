"""Writes the parts of README.md and docs/ that follow from the code and from reports/: `make docs-generate`.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->`; a test fails when it is stale.
"""

from __future__ import annotations

import ast
import inspect
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
from cyclopts.docs.markdown import generate_markdown_docs

import compress
from benchmarks import COMPARISON, main_table, read_comparison
from benchmarks.report.group import Group
from benchmarks.report.section import Bullets, Table
from benchmarks.report.sections.latency_by_engine import NOISE
from benchmarks.report.sections.primary_contrasts import primary_section
from benchmarks.results.cells import accuracy_cell, exit_name, millions, ratio
from benchmarks.results.latencies import latencies
from benchmarks.statistics.scores import ENOUGH_SEEDS
from compress.cli.app import app
from compress.recipes import RECIPES, Recipe
from compress.records import Record

ROOT = Path(__file__).parents[1]
QUICKSTART, HEADLINE = ROOT / "reports" / "quickstart", ROOT / "reports" / "headline-small"
WINNER = ROOT / "reports" / "replicate-few-images-small"  # where a net with exits beat ResNet-110 and its own trunk
STUDIES = ROOT / "benchmarks" / "study" / "bundled"
FIGURE = QUICKSTART / "accuracy-macs.svg"
COPIED = ROOT / "docs" / "figures" / "quickstart.svg"  # a site holds no files from outside docs/
OUTPUT = ROOT / "docs" / "quickstart-output.txt"  # what `make quickstart` printed, recorded by `make docs-record`
ROWS = 5


def results() -> str:
    """What README.md begins with: where exits won, and the headline; before there are these, the quickstart's table."""
    places = [place for place in (WINNER, HEADLINE) if (place / COMPARISON).exists()] or [QUICKSTART]
    return "\n\n".join(part for place in places for part in _result(place))


def _result(place: Path) -> list[str]:
    """What a report asked and found, as paragraphs."""
    comparison, report = read_comparison(place), place.relative_to(ROOT)
    group = Group.of(comparison.runs, comparison, latencies(comparison.runs))
    claims = _claims(group)
    parts = [f"![{comparison.title}: test accuracy against MACs]({report}/{FIGURE.name})"]
    parts += [comparison.about.strip(), claims] if claims else []
    made = f"The whole report, made from these records by one command: [{report}]({report}/report.md)."
    about = " ".join(filter(None, (_trained(comparison.runs[0].record), _latency(group), made)))
    return [*parts, _markdown(_networks(group)), about]


def _claims(group: Group) -> str:
    """What a study declared and found, as a list; empty where nothing was declared."""
    found = [block for block in getattr(primary_section(group), "blocks", ()) if isinstance(block, Bullets)]
    return "\n".join(f"- {item}" for block in found for item in block.items)


def _networks(group: Group) -> Table:
    """Every network's last exit, and the deepest auxiliary exits, as far as `ROWS` go."""
    last, others = group.last, group.summary[~group.summary["last"]].sort_values("macs", ascending=False)
    shown = pd.concat([last, others.head(max(0, ROWS - len(last)))]).sort_values("macs", ascending=False)
    return Table.of(
        {
            "network": exit_name(row),
            "MACs": millions(row["macs"]),
            "latency": ratio(row.get("latency_ratio_b1")),
            "test accuracy, %": accuracy_cell(row),
            "": "preliminary" if row["n"] < ENOUGH_SEEDS else "",
        }
        for row in shown.to_dict("records")
    )


def _latency(group: Group) -> str:
    """What the latencies are ratios of, and whether they are noisy; empty where none were measured."""
    summary, reference = group.summary, group.reference_row
    if reference is None or "latency_conditions" not in summary or summary["latency_conditions"].isna().all():
        return ""
    noisy = f" **These latencies are noisy**: {NOISE}." if (summary["latency_noisy"] > 0).any() else ""
    conditions = summary["latency_conditions"].dropna().iloc[0]
    return f"Latency: batch 1, {conditions}, as a ratio to {reference['network']}.{noisy}"


def _trained(first: Record) -> str:
    """On what networks were trained, and what a figure of their accuracy is."""
    place, recipe, images = first.environment, first.config["recipe"], first.data["split"]
    hardware = place["gpu"] or f"{place['cpu']}, {place['threads']} thread{'s' * (place['threads'] > 1)}"
    return (
        f"Data set {first.data['name']}: {images['train']:,} training and {images['test']:,} test images; recipe "
        f"`{recipe['name']}`, {first.cost['epochs']} epochs, {place['precision']}. Mean ± half of the 95% interval "
        f"over n seeds (Student's t). Trained on: {hardware}."
    )


def final_table() -> str:
    """The table that ends `compress study quickstart`, from the committed records."""
    comparison = read_comparison(QUICKSTART)
    table = main_table(comparison.runs, comparison.reference)
    return f"```text\n{table.to_string(index=False)}\n```"


def _study(name: str) -> dict[str, Any]:
    """A bundled study as its file has it."""
    return tomllib.loads((STUDIES / f"{name}.toml").read_text())


def quickstart() -> str:
    """What the quickstart trains, and how long that takes."""
    study = _study("quickstart")
    table = Table.of(
        {"run": f"`{entry['name']}`", "command": f"`compress {entry['command']}`", "options": _options(entry)}
        for entry in study["run"]
    )
    return f"> {study['about'].strip()}\n>\n> Takes {study['takes']}.\n\n{_markdown(table)}"


def _options(entry: dict[str, Any]) -> str:
    given = [(key, value) for key, value in entry.items() if key not in ("name", "command")]
    return ", ".join(f"{key.replace('_', '-')} {value}" for key, value in given)


def takes() -> str:
    """How long the quickstart takes."""
    return f"After installation it takes {_study('quickstart')['takes']}."


def output() -> str:
    """What the quickstart printed when it was last recorded, if it was."""
    return f"```text\n{OUTPUT.read_text().strip()}\n```" if OUTPUT.exists() else ""


def studies() -> str:
    """The bundled studies: their titles, and how long they take."""
    read = {file.stem: _study(file.stem) for file in sorted(STUDIES.glob("*.toml"))}
    return _markdown(
        Table.of(
            {"name": f"`{name}`", "title": study["title"], "takes": study["takes"]} for name, study in read.items()
        )
    )


def recipes() -> str:
    """The named recipes, a column each."""
    cells = {f"`{name}`": _recipe_cells(make()) for name, make in RECIPES.items()}
    quantities = list(next(iter(cells.values())))
    columns = {name: list(column.values()) for name, column in cells.items()}
    return _markdown(Table({"": quantities} | columns))


def _recipe_cells(recipe: Recipe) -> dict[str, str]:
    """What a recipe says, in words."""
    steps = ", ".join(f"{share:.2g}" for share in recipe.milestones)
    crop = f"{recipe.crop}, {recipe.crop_padding} pixels" if recipe.crop_padding else recipe.crop
    augmented = recipe.flip != "none" or recipe.crop_padding or recipe.crop == "resized"
    return {
        "epochs": str(recipe.epochs),
        "batch size": str(recipe.batch_size),
        "learning rate": f"{recipe.learning_rate:g}",
        "schedule": recipe.schedule + (f" (x {recipe.decay:g} at {steps})" if steps else ""),
        "weight decay": f"{recipe.weight_decay:g}",
        "augmentation": f"crop ({crop}), mirroring ({recipe.flip})" if augmented else "none",
        "held out: validation, calibration": f"{recipe.validation:.0%}, {recipe.calibration:.0%}",
        "fine-tuning: epochs, learning rate": f"{recipe.fine_tune_epochs}, {recipe.fine_tune_learning_rate:g}",
    }


def python_names() -> str:
    """The public names of `compress`, each with the first line of its docstring."""
    lines = {name: inspect.getdoc(getattr(compress, name)) or "" for name in compress.__all__}
    lines["RECIPES"] = "The functions that return the named recipes, by name."
    return _markdown(Table.of({"name": f"`{name}`", "": text.partition("\n")[0]} for name, text in lines.items()))


def layers() -> str:
    """The layers that import-linter checks, top down, each module with the first line of its docstring."""
    [contract] = [
        contract
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    modules = [layer.split(" | ") for layer in contract["layers"]]
    return _markdown(Table.of({"layer": f"`{name}`", "": _first_line(name)} for layer in modules for name in layer))


def _first_line(module: str) -> str:
    path = ROOT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n")[0]


def commands() -> str:
    """The reference of the command line, from the options' own help."""
    with patch.object(sys, "argv", ["compress"]):  # from which cyclopts takes what a usage line begins with
        return generate_markdown_docs(app, heading_level=2, generate_toc=False, no_root_title=True).strip()


def _markdown(table: Table) -> str:
    rules = ["---:" if table.numeric(heading) else "---" for heading in table.columns]
    lines = [[*table.columns], rules, *(row.values() for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"results": results, "takes": takes},
    "docs/quickstart.md": {"quickstart": quickstart, "output": output, "final table": final_table},
    "docs/studies.md": {"studies": studies},
    "docs/using.md": {"recipes": recipes, "public names": python_names},
    "docs/cli.md": {"commands": commands},
    "docs/architecture.md": {"layers": layers},
}


def generated(page: str) -> str:
    """The text of a page with all its generated parts as they should be."""
    text = (ROOT / page).read_text()
    for name, make in PARTS[page].items():
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end of {name} -->"
        assert text.count(begin) == text.count(end) == 1, f"{page} has no part {name}, or has it twice"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}{make()}\n{end}{rest.partition(end)[2]}"
    return text


def main() -> None:
    """Write every generated part, and copy the figure."""
    for page in PARTS:
        (ROOT / page).write_text(generated(page))
    shutil.copyfile(FIGURE, COPIED)


if __name__ == "__main__":
    main()
