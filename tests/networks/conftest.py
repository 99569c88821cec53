"""A small transformer for tests of foreign networks."""

import torchvision
from torch import nn


def narrow_transformer(classes: int) -> nn.Module:
    """ViT-B/16 for images of 32 pixels, a 48th as wide: 86 million weights take seconds."""
    sizes = {"num_layers": 12, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 64}
    model: nn.Module = torchvision.models.VisionTransformer(32, 16, num_classes=classes, **sizes)
    return model
