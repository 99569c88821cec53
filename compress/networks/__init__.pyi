from .architecture import (
    Architecture,
    canonical,
    create,
    default_heads,
    display_name,
    exits_in_name,
    spec_of,
)
from .ensemble import Ensemble, mean_of
from .exit_placement import is_number, place_exits
from .foreign.zoo import is_foreign, register
from .initial_weights import load_pretrained, load_weights
from .modes import evaluating
from .network import Network, code_digest, cut, in_the_net, initialised
from .plain_network import plain
from .shared_head import SHARED, standalone
from .spec import Spec
from .weights_digest import digest_of_weights

__all__ = [
    "SHARED",
    "Architecture",
    "Ensemble",
    "Network",
    "Spec",
    "canonical",
    "code_digest",
    "create",
    "cut",
    "default_heads",
    "digest_of_weights",
    "display_name",
    "evaluating",
    "exits_in_name",
    "in_the_net",
    "initialised",
    "is_foreign",
    "is_number",
    "load_pretrained",
    "load_weights",
    "mean_of",
    "place_exits",
    "plain",
    "register",
    "spec_of",
    "standalone",
]
