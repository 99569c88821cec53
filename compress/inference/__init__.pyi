from .certificate import Certificate
from .policy import Policy, confidences, leave

__all__ = [
    "Certificate",
    "Policy",
    "confidences",
    "leave",
]
