"""Early exit of a network: what lies behind the exit that an image leaves at is not computed for it."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from compress.errors import UsageError, checked
from compress.hardware import repeatable
from compress.inference.policy import NEVER, Policy, confidences, exceeds, powers
from compress.inference.simulation import Exited, answers
from compress.networks import Network, digest_of_weights


@checked
class EarlyExit:
    """A network that stops at the exit where its images leave.

    It computes with a copy of the network in eval mode, on the same device: what is trained afterwards does not change
    it. Who leaves is decided in float64 from an exit's logits, exactly as in `simulate`; but
    kernels differ by batch size, and with them the rounding of an image's logits.

    Args:
        compact: whether images that have left are taken out of the batch; a number: out of batches of at least so many,
            see `benchmarks.measuring.compaction`. Either way it stops when all have left.
        dtype: what it computes in; None: what the weights are in, which are those that the policy names.

    Raises:
        UsageError: the policy is for another number of exits, or for other weights.
    """

    def __init__(
        self,
        network: Network,
        policy: Policy,
        *,
        compact: bool | int = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_fits(policy, network)
        if compact < 0:
            raise UsageError(f"compact {compact}: True, False, or the smallest batch that images are taken out of")
        self.policy = policy
        self.network = copy.deepcopy(network).to(dtype=dtype).eval()
        self._compact_from = int(compact) or math.inf
        exits = network.spec.exits
        segments = self.network.segments([exit.block for exit in exits])
        heads = [self.network.heads[str(exit.block)] for exit in exits]
        stages = [(nn.Sequential(*segment), head) for segment, head in zip(segments, heads, strict=True)]
        thresholds = (*policy.thresholds, NEVER)
        self._rules = [*zip(range(1, len(exits) + 1), stages, policy.temperatures, thresholds, strict=True)]
        like = next(self.network.parameters())
        self._device, self._dtype = like.device, like.dtype

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Exited[Tensor]:
        """Answer normalised images `(N, C, H, W)`; the answers are on the CPU, where it is decided who leaves.

        Raises:
            UsageError: there are none, or of another shape than the network's.
        """
        spec, count = self.network.spec, len(images)
        if not count or images.shape[1:] != spec.input_shape:
            raise UsageError(
                f"images {tuple(images.shape)}: {spec.arch} takes (N, {', '.join(map(str, spec.input_shape))})"
            )
        features = images.to(self._device, self._dtype)
        with repeatable(self._device):
            return self._one(features) if count == 1 else self._batch(features)

    def _one(self, features: Tensor) -> Exited[Tensor]:
        """Answer one image `(1, C, H, W)`, with as little as possible between one exit and the next."""
        for exit, (segment, head), temperature, threshold in self._rules:
            features = segment(features)
            [logits] = head(features).float().tolist()  # on CUDA, the only wait of this exit
            if exit == self.policy.exits or exceeds(logits, temperature, threshold):
                break
        parts = powers(logits, temperature)
        label, total = logits.index(max(logits)), sum(parts)
        probabilities = torch.tensor([[part / total for part in parts]], dtype=torch.float32)
        return Exited(torch.tensor([label]), torch.tensor([exit]), probabilities)

    def _batch(self, features: Tensor) -> Exited[Tensor]:
        """Answer images `(N, C, H, W)`."""
        count, classes = len(features), self.network.spec.classes
        logits = np.empty((count, classes), dtype=np.float32)  # at the last exit that an image has reached
        exits = np.empty(count, dtype=np.int64)
        rows, stays = np.arange(count), np.ones(count, dtype=np.bool_)  # images in the batch; which have not left
        for number, (segment, head), temperature, threshold in self._rules:
            features = segment(features)
            found = head(features).float().numpy(force=True)  # on CUDA, the only wait of this exit
            logits[rows[stays]], exits[rows[stays]] = found[stays], number
            stays &= ~(confidences(found, temperature) > threshold)
            if not stays.any():
                break
            if count >= self._compact_from and not stays.all():
                features = features[torch.from_numpy(stays.nonzero()[0]).to(features.device)]
                rows, stays = rows[stays], stays[stays]
        return Exited(*map(torch.from_numpy, answers(logits, exits, self.policy)))


def check_fits(policy: Policy, network: Network) -> None:
    """Check that a policy is for a network.

    Raises:
        UsageError: it is for another number of exits, or for other weights.
    """
    arch, exits = network.spec.arch, len(network.spec.exits)
    if policy.exits != exits:
        raise UsageError(f"policy: it is for {policy.exits} exits, {arch} has {exits}")
    if (digest := digest_of_weights(network)) != policy.weights:
        named = policy.weights[:12] or "none"
        raise UsageError(f"policy: it was chosen for other weights ({named}) than those of this {arch} ({digest[:12]})")
