"""Any technique and any reachable budget give an ordinary network."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines import Budget, Technique
from baselines.budget_search import meet
from baselines.depth_pruning import removable_blocks
from baselines.pruning_candidates import find_candidates
from baselines.removal_order import Size
from baselines.scoring_data import ScoringData
from baselines.technique import CRITERIA
from compress.data import Dataset, split
from compress.errors import UsageError
from compress.networks import Network
from compress.training import Method
from tests.baselines.networks import check_ordinary, network_of

ARCHS = ("resnet8", "resnet14", "resnet14v1", "resnet14nl", "wrn-10-1", "mobilenetv2b1-2-1-1-1-1-1w8-8-8-16-16-24-24")


@st.composite
def techniques(draw: st.DrawFn) -> Technique:
    """Any method that makes a trained network smaller, and any of the options that go with it."""
    method = draw(st.sampled_from([*CRITERIA, "blocks", "depth-cut"]))
    if method not in CRITERIA:
        return Technique(method=method, nearest=True)
    return Technique(
        method=method,
        scope=draw(st.sampled_from(["all", "inner"])),
        ranking=draw(st.sampled_from(["global", "uniform"])),
        round_to=draw(st.sampled_from([1, 1, 3, 4])),
        nearest=True,
    )


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Any network of ours, with batch norm as after training."""
    arch = draw(st.sampled_from(ARCHS))
    return network_of(arch, draw(st.integers(1, 3)), seed=draw(st.integers(0, 99)))


def evidence_for(network: Network, dataset: Dataset) -> ScoringData:
    parts = split(dataset, validation=0.2, calibration=0.0, seed=0)
    name = "mwbp" if len(network.spec.exits) > 1 else "bp"
    return ScoringData.of(parts, Method(name=name).objective(network.spec), 0.0, seed=0)


@pytest.mark.parametrize("examples", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_any_network_by_any_method_to_any_reachable_budget_is_an_ordinary_network(
    examples: int, small: Dataset
) -> None:
    @given(network=networks(), technique=techniques(), share=st.floats(0, 1))
    @settings(max_examples=examples, deadline=None)
    def holds(network: Network, technique: Technique, share: float) -> None:
        check_budget_is_met(small, network, technique, share)

    holds()


def check_budget_is_met(small: Dataset, network: Network, technique: Technique, share: float) -> None:
    """Check the network that a technique gives at a share of the way from the smallest to the whole one."""
    spec, whole = network.spec, Size.of(network)
    if technique.method == "blocks" and not removable_blocks(spec):
        with pytest.raises(UsageError, match="none to leave out"):
            find_candidates(technique, network, evidence_for(network, small))
        return
    options = find_candidates(technique, network, evidence_for(network, small))
    assert options.order.moves or technique.method == "blocks"
    if not options.order.moves:  # each of the removable blocks is all that an exit adds
        return
    smallest = options.order.smallest
    macs = smallest.macs + share * (0.98 * whole.macs - smallest.macs)
    removed = meet(Budget(macs=macs), options.order, within=math.inf)
    smaller = options.without(removed)

    assert Size.of(smaller) == options.order.size(removed) < whole
    if not technique.round_to > 1 and technique.ranking == "global" and technique.method in CRITERIA:
        assert Size.of(smaller).macs == pytest.approx(macs, rel=0.06)
    assert len(smaller.spec.exits) == len(spec.exits) or technique.method == "depth-cut"
    check_ordinary(smaller)
