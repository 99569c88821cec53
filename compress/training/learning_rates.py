"""Learning-rate schedules: the factor on the highest rate as a function of progress."""

import math

from compress.recipes import Recipe


def rate_factor(recipe: Recipe, progress: float) -> float:
    """The factor, in [0, 1], on every learning rate when a share `progress` of the training is done.

    one-cycle: linear from 0 to 1 over the warm-up, then a cosine to 0. cosine: from 1 to 0. multi-step: `decay` to the
    power of the milestones passed.
    """
    if recipe.schedule == "multi-step":
        return recipe.decay ** sum(progress >= milestone for milestone in recipe.milestones)
    progress = min(progress, 1.0)
    warmup = recipe.warmup if recipe.schedule == "one-cycle" else 0.0
    if progress < warmup or warmup == 1:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
