"""Networks as training leaves them, for tests that train none, and what holds for every network."""

import copy
import json

import torch
from torch import nn

from baselines.channels import remove_channels
from baselines.coupling import Coupling
from baselines.scoring_data import ScoringData
from compress.data import Labelled, measure
from compress.networks import Network, Spec, create
from compress.training.objectives import mwbp


def trained_like(network: Network) -> Network:
    """The network in eval mode, with all kinds of scales and statistics in its batch norms."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.get_buffer("running_mean").normal_(std=0.1)
            module.get_buffer("running_var").uniform_(0.5, 1.5)
    return network.eval()


def differing(network: Network, other: Network) -> list[str]:
    """The names of the tensors that differ between two networks; they have the same names."""
    ours, others = network.state_dict(), other.state_dict()
    assert ours.keys() == others.keys()
    return [name for name, tensor in ours.items() if not torch.equal(tensor, others[name])]


def network_of(arch: str = "resnet8", exits: int | str | list[int | str] = 1, size: int = 8, seed: int = 1) -> Network:
    """A network for grey images of this size, as training might leave it."""
    torch.manual_seed(seed)
    return trained_like(create(arch, exits=exits, input_shape=(1, size, size)))


def scoring_data_of(network: Network, images: Labelled | None = None, seed: int = 0) -> ScoringData:
    """Scoring data with MW-BP's objective, of these images or of a few of noise, for criteria that look at none."""
    if images is None:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(0, 256, (8, *network.spec.input_shape), generator=generator, dtype=torch.uint8)
        images = Labelled(images=noise, labels=torch.arange(8))
    return ScoringData(
        train=images,
        judging=images,
        normalisation=measure(images.sample()),
        objective=mwbp(network.spec),
        label_smoothing=0.1,
        seed=seed,
    )


def narrowed_by(network: Network, share: float) -> Network:
    """The network without the first channels of every group, this share of each."""
    groups = enumerate(Coupling(network).groups)
    return remove_channels(network, {number: range(int(share * group.units)) for number, group in groups})


def rebuilt(network: Network) -> Network:
    """The network as a run's record and its weights give it back."""
    again = Network(Spec.from_json(json.loads(json.dumps(network.spec.to_json()))))
    again.load_state_dict(network.state_dict(), strict=True)
    return again.train(network.training)


def check_ordinary(network: Network) -> None:
    """It runs forward and backward, every parameter gets a gradient, and it is rebuilt bit-equal from its spec."""
    images = torch.randn(2, *network.spec.input_shape, generator=torch.Generator().manual_seed(0))
    logits = network(images)
    assert [tuple(exit.shape) for exit in logits] == [(2, network.spec.classes)] * len(network.spec.exits)
    assert all(map(torch.equal, rebuilt(network)(images), logits))
    trial = copy.deepcopy(network).train()
    torch.stack(trial(images)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in trial.parameters())
