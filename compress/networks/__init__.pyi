from .foreign.zoo import is_foreign, register
from .network import Network, code_digest, cut, evaluating, in_the_net, initialised
from .placement import is_number, place_exits
from .registry import (
    Architecture,
    canonical,
    create,
    default_heads,
    display_name,
    exits_in_name,
    spec_of,
)
from .spec import Spec
from .weights import load_pretrained, load_weights

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
