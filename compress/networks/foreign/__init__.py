"""Foreign networks, of torchvision, timm or the user. Enters: where they come from, their tracing, their division."""
