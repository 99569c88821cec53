"""Plain networks: a network of any origin as an ordinary classifier, with one tensor of logits and its usual names."""

from __future__ import annotations

import copy
from typing import cast

from torch import Tensor, fx, nn

from compress.errors import checked
from compress.networks.foreign.tracing import attribute
from compress.networks.heads import OWN
from compress.networks.network import Network

HEAD = "head"


class Classifier(nn.Module):
    """A stem, blocks and one head: normalised images `(N, C, H, W)` -> logits `(N, classes)`."""

    def __init__(self, stem: nn.Module, blocks: nn.ModuleList, head: nn.Module) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = stem, blocks, head

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        for block in self.blocks:
            features = block(features)
        logits: Tensor = self.head(features)
        return logits


@checked
def plain(network: Network) -> nn.Module:
    """Return a copy of a network as an ordinary classifier, which needs nothing of this package to be trained.

    It maps normalised images `(N, C, H, W)` to the logits `(N, classes)` of the last exit, bit for bit those of the
    network; other exits are left out. Its `state_dict` has the names of the original, as in ``layer1.0.conv1.weight``,
    where the network is foreign (a `torch.fx.GraphModule`), and else ``stem``, ``blocks.N`` and ``head``. Mode, device,
    precision and memory format are kept. `load_weights` reads such a state dict.
    """
    whole = copy.deepcopy(network)
    head = list(whole.heads.values())[-1]
    if network.spec.foreign:
        return _joined(whole, head).train(network.training)
    return Classifier(whole.stem, whole.blocks, head).train(network.training)


def plain_names(network: Network) -> dict[str, str]:
    """The names of weights in `plain(network)`, and in the network; auxiliary heads are left out."""
    last = f"heads.{network.spec.exits[-1].block}."
    own = network.spec.exits[-1].head == OWN
    names = {}
    for name in network.state_dict():
        if name.startswith(last):
            names[name.removeprefix(last) if own else f"{HEAD}.{name.removeprefix(last)}"] = name
        elif not name.startswith("heads."):
            original = name.split(".", 2)[2] if network.spec.foreign else name  # as in blocks.3.layer1.0.conv1.weight
            names[original] = name
    return names


def _joined(network: Network, head: nn.Module) -> fx.GraphModule:
    """The stem, segments and head of a foreign network as one graph, whose modules have their original names."""
    graph, parts = fx.Graph(), {"stem": network.stem}
    value = graph.call_module("stem", (graph.placeholder("images"),))
    own = network.spec.exits[-1].head == OWN
    for part in [*network.blocks, *([head] if own else [])]:
        segment = cast(fx.GraphModule, part)
        [entry] = [node for node in segment.graph.nodes if node.op == "placeholder"]
        output = graph.graph_copy(segment.graph, {entry: value})
        assert isinstance(output, fx.Node)
        value = output
        named = [node.target for node in segment.graph.nodes if node.op in ("call_module", "get_attr")]
        parts |= {name: attribute(segment, name) for name in named}
    if not own:
        parts[HEAD] = head
        value = graph.call_module(HEAD, (value,))
    graph.output(value)
    return fx.GraphModule(parts, graph, class_name=network.spec.arch.rpartition(":")[2] or "Classifier")
