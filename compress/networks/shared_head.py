"""Shared head: an auxiliary exit without weights, through the later blocks' shortcuts and the last exit's head.

Stage cost (Püttschneider et al. 2025, arXiv 2506.21453) trains such outputs of intermediate features.
"""

from collections.abc import Iterable

from torch import Tensor, nn

SHARED = "shared"  # in the place of a key of `HEADS`


class SharedHead(nn.Module):
    """`(N, C, H, W)` -> logits `(N, classes)`, by layers of the rest of the network.

    In training its batch norms normalise by their running statistics and leave these alone: they are those of the
    trunk's own pass, with which the exit is evaluated, too.

    Args:
        shortcuts: of the later blocks, in their order.
        head: of the last exit.
    """

    path: nn.Sequential

    def __init__(self, shortcuts: Iterable[nn.Module], head: nn.Module) -> None:
        super().__init__()
        # The head's layers one by one, so that what is computed here does not count as the last exit's.
        path = nn.Sequential(*(each for each in shortcuts if not isinstance(each, nn.Identity)), *head.children())
        self.__dict__["path"] = path  # not registered: its weights are those of the blocks and of the last head

    def forward(self, features: Tensor) -> Tensor:
        norms = [module for module in self.path.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        modes = [norm.training for norm in norms]
        for norm in norms:
            norm.training = False
        logits: Tensor = self.path(features)
        for norm, mode in zip(norms, modes, strict=True):
            norm.training = mode
        return logits


def standalone(head: nn.Module) -> nn.Module:
    """The head with all its layers registered, for a network or a stage without the blocks that it shares them with."""
    return head.path if isinstance(head, SharedHead) else head
