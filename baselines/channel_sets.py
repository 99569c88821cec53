"""Sets of channels that go together, by union and find over channel numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

# Reserved numbers: no channel, as in a constant, and the set of channels that have to stay.
NONE, FIXED = 0, 1


class ChannelSets:
    """Channel numbers from `new`, in disjoint sets that `join` unites."""

    def __init__(self) -> None:
        self.count = 2
        self._pairs: list[np.ndarray[Any, Any]] = []
        self._roots = np.arange(2)

    def new(self, *shape: int) -> Tensor:
        """Numbers of new channels in this shape, as float64, which every operator that moves data accepts."""
        size = int(np.prod(shape))
        numbers = torch.arange(self.count, self.count + size, dtype=torch.float64).view(shape)
        self.count += size
        return numbers

    def join(self, channels: Tensor, others: Tensor) -> None:
        """Unite the sets of channels pair by pair; pairs with `NONE` are left out."""
        pairs = torch.stack([channels.flatten(), others.flatten()])
        pairs = pairs[:, (pairs != NONE).all(dim=0) & (pairs[0] != pairs[1])]
        if pairs.numel():
            self._pairs.append(np.unique(pairs.numpy().astype(np.int64), axis=1))

    def join_rows(self, rows: Tensor) -> Tensor:
        """Unite all channels of each row `(rows, entries)`; return a channel of every row, or `NONE`."""
        first = rows.amax(dim=1)
        self.join(rows, first[:, None].expand(rows.shape))
        return first

    def fix(self, channels: Tensor) -> None:
        """Mark channels as those that have to stay."""
        self.join(channels, torch.full_like(channels, FIXED))

    def resolve(self, channels: Tensor) -> Tensor:
        """The channels, each by the number that stands for its set."""
        from scipy.sparse import coo_array  # here, as training does without it
        from scipy.sparse.csgraph import connected_components

        if self._pairs or len(self._roots) < self.count:
            left, right = np.concatenate([*self._pairs, [np.arange(len(self._roots)), self._roots]], axis=1)
            graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(self.count, self.count))
            _, parts = connected_components(graph, directed=False)
            _, first = np.unique(parts, return_index=True)
            self._roots, self._pairs = first[parts], []
        return torch.from_numpy(self._roots)[channels.long()].double()
