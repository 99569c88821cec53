"""Cutting a network at an exit: the exit's logits bit for bit, and nothing shared with the whole network."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.errors import UsageError
from compress.networks import Network, create, cut


def trained_looking(arch: str, exits: int | str | list[int], shape: tuple[int, int, int] = (3, 9, 8)) -> Network:
    """A network in eval mode whose batch norms have random statistics and affine parameters."""
    network = create(arch, exits=exits, input_shape=shape)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.3, 3)
            torch.nn.init.uniform_(module.weight, 0.3, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
    return network.eval()


@pytest.mark.parametrize("form", ["", "v1"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@settings(max_examples=8, deadline=None)
@given(data=st.data(), per_stage=st.integers(1, 2), seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 4))
def test_the_cut_network_has_its_exits_logits_bit_for_bit(
    form: str, layout: torch.memory_format, data: st.DataObject, per_stage: int, seed: int, batch: int
) -> None:
    last = 3 * per_stage
    exits = sorted(data.draw(st.sets(st.integers(1, last), min_size=1, max_size=4)) | {last})
    torch.manual_seed(seed)
    whole = trained_looking(f"resnet{6 * per_stage + 2}{form}", exits)
    whole = whole.to(memory_format=layout)
    images = torch.randn(batch, 3, 9, 8).to(memory_format=layout)
    with torch.inference_mode():
        logits = whole(images)
        for number, block in enumerate(exits, start=1):
            part = cut(whole, number)
            (alone,) = part(images)
            assert torch.equal(alone, logits[number - 1])
            assert len(part.blocks) == block == part.spec.exits[-1].block
            assert part.spec.depths == (2 * block + 2,)
            rebuilt = Network(part.spec).eval()
            rebuilt.load_state_dict(part.state_dict(), strict=True)
            rebuilt = rebuilt.to(memory_format=layout)
            assert torch.equal(rebuilt(images)[0], logits[number - 1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_bit_equality_holds_at_other_precisions(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    whole = trained_looking("resnet20", 3).to(dtype)
    images = torch.randn(2, 3, 9, 8, dtype=dtype)
    with torch.inference_mode():
        for number, logits in enumerate(whole(images), start=1):
            assert torch.equal(cut(whole, number)(images)[0], logits)


def test_the_weights_keep_their_names_and_values() -> None:
    whole = trained_looking("resnet20", [2, 5, 9])
    everything = whole.state_dict()
    part = cut(whole, 2).state_dict()
    expected = {
        name
        for name in everything
        if name.startswith(("stem.", "heads.5.")) or (name.startswith("blocks.") and int(name.split(".")[1]) < 5)
    }
    assert set(part) == expected
    assert all(torch.equal(value, everything[name]) for name, value in part.items())


def test_neither_network_sees_the_other_change() -> None:
    whole = trained_looking("resnet8", 3)
    untouched = copy.deepcopy(whole.state_dict())
    part = cut(whole, 2)
    with torch.no_grad():
        for tensor in part.state_dict().values():
            tensor.add_(1)
    assert all(torch.equal(value, untouched[name]) for name, value in whole.state_dict().items())
    part = cut(whole, 2)
    with torch.no_grad():
        for tensor in whole.state_dict().values():
            tensor.add_(1)
    assert all(torch.equal(value, untouched[name]) for name, value in part.state_dict().items())


def test_cutting_draws_no_random_number() -> None:
    whole = trained_looking("resnet8", 3)
    before = torch.get_rng_state()
    cut(whole, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_cutting_twice_and_cutting_at_the_end_are_cutting_once() -> None:
    whole = trained_looking("resnet20", [2, 5, 9])
    images = torch.randn(2, 3, 9, 8)
    with torch.inference_mode():
        assert torch.equal(cut(cut(whole, 2), 1)(images)[0], whole(images)[1])
        assert torch.equal(cut(whole, 3)(images)[0], whole(images)[2])
    assert cut(cut(whole, 2), 1).spec == cut(whole, 2).spec


@pytest.mark.parametrize("training", [True, False])
def test_every_layer_keeps_its_mode(training: bool) -> None:
    part = cut(create("resnet8", exits=3).train(training), 2)
    assert part.training == training
    layers = [module for module in part.modules() if not isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict)]
    assert {layer.training for layer in layers} == {training}


def test_a_cut_network_can_be_trained_on() -> None:
    part = cut(create("resnet8", exits=3, input_shape=(1, 8, 8)).train(), 2)
    part(torch.randn(4, 1, 8, 8))[-1].square().sum().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())


@pytest.mark.parametrize("exit", [0, -1, 4, 100])
def test_an_exit_that_is_not_there_is_refused_in_one_line(exit: int) -> None:
    with pytest.raises(UsageError, match="exits 1 to 3") as refused:
        cut(create("resnet8", exits=3), exit)
    assert f"exit {exit}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_segments_share_the_trunk_out_among_the_exits() -> None:
    network = create("resnet20", exits=[2, 5, 9])
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = [{names[id(parameter)] for parameter in segment.parameters()} for segment in network.segments([2, 5, 9])]
    expected = [("stem.", "blocks.0.", "blocks.1."), ("blocks.2.", "blocks.3.", "blocks.4."), ("blocks.5.",)]
    for names_found, prefixes in zip(found[:2], expected[:2], strict=True):
        assert names_found == {name for name in names.values() if name.startswith(prefixes)}
    assert set.union(*found) == {name for name in names.values() if not name.startswith("heads.")}
    assert sum(map(len, found)) == len(set.union(*found))
    assert len(network.blocks) == 9, "asking for segments changes nothing"
