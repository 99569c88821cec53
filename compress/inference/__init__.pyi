from .policy import Policy, confidences, leave

__all__ = [
    "Policy",
    "confidences",
    "leave",
]
