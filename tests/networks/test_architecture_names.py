"""Parsing of names with exits, blocks, widths and forms; the paper's exit placements."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import Architecture
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import create, display_name, exits_in_name, spec_of
from compress.networks.architecture_names import parse


def placed(arch: str, **options: Any) -> list[int]:
    return [exit.block for exit in spec_of(arch, **options).exits]


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("MwResNet-56-5", (15, 25, 35, 45, 56)),
        ("MwResNet-56-3", (35, 45, 56)),  # equal steps would be blocks 9, 18, 27: depths 19, 37, 56
        ("MwResNet-56-2", (45, 56)),
        ("MwResNet-44-2", (39, 44)),
        ("mwresnet26-2x10", (19, 26)),
        ("MwResNet-26-2/10", (19, 26)),
        ("MwResNet-44-5", (11, 19, 27, 35, 44)),  # none published: equal steps
        ("MwResNet-26-4", (8, 14, 20, 26)),
    ],
)
def test_names_with_exits_have_the_published_ones_where_there_are_any(name: str, depths: tuple[int, ...]) -> None:
    spec = spec_of(name)
    if name == "MwResNet-26-4":
        assert placed(name) == [3, 6, 9, 12]
    else:
        assert spec.depths == depths
    assert exits_in_name(name) == len(depths)


def test_paper_is_the_published_placement() -> None:
    assert placed("resnet56", exits="paper") == [7, 12, 17, 22, 27]
    assert placed("resnet44", exits="paper") == [19, 21]
    assert placed("resnet26x10", exits="paper") == placed("wrn-28-10", exits="paper") == [9, 12]
    assert placed("MwResNet-56-3", exits="paper") == [17, 22, 27]
    for arch in ("resnet110", "mobilenetv2", "resnet56b3-3-21"):
        with pytest.raises(UsageError, match=r"none are published.*resnet26, resnet44, resnet56"):
            spec_of(arch, exits="paper")


def test_exits_that_contradict_the_name_are_refused() -> None:
    assert placed("MwResNet-56-3", exits=3) == [17, 22, 27]
    with pytest.raises(UsageError, match="exits 2: MwResNet-56-3 has 3 of its own"):
        spec_of("MwResNet-56-3", exits=2)


def test_a_wide_resnet_is_the_fields_name_for_the_same_network() -> None:
    assert spec_of("wrn-28-10") == spec_of(Architecture("resnet26", width=10))
    with pytest.raises(UsageError, match="depth 26 is not 6n\\+4"):
        spec_of("wrn-26-10")


def test_a_wide_and_shallow_rival_costs_what_resnet44_costs() -> None:
    rival = create(Architecture("resnet20", blocks="3,3,3", widths="25,50,100"))
    assert rival.spec.arch == "resnet20w25-50-100"
    assert display_name(rival.spec) == "ResNet-20 widths 25-50-100"
    assert 0.98 < cost(rival).macs / cost(create("resnet44")).macs < 1.02


def test_blocks_decide_the_depth() -> None:
    spec = spec_of(Architecture("resnet20", blocks=[3, 3, 15]))
    assert spec.arch == "resnet44b3-3-15"
    assert spec.depths == (44,)
    assert [block.stride for block in spec.blocks].index(2) == 3
    assert spec_of(Architecture("resnet8", blocks="7,7,7")) == spec_of("resnet44")


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(["resnet8", "resnet14v1", "resnet20nl", "mobilenetv2"]),
    exits=st.integers(1, 3),
    data=st.data(),
)
def test_the_canonical_name_rebuilds_the_network(family: str, exits: int, data: st.DataObject) -> None:
    stages = 7 if family == "mobilenetv2" else 3
    numbers = st.just(()) | st.lists(st.integers(1, 40), min_size=stages, max_size=stages)
    spec = spec_of(Architecture(family, blocks=data.draw(numbers), widths=data.draw(numbers)), exits=exits)
    assert spec_of(spec.arch, exits=exits) == spec
    assert parse(spec.arch).canonical == spec.arch


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("resnet20", {"blocks": "3,3"}, "blocks 3,3: 3 whole numbers from 1 to 9999"),
        ("resnet20", {"widths": "25,x,100"}, "widths 25,x,100: 3 whole numbers"),
        ("resnet20", {"widths": "0,1,2"}, "widths 0,1,2: 3 whole numbers"),
        ("mobilenetv2", {"blocks": "3,3,3"}, "blocks 3,3,3: 7 whole numbers"),
        ("resnet20x2", {"widths": "25,50,100"}, "not both"),
        ("resnet20", {"form": "bottleneck"}, "did you mean|known: pre-activation"),
        ("resnet20v1", {"form": "norm-last"}, "norm-last is not one of resnet20v1"),
        ("mobilenetv2", {"form": "norm-last"}, "norm-last is not one of mobilenetv2"),
        ("resnet20", {"head": "mlp"}, "head 'mlp'"),
        ("MwResNet-56-0", {}, "exits 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(arch: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        spec_of(Architecture(arch, **options))


def test_mobilenet_has_a_name_with_exits_too() -> None:
    spec = spec_of("MwMobileNetV2-5")
    assert placed("MwMobileNetV2-5") == [6, 9, 12, 15, 18]
    assert display_name(spec) == "MwMobileNetV2-5"
    assert display_name(spec_of("mobilenetv2")) == "MobileNetV2"
    assert [exit.head for exit in spec.exits] == ["bn-relu-gap-fc"] * 4 + ["gap-fc"]
