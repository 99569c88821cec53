from .budgeted_batch import budget_shares, policy_of_shares
from .certificate import Certificate
from .early_exit import EarlyExit, check_fits
from .leaving_cost import leaving_macs, mean_macs
from .policy import Policy, confidences, leave
from .read_out import network_at
from .simulation import Exited, simulate
from .temperature import fit_temperature, fit_temperatures

__all__ = [
    "Certificate",
    "EarlyExit",
    "Exited",
    "Policy",
    "budget_shares",
    "check_fits",
    "confidences",
    "fit_temperature",
    "fit_temperatures",
    "leave",
    "leaving_macs",
    "mean_macs",
    "network_at",
    "policy_of_shares",
    "simulate",
]
