from .budgeted_batch import BudgetPoint, budget_curve, budget_shares, policy_of_shares
from .certificate import Certificate
from .early_exit import EarlyExit
from .leaving_cost import leaving_macs, mean_macs
from .policy import Policy, confidences, leave
from .simulation import Exited, simulate
from .temperature import fit_temperature, fit_temperatures

__all__ = [
    "BudgetPoint",
    "Certificate",
    "EarlyExit",
    "Exited",
    "Policy",
    "budget_curve",
    "budget_shares",
    "confidences",
    "fit_temperature",
    "fit_temperatures",
    "leave",
    "leaving_macs",
    "mean_macs",
    "policy_of_shares",
    "simulate",
]
