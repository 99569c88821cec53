"""What tests of selection share: runs that may be spoilt, and what was chosen."""

import shutil
from pathlib import Path

import pytest

from benchmarks import Selection
from compress.runs import Run


@pytest.fixture
def directory(reopened: list[Run], tmp_path: Path) -> Path:
    """Copies of the runs, which may be spoilt."""
    for run in reopened:
        shutil.copytree(run.path, tmp_path / "runs" / run.id)
    return tmp_path / "runs"


def chosen(selection: Selection) -> str:
    assert selection.chosen is not None
    return str(selection.chosen)
