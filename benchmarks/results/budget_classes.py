"""Budget classes: networks that cost the same, as their MACs differ by at most 2%."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage

CLASS = 0.02  # largest relative difference of MACs within a budget class


def budget_classes(macs: pd.Series) -> pd.Series:
    """The number of each network's budget class, cheapest first; MACs within a class differ by at most 2%."""
    if len(macs) < 2:
        return pd.Series(1, index=macs.index)
    points = macs.astype(float).map(math.log).to_numpy()[:, None]
    found = fcluster(linkage(points, "complete"), math.log1p(CLASS), "distance")
    return macs.groupby(found).transform("min").rank(method="dense").astype(int)


def same_class(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> bool:
    """Whether the MACs of two rows differ by at most 2%."""
    return abs(math.log(first["macs"] / second["macs"])) <= math.log1p(CLASS)
