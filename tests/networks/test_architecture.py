"""Architectures by name: any depth 6n+2, both forms, any width, number of classes and image size."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import Architecture
from compress.errors import UsageError
from compress.networks import create, cut, display_name, spec_of


@pytest.mark.parametrize("form", ["", "v1"])
@pytest.mark.parametrize("per_stage", [1, 2, 3, 7, 9, 18, 200])
def test_every_depth_6n_plus_2_has_three_stages_of_n_blocks(per_stage: int, form: str) -> None:
    depth = 6 * per_stage + 2
    spec = spec_of(f"resnet{depth}{form}")
    assert [block.width for block in spec.blocks] == [16] * per_stage + [32] * per_stage + [64] * per_stage
    assert [block.out for block in spec.blocks] == [block.width for block in spec.blocks]
    openers = [0, per_stage, 2 * per_stage]
    assert [i for i, block in enumerate(spec.blocks) if block.stride == 2] == openers[1:]
    assert [i for i, block in enumerate(spec.blocks) if block.projection] == openers[1:]
    assert [i for i, block in enumerate(spec.blocks) if block.opens_stage] == ([] if form else openers)
    assert spec.depths == (depth,)
    assert spec.exits[-1].block == 3 * per_stage


def test_depths_count_as_the_field_does() -> None:
    assert spec_of("resnet56", exits=5).depths == (15, 25, 35, 45, 56)
    assert spec_of("resnet56", exits="17,22,end").depths == (35, 45, 56)
    assert spec_of("resnet44", exits="19,end").depths == (39, 44)
    assert spec_of(Architecture("resnet26", width=10), exits="9,end").depths == (19, 26)


@pytest.mark.parametrize("name", ["ResNet44", "RESNET44", "resnet44V1"])
def test_names_may_be_written_in_any_case(name: str) -> None:
    assert spec_of(name) == spec_of(name.lower())


@pytest.mark.parametrize(
    ("name", "helps"),
    [
        ("resnt44", "did you mean 'resnet44'"),
        ("ResNet-44", "did you mean 'resnet44'"),
        ("resnet44v2", "did you mean 'resnet"),
        ("resnet-56-v1", "did you mean 'resnet56v1'"),
        ("resnet", "did you mean 'resnet"),
        ("resnet44 ", "did you mean 'resnet44'"),
        ("resnet44\n", "did you mean 'resnet44'"),
        ("vgg16", "known: resnet20"),
        ("", "known: resnet20"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, helps: str) -> None:
    with pytest.raises(UsageError) as refused:
        create(name)
    message = str(refused.value)
    assert repr(name) in message
    assert helps in message
    assert "6n+2" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "helps"),
    [
        ("resnet18", "14 and 20"),
        ("resnet43", "38 and 44"),
        ("resnet45", "44 and 50"),
        ("resnet2", "8 and 14"),
        ("resnet0", "8"),
        ("resnet7v1", "8"),
        ("resnet101v1", "98 and 104"),
    ],
)
def test_a_depth_that_is_not_6n_plus_2_is_refused_with_the_nearest(name: str, helps: str) -> None:
    with pytest.raises(UsageError, match="6n\\+2") as refused:
        create(name)
    assert helps in str(refused.value)
    assert repr(name) in str(refused.value)


@pytest.mark.parametrize("form", ["", "v1"])
@settings(max_examples=10, deadline=None)
@given(
    per_stage=st.integers(1, 2),
    width=st.integers(1, 3),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 19), st.integers(1, 19)),
    classes=st.integers(1, 12),
    batch=st.integers(1, 3),
    data=st.data(),
)
def test_any_size_gives_logits_of_every_exit(
    form: str, per_stage: int, width: int, shape: tuple[int, int, int], classes: int, batch: int, data: st.DataObject
) -> None:
    exits = data.draw(st.integers(1, 3 * per_stage))
    network = create(
        Architecture(f"resnet{6 * per_stage + 2}{form}", width=width), exits=exits, input_shape=shape, classes=classes
    )
    network.eval()
    with torch.inference_mode():
        logits = network(torch.randn(batch, *shape))
        larger = network(torch.randn(batch, shape[0], 32, 24))
    assert [tuple(exit.shape) for exit in logits] == [(batch, classes)] * exits
    assert [tuple(exit.shape) for exit in larger] == [(batch, classes)] * exits
    assert all(exit.isfinite().all() for exit in logits)
    assert network.state_dict()["stem.0.weight"].shape == (16 * width, shape[0], 3, 3)
    assert network.spec.input_shape == shape


def test_an_empty_batch_gives_empty_logits() -> None:
    network = create("resnet8", exits=3).eval()
    assert [tuple(exit.shape) for exit in network(torch.empty(0, 3, 8, 8))] == [(0, 10)] * 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"arch": Architecture("resnet20", width=0)},
        {"arch": Architecture("resnet20", width=-1)},
        {"classes": 0},
        {"input_shape": (0, 8, 8)},
        {"input_shape": (3, 8, 0)},
        {"exits": 10},
        {"exits": "paper of 2020"},
    ],
)
def test_impossible_sizes_are_refused_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        create(**{"arch": "resnet20", **wrong})
    assert "\n" not in str(refused.value)


def test_display_names_are_the_fields() -> None:
    assert display_name(spec_of("resnet110")) == "ResNet-110"
    assert display_name(spec_of("resnet44", exits=5)) == "MwResNet-44-5"
    assert display_name(spec_of("resnet56", exits="17,22,end")) == "MwResNet-56-3"
    assert display_name(spec_of(Architecture("resnet26", width=10), exits=2)) == "MwResNet-26-2x10"
    assert display_name(spec_of("resnet20v1")) == "ResNet-20v1"


def test_a_width_can_be_part_of_the_name_but_is_said_once() -> None:
    assert (
        spec_of("resnet26x2")
        == spec_of(Architecture("resnet26", width=2))
        == spec_of(Architecture("resnet26x2", width=2))
    )
    for arch, width in (("resnet26x2", 3), ("resnet26x0", 1), ("resnet26", 0)):
        with pytest.raises(UsageError, match="a factor on the channels"):
            spec_of(Architecture(arch, width=width))


# MW-BP, METHOD.md [derived]: exits of 56-5 in millions, published as .03/.09/.18/.48/.85.
@pytest.mark.parametrize(
    ("arch", "millions"),
    [
        ("resnet56", [0.033, 0.094, 0.187, 0.486, 0.856]),
        ("resnet44", [0.024, 0.067, 0.141, 0.365, 0.661]),
    ],
)
def test_parameters_of_the_exits_are_the_published_ones(arch: str, millions: list[float]) -> None:
    network = create(arch, exits=5)
    counts = [sum(parameter.numel() for parameter in cut(network, exit).parameters()) for exit in range(1, 6)]
    assert [round(count / 1e6, 3) for count in counts] == millions


def test_resnet_110_has_its_published_size() -> None:
    assert round(sum(parameter.numel() for parameter in create("resnet110").parameters()) / 1e6, 2) == 1.73


@pytest.mark.parametrize("form", ["", "v1"])
def test_the_seed_decides_the_weights(form: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in create(f"resnet8{form}", exits=2).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
