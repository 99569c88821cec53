"""Channels by number, some of which have become one: what `tracking` writes down while it follows them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

# Numbers of channels: none, as of a constant, and the one that holds all that must not go.
NONE, FIXED = 0, 1


class Channels:
    """Numbered channels, some of which have become one."""

    def __init__(self) -> None:
        self.count = 2
        self._pairs: list[np.ndarray[Any, Any]] = []
        self._roots = np.arange(2)

    def new(self, *shape: int) -> Tensor:
        """Channels of their own, float64 so that whatever moves data takes them."""
        size = int(np.prod(shape))
        numbers = torch.arange(self.count, self.count + size, dtype=torch.float64).view(shape)
        self.count += size
        return numbers

    def join(self, one: Tensor, other: Tensor) -> None:
        """Make pairs of channels one; `NONE` is none."""
        pairs = torch.stack([one.flatten(), other.flatten()])
        pairs = pairs[:, (pairs != NONE).all(dim=0) & (pairs[0] != pairs[1])]
        if pairs.numel():
            self._pairs.append(np.unique(pairs.numpy().astype(np.int64), axis=1))

    def join_rows(self, rows: Tensor) -> Tensor:
        """Make all channels of each row `(rows, entries)` one; the one of each row, `NONE` where it has none."""
        first = rows.amax(dim=1)
        self.join(rows, first[:, None].expand(rows.shape))
        return first

    def fix(self, channels: Tensor) -> None:
        """Leave these in the network."""
        self.join(channels, torch.full_like(channels, FIXED))

    def resolve(self, channels: Tensor) -> Tensor:
        """The same channels, those that are one by one number."""
        if self._pairs or len(self._roots) < self.count:
            one, other = np.concatenate([*self._pairs, [np.arange(len(self._roots)), self._roots]], axis=1)
            graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(self.count, self.count))
            _, parts = connected_components(graph, directed=False)
            _, first = np.unique(parts, return_index=True)
            self._roots, self._pairs = first[parts], []
        return torch.from_numpy(self._roots)[channels.long()].double()
