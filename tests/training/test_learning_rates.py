"""Learning-rate schedules and the recipes that name them."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import UsageError
from compress.recipes import RECIPES, Recipe, recipe_named


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"name": "test", "epochs": 10, "fine_tune_epochs": 2, **changes})


def factors(which: Recipe, total: int) -> list[float]:
    """The factor of every step, as the loop asks for it."""
    return [which.rate_factor((step + 0.5) / total) for step in range(total)]


@pytest.mark.parametrize("warmup", [0.1, 0.25, 0.5])
def test_one_cycle_rises_in_a_line_and_falls_in_a_cosine(warmup: float) -> None:
    one_cycle = recipe(schedule="one-cycle", warmup=warmup)
    assert one_cycle.rate_factor(0) == 0
    assert one_cycle.rate_factor(warmup / 2) == pytest.approx(0.5)
    assert one_cycle.rate_factor(warmup) == pytest.approx(1)
    assert one_cycle.rate_factor(warmup - 1e-9) == pytest.approx(1, abs=1e-7)
    middle = warmup + (1 - warmup) / 2
    assert one_cycle.rate_factor(middle) == pytest.approx(0.5)
    assert one_cycle.rate_factor(warmup + (1 - warmup) / 3) == pytest.approx(0.75)
    assert one_cycle.rate_factor(1) == pytest.approx(0, abs=1e-12)
    found = factors(one_cycle, 400)
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert peak == pytest.approx(400 * warmup, abs=1)
    assert min(found) > 0, "no step is wasted at a rate of zero"


def test_the_cosine_falls_from_one_to_zero_whatever_the_warm_up_of_the_recipe() -> None:
    cosine = recipe(schedule="cosine", warmup=0.25)
    assert cosine.rate_factor(0) == 1
    assert cosine.rate_factor(0.5) == pytest.approx(0.5)
    assert cosine.rate_factor(1) == pytest.approx(0, abs=1e-12)
    for progress in (0.1, 0.3, 0.9):
        assert cosine.rate_factor(progress) == pytest.approx((1 + math.cos(math.pi * progress)) / 2)


def test_multi_step_multiplies_by_the_decay_at_every_milestone() -> None:
    steps = recipe(schedule="multi-step", milestones=(0.2, 0.5, 0.75), decay=0.2)
    found = [steps.rate_factor(progress) for progress in (0, 0.19, 0.2, 0.49, 0.5, 0.74, 0.75, 1)]
    assert found == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008])
    assert set(factors(recipe(schedule="multi-step"), 10)) == {1}


@pytest.mark.parametrize("steps_an_epoch", [1, 2, 3, 7, 85, 390, 391])
def test_the_papers_rate_drops_exactly_at_epochs_160_and_240_of_400(steps_an_epoch: int) -> None:
    paper = recipe_named("paper")
    total = paper.epochs * steps_an_epoch
    found = factors(paper, total)
    for epoch, before, after in ((160, 1, 0.1), (240, 0.1, 0.01)):
        assert found[epoch * steps_an_epoch - 1] == pytest.approx(before)
        assert found[epoch * steps_an_epoch] == pytest.approx(after)
    assert sorted(set(found), reverse=True) == pytest.approx([1, 0.1, 0.01])


@pytest.mark.parametrize("steps_an_epoch", [1, 3, 390])
def test_the_papers_fine_tuning_drops_exactly_at_epochs_60_and_80_of_100(steps_an_epoch: int) -> None:
    fine = recipe_named("paper").fine_tuning()
    assert (fine.epochs, fine.learning_rate) == (100, 0.01)
    found = factors(fine, fine.epochs * steps_an_epoch)
    for epoch, before, after in ((60, 1, 0.1), (80, 0.1, 0.01)):
        assert found[epoch * steps_an_epoch - 1] == pytest.approx(before)
        assert found[epoch * steps_an_epoch] == pytest.approx(after)


@given(
    schedule=st.sampled_from(["one-cycle", "cosine", "multi-step"]),
    warmup=st.floats(0, 0.99),
    milestones=st.lists(st.floats(0, 1), max_size=4),
    decay=st.floats(0.01, 1),
    step=st.integers(0, 10**6),
    more=st.integers(1, 10**6),
)
def test_every_factor_is_between_zero_and_one(
    schedule: str, warmup: float, milestones: list[float], decay: float, step: int, more: int
) -> None:
    which = recipe(schedule=schedule, warmup=warmup, milestones=tuple(milestones), decay=decay)
    for done in (step, step + more):  # the scheduler asks for one step after the last, too
        assert 0 <= which.rate_factor((done + 0.5) / (step + more)) <= 1


@pytest.mark.parametrize("total", [1, 2, 5])
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_shortest_trainings_have_a_rate_too(name: str, total: int) -> None:
    assert all(0 < factor <= 1 for factor in factors(recipe_named(name), total))


def test_a_training_may_be_all_warm_up() -> None:
    assert recipe(warmup=1.0).rate_factor(1.0) == pytest.approx(1)


# ----------------------------------------------------------------------------------------------------------- recipes


def test_the_paper_recipe_is_the_authors_protocol() -> None:
    paper = recipe_named("paper")
    assert (paper.epochs, paper.batch_size, paper.learning_rate, paper.weight_decay) == (400, 128, 0.1, 1e-4)
    assert (paper.momentum, paper.nesterov) == (0.9, True)
    assert (paper.crop_padding, paper.flip, paper.label_smoothing, paper.averaging) == (4, "random", 0, "none")
    assert (paper.validation, paper.calibration, paper.select) == (0, 0, "last")


def test_the_imagenet_recipe_is_torchvisions_reference() -> None:
    imagenet = recipe_named("imagenet")
    assert (imagenet.epochs, imagenet.batch_size, imagenet.learning_rate, imagenet.weight_decay) == (90, 256, 0.1, 1e-4)
    assert (imagenet.momentum, imagenet.nesterov, imagenet.averaging, imagenet.label_smoothing) == (
        0.9,
        False,
        "none",
        0,
    )
    assert (imagenet.crop, imagenet.crop_padding, imagenet.flip, imagenet.image_size) == ("resized", 0, "random", 224)
    by_epoch = factors(imagenet, 90 * 3)[::3]
    assert by_epoch == pytest.approx([1.0] * 30 + [0.1] * 30 + [0.01] * 30)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_carries_its_name_and_says_where_it_comes_from(name: str) -> None:
    assert recipe_named(name).name == name
    assert len((RECIPES[name].__doc__ or "").splitlines()) > 1


@pytest.mark.parametrize(
    ("name", "helps"), [("papr", "'paper'"), ("Quick", "'quick'"), ("quik", "'quick'"), ("", "known")]
)
def test_an_unknown_recipe_is_refused_with_the_nearest(name: str, helps: str) -> None:
    with pytest.raises(UsageError) as refused:
        recipe_named(name)
    assert helps in str(refused.value)
    assert repr(name) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_fewer_than_no_epochs_are_refused() -> None:
    with pytest.raises(UsageError, match="epochs"):
        recipe_named("quick", epochs=-1)
    with pytest.raises(UsageError, match="epochs"):
        recipe_named("quick").changed(epochs=-1)


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 0}, {"fine_tune_epochs": 0}, {"select": "best-validation", "validation": 0.0}, {"crop": "resized"}],
)
def test_a_recipe_that_cannot_be_followed_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="recipe test"):
        recipe(**changes)
