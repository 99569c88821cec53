"""Groups are measured one by one, and the widths that follow for a budget are the greedy best."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from baselines.channels import ascending, remove_channels
from baselines.coupling import Coupling
from baselines.criteria import channel_scores
from baselines.removal_order import Removed, Size
from baselines.scoring_data import ScoringData
from baselines.sensitivity import IMAGES, Sensitivity, _alone, allocate, measure, widths_of
from compress.data import Dataset, Labelled, normalise, split
from compress.documents import read_json
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import Network, create
from compress.runs import LOCK
from compress.training.batchnorm import reestimate
from compress.training.objectives import mwbp


def sensitivity_of(units: Removed, *losses: tuple[float, ...], whole: float = 1.0) -> Sensitivity:
    return Sensitivity(units=units, losses=losses, whole=whole, macs=0, seconds=0.0)


HAND_MADE = sensitivity_of((4, 4), (2.1, 2.3, 3.0), (2.001, 2.02, 2.5), whole=2.0)


def linear(*macs: int) -> Callable[[Removed], Size]:
    """A network each of whose channels costs so much, by group."""

    def size(removed: Removed) -> Size:
        left = 10_000 - sum(gone * each for gone, each in zip(removed, macs, strict=True))
        return Size(macs=left, params=left)

    return size


def test_the_least_rise_per_mac_goes_first_and_one_channel_a_group_stays() -> None:
    # Per MAC: .001, .002, .007 in the first group, .0001, .0019, .048 in the second.
    assert allocate(HAND_MADE, linear(100, 10)) == [1, 0, 1, 0, 0, 1]
    assert allocate(HAND_MADE, linear(10, 10)) == [1, 1, 0, 0, 1, 0]


def test_rises_never_fall_and_none_is_below_zero() -> None:
    assert widths_of(8) == (6, 4, 2, 1)
    noisy = sensitivity_of((8,), (0.9, 1.3, 1.1, 1.5))
    assert noisy.rises(0) == pytest.approx([0, 0, 0, 0.1, 0.2, 0.2, 0.2, 0.5])


def test_where_nothing_is_expected_to_be_lost_the_least_narrowed_group_gives() -> None:
    free = sensitivity_of((2, 3, 1), (1.0,), (0.9, 1.0), ())
    assert allocate(free, linear(10, 100, 1000)) == [0, 1, 1]


@st.composite
def networks(draw: st.DrawFn) -> tuple[Sensitivity, list[list[int]]]:
    """A sensitivity, and the MACs between every two groups."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    losses = [tuple(draw(st.floats(0.0, 3.0)) for _ in widths_of(size)) for size in sizes]
    weights = [[draw(st.integers(1, 20)) for _ in sizes] for _ in sizes]
    return sensitivity_of(tuple(sizes), *losses), weights


@given(networks())
@settings(max_examples=60, deadline=None)
def test_the_heap_finds_what_looking_at_every_group_each_time_finds(made: tuple[Sensitivity, list[list[int]]]) -> None:
    sensitivity, weights = made
    sizes, count = sensitivity.units, len(sensitivity.units)

    def size(removed: Removed) -> Size:
        left = [units - gone for units, gone in zip(sizes, removed, strict=True)]
        macs = sum(weights[a][b] * left[a] * left[b] for a in range(count) for b in range(count))
        return Size(macs=macs, params=0)

    removed, expected = [0] * count, []
    while open_groups := [group for group in range(count) if removed[group] < sizes[group] - 1]:
        ranked = []
        for group in open_groups:
            less = tuple(gone + (other == group) for other, gone in enumerate(removed))
            rises = sensitivity.rises(group)
            rise = rises[removed[group] + 1] - rises[removed[group]]
            saved = size(tuple(removed)).macs - size(less).macs
            ranked.append((rise / saved, removed[group] / sizes[group], group))
        expected.append(min(ranked)[-1])
        removed[expected[-1]] += 1
    assert allocate(sensitivity, size) == expected


def test_a_deep_network_needs_a_few_looks_a_channel() -> None:
    """The groups are as many as those of ResNet-110, where a call of `size` takes 50 microseconds."""
    sizes = (16,) * 19 + (32,) * 19 + (64,) * 19
    losses = ((1 + 0.001 * n, 1 + 0.003 * n, 1 + 0.01 * n, 1 + 0.1 * n) for n in range(1, 58))
    looks = 0

    def size(removed: Removed) -> Size:
        nonlocal looks
        looks += 1
        left = [units - gone for units, gone in zip(sizes, removed, strict=True)]
        return Size(macs=sum(narrow * wide for narrow, wide in pairwise(left)), params=0)

    order = allocate(sensitivity_of(sizes, *losses), size)
    assert len(order) == sum(sizes) - len(sizes)
    assert looks < 10 * len(order)


@dataclass(frozen=True)
class Measured:
    network: Network
    least_first: list[list[int]]
    scoring: ScoringData
    sensitivity: Sensitivity
    macs: list[int]  # of every network measured


@pytest.fixture(scope="module")
def measured(tiny: Dataset) -> Measured:
    """A small network with two exits on images of 7x7, two of whose groups are measured once."""
    train = Labelled(images=tiny.train.images[:, :, ::2, ::2], labels=tiny.train.labels)
    parts = split(replace(tiny, train=train, test=train), validation=0.3, calibration=0.05, seed=0)
    torch.manual_seed(0)
    network = create("resnet8", exits=2, input_shape=parts.train.shape)
    scoring = ScoringData.of(parts, mwbp(network.spec), label_smoothing=0.1, seed=0)
    groups, macs = Coupling(network).groups, list[int]()
    least_first = ascending(channel_scores(network, "l1", scoring), groups)

    def without(removed: Removed) -> Network:
        pruned = remove_channels(network, {number: least_first[number][:count] for number, count in enumerate(removed)})
        macs.append(cost(pruned).macs)
        return pruned

    units = tuple(group.units if number in (0, 3) else 1 for number, group in enumerate(groups))
    sensitivity = measure(units, without, scoring)
    return Measured(network, least_first, scoring, sensitivity, macs)


def test_what_measuring_takes_is_charged_exactly(measured: Measured) -> None:
    scoring, units = measured.scoring, measured.sensitivity.units
    assert [widths_of(own) for own in units if own > 1] == [(12, 8, 4, 1), (24, 16, 8, 1)]
    assert len(measured.macs) == 1 + 2 * 4
    assert scoring.macs == sum(measured.macs) * (len(scoring.judging) + min(IMAGES, len(scoring.train)))
    assert measured.sensitivity.macs == scoring.macs


def test_a_loss_is_that_of_the_group_pruned_alone_with_batch_norm_re_estimated(measured: Measured) -> None:
    scoring = measured.scoring
    for group, position in [(0, 1), (3, 3)]:
        width = widths_of(measured.sensitivity.units[group])[position]
        pruned = remove_channels(measured.network, {group: measured.least_first[group][:-width]})
        reestimate(pruned, scoring.train, scoring.normalisation, images=IMAGES)
        with torch.no_grad():
            logits = pruned(normalise(scoring.judging.images, scoring.normalisation))
        losses = [functional.cross_entropy(exit, scoring.judging.labels) for exit in logits]
        expected = sum(
            float(loss) * weight for loss, weight in zip(losses, scoring.objective.loss_weights, strict=True)
        )
        assert measured.sensitivity.losses[group][position] == pytest.approx(expected, rel=1e-5)


def test_it_says_how_long_it_takes_and_refuses_a_network_that_has_diverged(
    measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(_: Removed) -> Network:
        return remove_channels(measured.network, {})

    measure((16, 1), without, replace(measured.scoring))
    assert "measuring sensitivity: 4 networks, one group narrowed in each, about " in capsys.readouterr().err
    broken = without(())
    with torch.no_grad():
        next(broken.heads.parameters()).fill_(float("nan"))
    with pytest.raises(UsageError, match="loss of resnet8 is nan"):
        measure((16,), lambda _: broken, replace(measured.scoring))


class KilledError(Exception):
    """Stands for the end of the process."""


def test_what_was_measured_before_an_interruption_is_not_measured_anew(
    measured: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, asked = tmp_path / "sensitivity.json", list[Removed]()

    def without(removed: Removed) -> Network:
        asked.append(removed)
        if len(asked) == 7:
            raise KilledError
        return remove_channels(measured.network, {number: range(count) for number, count in enumerate(removed)})

    scoring = replace(measured.scoring, macs=0)
    with pytest.raises(KilledError):
        measure((16, 16), without, scoring, file)
    begun = read_json(file, Sensitivity)[1]
    assert len(begun.losses) == 1
    again, unbroken = replace(scoring, macs=0), replace(scoring, macs=0)
    resumed = measure((16, 16), without, again, file)
    assert "measuring sensitivity: 1 of 2 groups were measured before" in capsys.readouterr().err
    assert resumed.losses[0] == begun.losses[0]
    assert resumed.seconds > begun.seconds
    whole = measure((16, 16), without, unbroken)
    assert (whole.losses, whole.macs, unbroken.macs) == (resumed.losses, resumed.macs, again.macs)
    count = len(asked)
    assert measure((16, 16), without, replace(scoring, macs=0), file) == resumed
    assert len(asked) == count


# Holds a lock for a moment, without the library, whose import takes seconds.
HOLD = "import filelock, sys, time\nwith filelock.FileLock(sys.argv[1]): print('held', flush=True), time.sleep(0.3)"


def test_another_process_that_measures_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / LOCK)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with _alone(tmp_path / "sensitivity.json"):
            assert process.wait() == 0
    assert f"waiting for another process, which measures on {tmp_path.name}" in capsys.readouterr().err
