"""Captured steps of exit training on a GPU are the steps that run eagerly. Not run on a GPU yet."""

import pytest

from compress.data import Dataset
from compress.training.capture import Steps
from tests.training.step_cases import assert_same, course_of
from tests.training.test_exit_training import VARIANTS, training_of

pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("variant", VARIANTS)
def test_replayed_steps_equal_eager_ones(variant: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.training.loop.steps_to_settle", lambda network: 0.0)
    eager, captured = (training_of(tiny, "cuda", capture=False, **VARIANTS[variant]) for _ in range(2))
    captured.stepping = Steps(captured.stepping.step, eager=None, plain=captured.network)  # blocks are not compiled
    assert_same(course_of(captured), course_of(eager))
    assert captured.stepping.captured
    assert not eager.stepping.captured
