"""Limits: what runs could not see to is said."""

from collections.abc import Callable
from dataclasses import replace

from benchmarks.report.group import Group
from benchmarks.report.sections.limits import limits_section
from compress.runs import Run
from tests.benchmarks.report.conftest import texts_of


def test_choices_by_the_loss_of_training_images_are_named(runs: list[Run], grouped: Callable[..., Group]) -> None:
    def said(validation: int) -> str:
        data = runs[0].record.data | {"split": runs[0].record.data["split"] | {"validation": validation}}
        changed = [replace(run, record=replace(run.record, data=data)) for run in runs]
        return "\n".join(texts_of(limits_section(grouped(changed))))

    assert "chose on training images" not in said(40)
    assert "chose on training images" in said(0)
