"""Networks: blocks with one or more exits, cutting, names, specs."""

from compress.networks.network import Network, cut, evaluating
from compress.networks.placement import place_exits
from compress.networks.registry import create, default_head, display_name, exits_in_name, spec_of
from compress.networks.spec import Spec

__all__ = [
    "Network",
    "Spec",
    "create",
    "cut",
    "default_head",
    "display_name",
    "evaluating",
    "exits_in_name",
    "place_exits",
    "spec_of",
]
