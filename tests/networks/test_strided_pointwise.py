"""Strided 1x1 convolutions: the same function without a stride, and right gradients at every width."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from compress.network_cost import cost, cross_check
from compress.networks import Network, Spec, create
from compress.networks.blocks import BLOCKS, BlockSpec
from compress.networks.foreign.segments import Divisible
from compress.networks.heads import FOR_POSITIONS, HEADS, WIDENING
from compress.networks.network import initialised
from compress.networks.spec import ExitSpec, StemSpec
from compress.networks.strided_pointwise import SubsampledConv2d, subsample_modules, subsampled_conv2d

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
IMAGES = (3, 12, 10)


def narrow(kind: str, width: int) -> Spec:
    """Two blocks of a kind with shortcuts and exits, the second with stride 2, all about `width` wide."""
    block = BLOCKS[kind]
    blocks, inputs = [], width
    for stride, out in ((1, width + 1), (2, width + 2)):
        hidden = width + 3 if block.has_width else inputs if block.layers > 1 else out
        blocks.append(
            BlockSpec(kind=kind, width=hidden, out=out, stride=stride, projection=block.has_shortcut, opens_stage=True)
        )
        inputs = out
    heads = [head for head in HEADS if head != FOR_POSITIONS]
    exits = [
        ExitSpec(block=n, head=head, width=width * (head in WIDENING))
        for n, head in zip((1, 2), heads[::-3], strict=False)
    ]
    return Spec(
        arch=f"{kind}-{width}",
        input_shape=IMAGES,
        classes=5,
        stem=StemSpec(kind="conv-bn-relu", out=width),
        blocks=tuple(blocks),
        exits=tuple(exits),
    )


def smooth(network: Network) -> Network:
    """The network with softplus for ReLU: rounding then moves no image over a kink, where gradients jump."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(module, name, nn.Softplus())
    return network


def gradients(network: nn.Module, images: Tensor, weighing: list[Tensor]) -> list[Tensor]:
    """Gradients of a weighted sum of all logits with respect to the images and all weights."""
    network.zero_grad()
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    logits = network(images)
    torch.stack([(exit * weights).sum() for exit, weights in zip(logits, weighing, strict=True)]).sum().backward()
    return [value.grad for value in (images, *network.parameters()) if value.grad is not None]


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("width", [1, 3, 7, 8, 17])  # around the sizes of registers
def test_gradients_are_right_at_every_width_that_pruning_can_leave(kind: str, width: int) -> None:
    """Against float64 with channels first, of which oneDNN has no part."""
    spec = narrow(kind, width)
    network, exact = smooth(initialised(spec, seed=width)), smooth(initialised(spec, seed=width).double())
    drawn = torch.Generator().manual_seed(width)
    images = torch.randn(4, *IMAGES, generator=drawn)
    weighing = [torch.randn(4, 5, generator=drawn) for _ in spec.exits]
    expected = gradients(exact, images.double(), [weights.double() for weights in weighing])
    for layout in (torch.contiguous_format, torch.channels_last):
        found = gradients(network.to(memory_format=layout), images.contiguous(memory_format=layout), weighing)
        for gradient, value in zip(found, expected, strict=True):
            torch.testing.assert_close(gradient.double(), value, rtol=0, atol=1e-4 * float(value.abs().max()) + 1e-5)


def test_they_are_right_by_the_kernels_for_avx2() -> None:
    """Those of a CPU without AVX-512, in a process of its own: a wrong one corrupts the heap."""
    test = f"{Path(__file__)}::{test_gradients_are_right_at_every_width_that_pruning_can_leave.__name__}"
    chosen = [f"{test}[{width}-{kind}]" for width in (3, 7) for kind in BLOCKS if BLOCKS[kind].has_shortcut]
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-o", "filterwarnings=default"]
    command = [sys.executable, "-m", "pytest", *options, *chosen]
    finished = subprocess.run(command, env=os.environ | AVX2, capture_output=True, text=True, check=False, timeout=500)
    assert finished.returncode == 0, finished.stdout[-2000:]


class Strides(TorchDispatchMode):
    """Notes the weights of all 1x1 convolutions that run with a stride."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.strided: list[torch.Size] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default and args[1].shape[2:] == (1, 1) and max(args[3]) > 1:
            self.strided.append(args[1].shape)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("arch", ["resnet8", "resnet8v1", "resnet8nl", "torchvision:resnet18"])
def test_no_network_runs_a_1x1_convolution_with_a_stride(arch: str) -> None:
    network, strides = create(arch, input_shape=(3, 32, 32)), Strides()
    with strides:
        network(torch.randn(2, 3, 32, 32))
    assert strides.strided == []


class Strided(nn.Module):
    """A net whose strided 1x1 convolutions are a module, a call, and a call with other arguments by name."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.module = nn.Conv2d(5, 6, 1, stride=(2, 1), bias=False)
        self.called = nn.Parameter(torch.randn(8, 3, 1, 1))
        self.bias = nn.Parameter(torch.randn(8))
        self.named = nn.Parameter(torch.randn(9, 8, 1, 1))
        self.padded = nn.Conv2d(9, 7, 1, stride=2, padding=1)
        self.classify = nn.Linear(7, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.module(self.stem(images))
        x = functional.conv2d(x, self.called, self.bias, 2, 0, 1, 2)
        x = functional.conv2d(input=x, weight=self.named, stride=(1, 2), padding="valid")
        logits: Tensor = self.classify(self.padded(x.relu()).mean((2, 3)))
        return logits


@pytest.mark.parametrize("training", [False, True])
def test_anybodys_net_computes_the_same_function_and_keeps_its_weights(training: bool) -> None:
    torch.manual_seed(0)
    model = Strided(4).double()
    images = torch.randn(3, 3, 15, 13, dtype=torch.float64)
    before, names = copy.deepcopy(model).train(training), list(model.state_dict())
    segments, head = Divisible(model, (3, 15, 13)).split(("module", "end"))
    assert list(model.state_dict()) == names
    assert [type(model.module), type(model.padded)] == [SubsampledConv2d, nn.Conv2d]
    code = "".join(part.code for part in (*segments, head))
    assert code.count("subsampled_conv2d(") == 2
    whole = nn.Sequential(*segments, head).train(training)
    torch.testing.assert_close(whole(images), before(images), rtol=1e-12, atol=1e-12)


def test_a_subsampled_network_is_counted_as_before_and_saved_alike() -> None:
    network = create("resnet8v1", input_shape=IMAGES)
    shortcut = network.get_submodule("blocks.1.shortcut.0")
    assert isinstance(shortcut, SubsampledConv2d)
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if isinstance(module, SubsampledConv2d):
            module.__class__ = nn.Conv2d  # type: ignore[assignment]
    cross_check(network)
    assert cost(network) == cost(plain)
    assert list(network.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, *IMAGES)
    torch.testing.assert_close(network.eval()(images), plain.eval()(images))
    exported = torch.export.export(network, (images,)).module()
    torch.testing.assert_close(exported(images), network(images))


@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("stride", [2, (1, 3), (3, 2)])
def test_the_pixels_are_those_that_the_stride_takes(size: int, stride: int | tuple[int, int]) -> None:
    x, weight = torch.randn(2, 3, size, size + 1), torch.randn(4, 3, 1, 1)
    torch.testing.assert_close(subsampled_conv2d(x, weight, stride=stride), functional.conv2d(x, weight, stride=stride))


def test_what_has_no_stride_no_1x1_kernel_or_a_padding_stays() -> None:
    kept = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, 2), nn.Conv2d(3, 3, 1, 2, padding=1), nn.Conv1d(3, 3, 1, 2)
    )
    subsample_modules(kept)
    assert not any(isinstance(module, SubsampledConv2d) for module in kept)
