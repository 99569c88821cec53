"""MACs, parameters, activations and bytes: by hand, as published, and by a second counter; no side effects."""

import copy
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compress import Architecture
from compress.errors import UsageError
from compress.network_cost import Cost, cost, cross_check, exit_costs
from compress.networks import Network, create, cut, register

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # fvcore's, where it is imported first
    from fvcore.nn import ActivationCountAnalysis
    from fvcore.nn.jit_handles import conv_flop_jit


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> dict[object, object]:
    """What has been traced: nothing, at first."""
    kept: dict[object, object] = {}
    monkeypatch.setattr(sys.modules[cost.__module__], "_traced", kept)
    return kept


@dataclass
class ByHand:
    """What the arithmetic below gives for a network that ends after some block."""

    convolutions: int
    shortcuts: int
    linear: int
    params: int

    @property
    def macs(self) -> int:
        return self.convolutions + self.shortcuts + self.linear


def by_hand(
    depth: int, *, form: str = "", width: int = 1, shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10
) -> list[ByHand]:
    """The costs of the network that ends after each block, from its drawing alone."""
    per_stage = (depth - 2) // 6
    channels, height, width_now = shape
    stem = 16 * width
    convolutions = 9 * channels * stem * height * width_now
    shortcuts = 0
    params = 9 * channels * stem + (2 * stem if form == "v1" else 0)
    inputs, found = stem, []
    for stage in range(3):
        out = 16 * width * 2**stage
        for position in range(per_stage):
            changes = stage > 0 and position == 0
            if changes:
                height, width_now = (height + 1) // 2, (width_now + 1) // 2
            area = height * width_now
            convolutions += 9 * inputs * out * area + 9 * out * out * area
            params += 9 * inputs * out + 9 * out * out
            params += 2 * out + 2 * out if form == "v1" else 2 * inputs + 2 * out
            if changes:
                shortcuts += inputs * out * area
                params += inputs * out + (2 * out if form == "v1" else 0)
            inputs = out
            head = out * classes + classes + (0 if form == "v1" else 2 * out)
            found.append(
                ByHand(convolutions=convolutions, shortcuts=shortcuts, linear=out * classes, params=params + head)
            )
    return found


@pytest.mark.parametrize("form", ["", "v1"])
@pytest.mark.parametrize(
    ("depth", "width", "shape", "classes"),
    [
        (8, 1, (1, 28, 28), 10),
        (8, 3, (3, 17, 9), 7),
        (20, 1, (3, 32, 32), 10),
        (20, 2, (3, 33, 31), 100),
        (26, 1, (1, 1, 1), 1),
        (44, 1, (3, 32, 32), 10),
    ],
)
def test_macs_and_parameters_are_those_of_hand_arithmetic(
    depth: int, width: int, shape: tuple[int, int, int], classes: int, form: str
) -> None:
    blocks = (depth - 2) // 2
    exits = list(range(1, blocks + 1))
    network = create(Architecture(f"resnet{depth}{form}", width=width), exits=exits, input_shape=shape, classes=classes)
    expected = by_hand(depth, form=form, width=width, shape=shape, classes=classes)
    found = exit_costs(network)
    assert [exit.macs for exit in found] == [exit.macs for exit in expected]
    assert [exit.params for exit in found] == [exit.params for exit in expected]
    # The whole network has every head once.
    heads = [exit.linear for exit in expected]
    assert cost(network).macs == expected[-1].macs + sum(heads[:-1])
    assert cost(network).params == sum(parameter.numel() for parameter in network.parameters())


def test_published_convolutions_with_parameter_free_shortcuts_are_met() -> None:
    for depth, millions, forms in ((56, 125.49, ("", "v1")), (110, 252.89, ("",))):
        hand = by_hand(depth)[-1]
        assert round(hand.convolutions / 1e6, 2) == millions
        for form in forms:
            assert cost(create(f"resnet{depth}{form}")).macs - hand.shortcuts - hand.linear == hand.convolutions


def test_the_exits_of_mwresnet_44_5_cost_what_the_method_says() -> None:
    costs = exit_costs(create("resnet44", exits=5))
    assert [round(exit.macs / 1e6, 1) for exit in costs] == [24.0, 41.9, 60.7, 78.6, 97.4]
    assert [round(exit.params / 1e6, 3) for exit in costs] == [0.024, 0.067, 0.141, 0.365, 0.661]


def test_the_reference_costs_what_the_method_says() -> None:
    reference = cost(create("resnet110"))
    assert round(reference.macs / 1e6, 2) == 253.15  # 252.89 + 0.26 of shortcuts; METHOD.md rounds it to 253.2
    assert round(reference.params / 1e6, 2) == 1.73
    assert reference.macs / exit_costs(create("resnet44", exits=5))[-1].macs == pytest.approx(2.60, abs=5e-3)


@pytest.mark.parametrize("arch", ["resnet20", "resnet20v1"])
@pytest.mark.parametrize("exits", [1, 4])
def test_torchs_own_counter_counts_two_a_mac(arch: str, exits: int) -> None:
    network = create(arch, exits=exits, input_shape=(3, 19, 16), classes=13).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 19, 16))
    assert counter.get_total_flops() == 2 * cost(network).macs


@pytest.mark.parametrize("form", ["", "v1"])
@settings(max_examples=6, deadline=None)
@given(
    data=st.data(),
    per_stage=st.integers(1, 2),
    width=st.integers(1, 2),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    classes=st.integers(1, 12),
)
def test_the_cost_of_an_exit_is_the_cost_of_the_network_cut_there(
    form: str, data: st.DataObject, per_stage: int, width: int, shape: tuple[int, int, int], classes: int
) -> None:
    last = 3 * per_stage
    exits = sorted(data.draw(st.sets(st.integers(1, last), max_size=3)) | {last})
    depth = 6 * per_stage + 2
    network = create(Architecture(f"resnet{depth}{form}", width=width), exits=exits, input_shape=shape, classes=classes)
    costs = exit_costs(network)
    assert costs == [cost(cut(network, k)) for k in range(1, len(exits) + 1)]
    hand = by_hand(depth, form=form, width=width, shape=shape, classes=classes)
    assert [exit.macs for exit in costs] == [hand[block - 1].macs for block in exits]


def stored(network: Network) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


@pytest.mark.parametrize("arch", ["resnet20", "resnet20v1"])
def test_bytes_are_what_the_state_dict_holds(arch: str) -> None:
    network = create(arch, exits=3)
    assert cost(network).bytes == stored(network)
    assert [exit.bytes for exit in exit_costs(network)] == [stored(cut(network, k)) for k in (1, 2, 3)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_at_another_precision_costs_as_many_macs_and_other_bytes(
    dtype: torch.dtype, traced: dict[object, object]
) -> None:
    network = create("resnet8", exits=2)
    macs = cost(network).macs
    network = network.to(dtype)
    traced.clear()
    assert cost(network).macs == macs
    assert cost(network).bytes == stored(network)


@pytest.mark.parametrize("training", [True, False])
def test_counting_changes_nothing(training: bool) -> None:
    torch.manual_seed(0)
    network = create("resnet8", exits=3, input_shape=(1, 8, 8)).train(training)
    network(torch.randn(4, 1, 8, 8))[-1].sum().backward()
    state = copy.deepcopy(network.state_dict())
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    random = torch.get_rng_state()
    exit_costs(network)
    cost(network)
    cross_check(network)
    assert {module.training for module in network.modules()} == {training}
    assert list(network.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    after = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert list(after) == list(gradients)
    assert all(torch.equal(gradient, gradients[name]) for name, gradient in after.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_what_is_not_as_its_spec_says_is_counted_anew() -> None:
    network = create("resnet8", input_shape=(1, 8, 8))
    whole = cost(network).macs
    network.heads["3"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5))
    assert cost(network).macs == whole - 64 * 5
    assert cost(create("resnet8", input_shape=(1, 8, 8))).macs == whole


def test_layers_that_are_in_another_mode_than_the_network_stay_in_it() -> None:
    network = create("resnet8", input_shape=(1, 8, 8)).train()
    network.blocks[0].eval()
    cost(network)
    assert not network.blocks[0].training
    assert network.blocks[1].training


def test_the_mode_is_put_back_when_counting_fails() -> None:
    network = create("resnet8", input_shape=(1, 8, 8)).train()
    network.stem = torch.nn.Sequential(torch.nn.Conv2d(2, 16, 3))
    with pytest.raises(RuntimeError):
        cost(network)
    assert network.training
    assert network.blocks[0].training


def test_memory_format_and_frozen_weights_do_not_matter(traced: dict[object, object]) -> None:
    network = create("resnet8", exits=3, input_shape=(3, 8, 8))
    costs = exit_costs(network)
    network = network.to(memory_format=torch.channels_last)
    network.requires_grad_(False)
    traced.clear()
    assert exit_costs(network) == costs


def test_networks_that_are_alike_are_traced_once(traced: dict[object, object]) -> None:
    network, other = create("resnet8", input_shape=(1, 8, 8)), create("resnet8", input_shape=(1, 8, 8))
    assert (cost(network), exit_costs(other), len(traced)) == (cost(other), exit_costs(network), 1)
    cost(create("resnet8", input_shape=(1, 8, 9)))
    assert len(traced) == 2


def test_nothing_is_warned_printed_or_logged(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    network = create("resnet8", exits=3, input_shape=(3, 8, 8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cost(network)
        exit_costs(network)
        cross_check(network)
    assert caught == []
    assert caplog.records == []
    out, err = capfd.readouterr()
    assert out + err == ""


def test_importing_warns_of_nothing() -> None:
    program = "import torch, warnings; warnings.simplefilter('error'); import compress.network_cost"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_costs_add_up_part_by_part() -> None:
    part = Cost(macs=1, params=2, bytes=3, activations=4)
    assert part + Cost(macs=10, params=20, bytes=30, activations=40) == Cost(
        macs=11, params=22, bytes=33, activations=44
    )


class Small(nn.Module):
    """A convolution, a grouped and a depthwise one, a transposed one, a linear layer, and perhaps one in disguise."""

    def __init__(self, classes: int, *, disguised: bool = False, attending: bool = False) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU())  # 8x8 -> 6x6
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)  # -> 3x3
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)  # -> 6x6
        self.weight = nn.Parameter(torch.zeros(4, 4))
        self.classify = nn.Linear(4, classes)
        self.disguised, self.attending = disguised, attending

    def forward(self, images: Tensor) -> Tensor:
        features = self.up(self.depthwise(self.grouped(self.first(images))))
        if self.attending:
            tokens = features.flatten(2)
            features = ((tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens).view_as(features)
        pooled = features.mean(dim=(2, 3))
        logits: Tensor = self.classify(pooled @ self.weight if self.disguised else pooled)
        return logits


@pytest.mark.parametrize("attending", [False, True])
def test_layers_of_every_kind_are_counted_by_hand(attending: bool) -> None:
    name = f"small-{attending}"
    register(name, lambda classes: Small(classes, attending=attending))
    network = create(name, input_shape=(1, 8, 8), classes=5)
    cross_check(network)  # products of computed tensors are outside the definition, not an error
    counted = cost(network)
    assert counted.macs == 36 * 8 * 9 + 36 * 8 * 9 * 2 + 9 * 8 * 9 + 9 * 8 * 4 * 4 + 4 * 5
    assert counted.activations == 36 * 8 + 36 * 8 + 9 * 8 + 36 * 4 + 5


def test_a_layer_that_the_definition_would_miss_is_an_error_that_names_it() -> None:
    register("small-disguised", lambda classes: Small(classes, disguised=True))
    network = create("small-disguised", input_shape=(1, 8, 8), classes=5)
    with pytest.raises(
        UsageError, match=r"small-disguised, module heads\.\d+: 0 MACs of mm by fvcore, 16 by torch's FlopCounterMode"
    ):
        cross_check(network)


def test_a_layer_that_one_counter_gets_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*node: object) -> Counter[str]:
        return Counter(conv=conv_flop_jit(*node)["conv"] + 1)

    monkeypatch.setattr("fvcore.nn.jit_handles.conv_flop_jit", wrong)
    network = create("resnet8", input_shape=(1, 8, 8))
    with pytest.raises(UsageError, match=r"resnet8, module blocks\.0\.\w+: 147,457 MACs of conv by fvcore, 147,456 by"):
        cross_check(network)


@pytest.mark.parametrize("arch", ["resnet8", "resnet8v1", "resnet8nl", "wrn-10-2", "mobilenetv2"])
def test_both_counters_agree_on_every_exit(arch: str) -> None:
    network = create(arch, exits=2, input_shape=(1, 16, 16), classes=3)
    cross_check(network)
    cross_check(cut(network, 1))
    shallow, deep = exit_costs(network)
    assert 0 < shallow.activations < deep.activations


def test_activations_are_those_of_fvcores_own_analysis() -> None:
    network = create("resnet8", exits=2, input_shape=(3, 8, 8)).eval()
    theirs = ActivationCountAnalysis(network, (torch.zeros(1, 3, 8, 8),))
    theirs.unsupported_ops_warnings(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's
        assert cost(network).activations == theirs.total()
