"""The interval of an accuracy over the choice of images: Wilson's, 95%."""

CONFIDENCE = 0.95


def accuracy_interval(accuracy: float, images: int) -> tuple[float, float]:
    """Wilson's 95% interval of an accuracy, a fraction, that was measured on a number of images drawn at random."""
    from scipy import stats  # here, as training does without it

    found = stats.binomtest(round(accuracy * images), images).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)
