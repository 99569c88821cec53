"""Objectives adapted to a network after pruning removed blocks or exits."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import pytest

from compress.networks import Network, Spec, spec_of
from compress.networks.spec import ExitSpec
from compress.training.methods import Method
from compress.training.objectives import bp, mwbp

RATES = {"learning_rate": 0.05, "weight_decay": 5e-3}


def shortened(spec: Spec, blocks: Sequence[int], exits: Sequence[int]) -> Spec:
    """The spec of those blocks (1-based), with exits after so many."""
    kept = tuple(spec.blocks[block - 1] for block in blocks)
    heads = [exit.head for exit in spec.exits][-len(exits) :]
    ends = tuple(ExitSpec(block=block, head=head) for block, head in zip(exits, heads, strict=True))
    return replace(spec, blocks=kept, exits=ends)


METHODS = [
    Method(name="mwbp"),
    Method(name="mwbp", gamma="uniform", self_distillation=0.2, gradient_equilibrium=True),
    Method(name="mwbp", auxiliary_weight=0.3),
    Method(name="mwbp", update="sequential"),
    Method(name="deep-supervision"),
    Method(name="mwbp-uniform-decay"),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: " ".join([method.name, *method.options()]))
def test_where_blocks_go_the_objective_stays_and_its_segments_end_where_the_exits_do(method: Method) -> None:
    before = spec_of("resnet20", exits="3,6,end")
    after = shortened(before, [1, 3, 4, 6, 7, 8], [2, 4, 6])
    objective = method.objective(before)
    assert objective.fitted(before, before) is objective
    assert objective.fitted(before, after) == replace(objective, segments=(2, 4, 6))
    assert objective.fitted(before, after).fitted(after, after) == objective.fitted(before, after)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: " ".join([method.name, *method.options()]))
def test_where_exits_go_the_objective_is_the_methods_own_for_those_left(method: Method) -> None:
    before = spec_of("resnet20", exits="3,6,end")
    after = shortened(before, range(1, 6), [3, 5])
    objective = method.objective(before)
    fitted = objective.fitted(before, after)
    uniform = method.name in ("deep-supervision", "mwbp-uniform-decay")
    gammas = [objective.gammas[0] if uniform else 1.0, objective.gammas[-1]]  # relative to the last auxiliary exit's
    assert fitted.gammas == tuple(gammas)
    assert fitted.segments == (3, 5)
    assert fitted.lambdas == ((1.0, 1.0) if uniform else (gammas[0], 1.0))
    assert fitted.decay_factors == ((1.0, 1.0) if uniform else (pytest.approx(1 / gammas[0] + 1), 1.0))
    assert fitted.gradient_factors == ((0.5, 1.0) if method.gradient_equilibrium else (1.0, 1.0))
    kept = ("update", "loss_ratio_rate", "frozen_trunk", "self_distillation", "teacher", "temperature")
    for name in (*kept, "auxiliary_weight"):
        assert getattr(fitted, name) == getattr(objective, name)


def test_a_network_cut_to_one_exit_is_trained_by_plain_backpropagation() -> None:
    before = spec_of("resnet20", exits="3,6,end")
    after = shortened(before, range(1, 3), [2])
    assert mwbp(before).fitted(before, after) == replace(bp(after), gammas=(1.0,))


@pytest.mark.parametrize("blocks", range(1, 9))
def test_segments_that_are_not_the_exits_keep_their_share_of_the_blocks(blocks: int) -> None:
    before = spec_of("resnet20", input_shape=(1, 8, 8), classes=10)
    extra = Method(name="bp-extra-decay", decay_exits="1,2,4,end").objective(before)
    assert extra.segments == (1, 2, 4, 9)
    network = Network(shortened(before, range(1, blocks + 1), [blocks]))
    fitted = extra.fitted(before, network.spec)
    assert fitted == replace(extra, segments=fitted.segments)
    shares = [end / 9 for end in extra.segments]
    assert all(abs(end - share * blocks) < 1 for end, share in zip(fitted.segments, shares, strict=True))
    groups = fitted.parameter_groups(network, **RATES)  # a segment that lost all its blocks has nothing to decay
    assert sorted(map(id, chain(*(group["params"] for group in groups)))) == sorted(map(id, network.parameters()))
    assert groups[0]["weight_decay"] == RATES["weight_decay"] * extra.decay_factors[0]


@pytest.mark.parametrize("blocks", [[1, 3, 4, 6, 7, 8], [1, 2, 3, 4]])
def test_what_is_fitted_covers_every_parameter_once(blocks: list[int]) -> None:
    before = spec_of("resnet20", exits="3,6,end", input_shape=(1, 8, 8), classes=10)
    exits = [2, 4, 6] if len(blocks) == 6 else [3, 4]
    after = shortened(before, blocks, exits)
    network = Network(after)
    groups = mwbp(before).fitted(before, after).parameter_groups(network, **RATES)
    assert sorted(map(id, chain(*(group["params"] for group in groups)))) == sorted(map(id, network.parameters()))
