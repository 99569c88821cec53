"""Costs where fvcore is not installed."""

import sys

import pytest

from compress.network_cost import cost, cross_check, exit_costs
from compress.networks import create


@pytest.mark.parametrize("arch", ["resnet8", "resnet8v1", "mobilenetv2"])
def test_torch_alone_counts_what_fvcore_counts(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = create(arch, exits=2, input_shape=(1, 16, 16), classes=3)
    by_fvcore = exit_costs(network)
    monkeypatch.setattr(sys.modules[cost.__module__], "_traced", {})
    monkeypatch.setattr(sys.modules[cost.__module__], "_has_fvcore", lambda: False)
    assert exit_costs(network) == by_fvcore
    cross_check(network)  # has nothing to compare
