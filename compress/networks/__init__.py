"""Networks: blocks with one or more exits, cutting, names, specs."""

from compress.networks.foreign.zoo import is_foreign, register
from compress.networks.network import Network, code_digest, cut, evaluating, in_the_net, initialised
from compress.networks.placement import is_number, place_exits
from compress.networks.registry import (
    Architecture,
    canonical,
    create,
    default_heads,
    display_name,
    exits_in_name,
    spec_of,
)
from compress.networks.spec import Spec
from compress.networks.weights import load_pretrained, load_weights

__all__ = [
    "Architecture",
    "Network",
    "Spec",
    "canonical",
    "code_digest",
    "create",
    "cut",
    "default_heads",
    "display_name",
    "evaluating",
    "exits_in_name",
    "in_the_net",
    "initialised",
    "is_foreign",
    "is_number",
    "load_pretrained",
    "load_weights",
    "place_exits",
    "register",
    "spec_of",
]
