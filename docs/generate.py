"""Writes the parts of README.md and docs/ that follow from the code and from reports/quickstart: `make docs-generate`.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->`; a test fails when it is stale.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import pandas as pd
from cyclopts.docs.markdown import generate_markdown_docs

from benchmarks import main_table, read_comparison, read_study
from benchmarks.results.cells import accuracy_cell, exit_name, markdown, millions, ratios
from benchmarks.results.rows import rows, summarise
from benchmarks.statistics.scores import ENOUGH_SEEDS
from compress.cli.commands import app
from compress.recipes import RECIPES, Recipe
from compress.runs import Run

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "reports" / "quickstart"
FIGURE = QUICKSTART / "accuracy-macs.svg"
COPIED = ROOT / "docs" / "figures" / "quickstart.svg"  # a site holds no files from outside docs/
OUTPUT = ROOT / "docs" / "quickstart-output.txt"  # what `make quickstart` printed once, on stderr and stdout
ROWS = 5


def results_table() -> str:
    """The five rows of README.md: every network of reports/quickstart, then the deepest of its auxiliary exits."""
    runs = read_comparison(QUICKSTART).runs
    summary = summarise(rows(runs))
    auxiliary = summary[~summary["last"]].sort_values("macs", ascending=False)
    shown = pd.concat([summary[summary["last"]], auxiliary]).head(ROWS).sort_values("macs", ascending=False)
    table = pd.DataFrame(
        {
            "network": shown.apply(exit_name, axis=1),
            "MACs": shown["macs"].map(millions),
            "latency": ratios(shown["latency_ratio_b1"]),
            "test accuracy, %": shown.apply(accuracy_cell, axis=1),
            "": shown["n"].map(lambda seeds: "preliminary" if seeds < ENOUGH_SEEDS else ""),
        }
    )
    return f"{markdown(table)}\n\n{_conditions(runs)}"


def _conditions(runs: Sequence[Run]) -> str:
    """What was trained and measured, on what."""
    first = runs[0].record
    place, recipe, images = first.environment, first.config["recipe"], first.data["split"]
    hardware = place["gpu"] or f"{place['cpu']}, {place['threads']} threads"
    return (
        f"Data set {first.data['name']}: {images['train']:,} training and {images['test']:,} test images; recipe "
        f"`{recipe['name']}`, {first.cost['epochs']} epochs, {place['precision']}. Mean ± half of the 95% interval "
        f"over n seeds (Student's t). Latency: batch 1, one thread, eager fp32, as a ratio to the first row's. Trained "
        f"and measured on: {hardware}."
    )


def final_table() -> str:
    """The table that ends `compress study quickstart`, from the committed records."""
    comparison = read_comparison(QUICKSTART)
    assert comparison.reference is not None
    table = main_table(list(comparison.runs), comparison.reference)
    return f"```text\n{table.to_string(index=False)}\n```"


def study_summary() -> str:
    """What the quickstart trains, and how long that takes."""
    study = read_study("quickstart")
    entries = pd.DataFrame({"run": [f"`{entry.name}`" for entry in study.runs]})
    entries["command"] = [f"`compress {entry.command}`" for entry in study.runs]
    return f"> {study.about.strip()}\n>\n> Takes {study.takes}.\n\n{_left_aligned(entries)}"


def takes() -> str:
    """How long the quickstart takes."""
    return f"After installation it takes {read_study('quickstart').takes}."


def output() -> str:
    """What the quickstart printed when it was last recorded, if it was."""
    if not OUTPUT.exists():
        return ""
    return f"```text\n{OUTPUT.read_text().strip()}\n```"


def recipes_table() -> str:
    """The named recipes, a column each."""
    recipes = [make() for make in RECIPES.values()]
    table = pd.DataFrame({"": list(_recipe_cells(recipes[0]))})
    for recipe in recipes:
        table[f"`{recipe.name}`"] = list(_recipe_cells(recipe).values())
    return _left_aligned(table)


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
        "fine-tuning": f"{recipe.fine_tune_epochs} epochs at {recipe.fine_tune_learning_rate:g}",
    }


def commands() -> str:
    """The reference of the command line, from the options' own help."""
    with patch.object(sys, "argv", ["compress"]):  # from which cyclopts takes what a usage line begins with
        return generate_markdown_docs(app, heading_level=2, generate_toc=False, no_root_title=True).strip()


def _left_aligned(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"results": results_table, "takes": takes},
    "docs/quickstart.md": {"study": study_summary, "output": output, "table": final_table},
    "docs/using.md": {"recipes": recipes_table},
    "docs/cli.md": {"commands": commands},
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
