"""Small nets, each with something in its wiring that makes channels hard to follow, by what that is."""

import torch
from torch import nn

from tests.baselines.awkward import (
    Kind,
    channel_attention,
    conv,
    early_logits,
    every_second,
    first,
    ghost,
    non_local,
    normed,
    partial,
    plain,
    pyramid,
    residual,
    se,
    shuffled_by_views,
    siamese,
    skipped_to_the_end,
    slices,
    spatial_attention,
    split_in_groups,
    stem,
    summed_heads,
    tied,
    transposed_weight,
    two,
)

ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7, 11, 10]

NETS: dict[str, Kind] = {
    # What is written by several layers, or read by several.
    "concatenated-then-grouped": Kind(
        lambda _: {"conv1": first(8), "conv2": first(8), "group1": normed(16, 16, groups=2)},
        lambda net, x: net.group1(torch.cat([net.conv1(x), net.conv2(x)], 1)),
        16,
    ),
    "split-in-groups": Kind(
        stem(16, group1=lambda: normed(8, 8, groups=2), group2=lambda: normed(8, 8, groups=2)),
        split_in_groups,
        16,
    ),
    "pyramid": Kind(stem(8, pool1=lambda: nn.MaxPool2d(5, 1, 2)), pyramid, 24),
    "depthwise-residual": Kind(
        stem(
            8,
            branch1=lambda: nn.Sequential(conv(8, 8, groups=8), nn.ReLU(), nn.BatchNorm2d(8)),
            conv2=lambda: conv(8, 32, 1),
        ),
        lambda net, x: net.conv2(residual(net, x)),
        32,
    ),
    "grouped-residual": Kind(
        stem(16, branch1=lambda: nn.Sequential(normed(16, 12, 1), normed(12, 12, groups=4), conv(12, 16, 1))),
        residual,
        16,
    ),
    "two-kinds-of-groups": Kind(
        stem(24, group1=lambda: conv(24, 12, groups=2), group2=lambda: conv(24, 12, groups=3)),
        lambda net, x: net.group1(y := net.conv1(x)) + net.group2(y),
        12,
    ),
    "multiplier": Kind(stem(8, deep1=lambda: normed(8, 24, groups=8)), lambda net, x: net.deep1(net.conv1(x)), 24),
    "one-output-a-group": Kind(
        stem(16, group1=lambda: normed(16, 8, groups=8)), lambda net, x: net.group1(net.conv1(x)), 8
    ),
    "reused": Kind(stem(12, conv2=lambda: normed(12, 12)), lambda net, x: net.conv2(net.conv2(net.conv1(x))), 12),
    "added-to-the-image": Kind(
        lambda _: {"conv1": normed(3, 12), "conv2": conv(12, 3), "conv3": first(16)},
        lambda net, x: net.conv3(x + net.conv2(net.conv1(x))),
        16,
    ),
    # Weights that layers share, and other parameters.
    "tied": Kind(tied, lambda net, x: net.conv3(net.conv2(net.conv1(x)).relu()).relu(), 12),
    "siamese": Kind(siamese, lambda net, x: net.conv2(y := net.conv1(x)) + net.conv3(y), 8),
    "transposed-weight": Kind(
        lambda classes: {**two(classes), "fc1": nn.Linear(8, 12, bias=False), "fc2": nn.Linear(8, classes)},
        transposed_weight,
    ),
    "weight-norm": Kind(
        stem(12, conv2=lambda: nn.utils.parametrizations.weight_norm(conv(12, 12))),
        lambda net, x: plain(net, x).relu(),
        12,
    ),
    "learned-scale": Kind(
        stem(12, branch1=lambda: normed(12, 12), scale1=lambda: nn.Parameter(torch.full((12, 1, 1), 0.1))),
        lambda net, x: (y := net.conv1(x)) + net.scale1 * net.branch1(y),
        12,
    ),
    "fixed-scale": Kind(
        stem(12, scale1=lambda: torch.rand(1, 12, 1, 1) + 0.5),
        lambda net, x: net.conv1(x) * net.scale1,
        12,
    ),
    # Layers of other kinds.
    "transposed-convolution": Kind(
        stem(12, conv2=lambda: nn.Sequential(nn.ConvTranspose2d(12, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.ReLU())),
        plain,
        16,
    ),
    "instance-norm": Kind(
        stem(12, conv2=lambda: nn.Sequential(conv(12, 12), nn.InstanceNorm2d(12, affine=True))),
        plain,
        12,
    ),
    "instance-norm-without-weights": Kind(
        stem(12, conv2=lambda: nn.Sequential(conv(12, 12), nn.InstanceNorm2d(12))), plain, 12
    ),
    "group-norm": Kind(
        stem(16, branch1=lambda: nn.Sequential(conv(16, 16), nn.GroupNorm(4, 16), nn.ReLU())),
        residual,
        16,
    ),
    "group-norm-without-weights": Kind(
        stem(16, conv2=lambda: nn.Sequential(conv(16, 16), nn.GroupNorm(4, 16, affine=False), nn.ReLU())),
        plain,
        16,
    ),
    "group-norm-of-a-concatenation": Kind(
        lambda _: {"conv1": conv(3, 8), "conv2": conv(3, 8), "norm1": nn.GroupNorm(2, 16)},
        lambda net, x: net.norm1(torch.cat([net.conv1(x), net.conv2(x)], 1)).relu(),
        16,
    ),
    "group-norm-behind-groups": Kind(
        stem(24, conv2=lambda: nn.Sequential(conv(24, 24, groups=3), nn.GroupNorm(4, 24), nn.ReLU())),
        plain,
        24,
    ),
    "layer-norm": Kind(
        stem(12, norm1=lambda: nn.LayerNorm(12)),
        lambda net, x: net.norm1(net.conv1(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        12,
    ),
    "batch-norm-without-statistics": Kind(
        stem(12, conv2=lambda: nn.Sequential(conv(12, 12), nn.BatchNorm2d(12, track_running_stats=False))),
        plain,
        12,
    ),
    "batch-norm-without-weights": Kind(
        stem(12, conv2=lambda: nn.Sequential(conv(12, 12), nn.BatchNorm2d(12, affine=False), nn.ReLU())),
        plain,
        12,
    ),
    "dropout": Kind(stem(12, drop1=lambda: nn.Dropout2d(0.3)), lambda net, x: net.drop1(net.conv1(x)), 12),
    # Channels that weigh or reduce one another.
    "gate": Kind(
        stem(16, gate1=lambda: nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 16), nn.Sigmoid())),
        se,
        16,
    ),
    "gate-of-one-channel": Kind(
        stem(12, gate1=lambda: nn.Sequential(conv(12, 1), nn.Sigmoid())),
        lambda net, x: (y := net.conv1(x)) * net.gate1(y),
        12,
    ),
    "gate-of-one-number": Kind(
        stem(12, gate1=lambda: nn.Linear(12, 1)),
        lambda net, x: (y := net.conv1(x)) * net.gate1(y.mean((2, 3))).sigmoid()[:, :, None, None],
        12,
    ),
    "attention-over-channels": Kind(
        stem(16, conv2=lambda: nn.Conv1d(1, 1, 3, padding=1, bias=False)), channel_attention, 16
    ),
    "attention-over-positions": Kind(stem(12, gate1=lambda: conv(2, 1, 7)), spatial_attention, 12),
    "non-local": Kind(
        stem(
            16,
            query1=lambda: conv(16, 8, 1),
            key1=lambda: conv(16, 8, 1),
            value1=lambda: conv(16, 8, 1),
            out1=lambda: conv(8, 16, 1),
        ),
        non_local,
        16,
    ),
    "grouped-norms": Kind(stem(16), lambda net, x: net.conv1(x).unflatten(1, (4, 4)).pow(2).sum(2).add(1e-6).sqrt(), 4),
    # Channels in another order, or as positions.
    "shuffled": Kind(
        stem(
            16,
            group1=lambda: normed(16, 16, 1, groups=2),
            shuffle1=lambda: nn.ChannelShuffle(2),
            group2=lambda: normed(16, 16, 1, groups=2),
        ),
        lambda net, x: net.group2(net.shuffle1(net.group1(net.conv1(x)))),
        16,
    ),
    "shuffled-by-views": Kind(
        stem(16, group1=lambda: normed(16, 16, 1, groups=2), group2=lambda: normed(16, 16, 1, groups=2)),
        shuffled_by_views,
        16,
    ),
    "reordered": Kind(stem(12, order1=lambda: torch.tensor(ORDER)), lambda net, x: net.conv1(x)[:, net.order1], 12),
    "every-second": Kind(stem(16, conv2=lambda: normed(8, 8), conv3=lambda: normed(8, 8)), every_second, 8),
    "repeated": Kind(stem(8), lambda net, x: net.conv1(x).repeat(1, 2, 1, 1), 16),
    "repeated-one-by-one": Kind(stem(8), lambda net, x: net.conv1(x).repeat_interleave(2, 1), 16),
    "with-negatives": Kind(stem(8), lambda net, x: torch.cat([y := net.conv1(x), -y], 1).relu(), 16),
    "pixels-from-channels": Kind(
        stem(16, shuffle1=lambda: nn.PixelShuffle(2)), lambda net, x: net.shuffle1(net.conv1(x)), 4
    ),
    "channels-from-pixels": Kind(
        stem(8, shuffle1=lambda: nn.PixelUnshuffle(2)), lambda net, x: net.shuffle1(net.conv1(x)), 32
    ),
    "channels-from-slices": Kind(stem(8), slices, 32),
    "partial": Kind(stem(16, conv2=lambda: conv(4, 4)), partial, 16),
    "ghost": Kind(stem(8, conv2=lambda: normed(8, 10, 1), cheap1=lambda: normed(10, 10, groups=10)), ghost, 18),
    # Ends of other kinds.
    "flattened": Kind(
        lambda classes: {
            **two(classes),
            "pool1": nn.AdaptiveAvgPool2d((4, 2)),
            "fc1": nn.Linear(64, 20),
            "fc2": nn.Linear(20, classes),
        },
        lambda net, x: net.fc2(net.fc1(net.pool1(plain(net, x)).flatten(1)).relu()),
    ),
    "flattened-with-channels-last": Kind(
        lambda classes: {**two(classes), "pool1": nn.AdaptiveAvgPool2d(4), "fc1": nn.Linear(128, classes)},
        lambda net, x: net.fc1(net.pool1(plain(net, x)).permute(0, 2, 3, 1).flatten(1)),
    ),
    "pooled-twice": Kind(
        lambda classes: {**two(classes), "fc1": nn.Linear(16, classes)},
        lambda net, x: net.fc1(torch.cat([(y := plain(net, x)).mean((2, 3)), y.amax((2, 3))], 1)),
    ),
    "skipped-to-the-end": Kind(lambda classes: {**two(classes), "fc1": nn.Linear(16, classes)}, skipped_to_the_end),
    "classifier-before-pooling": Kind(
        lambda classes: {**two(classes), "out1": conv(8, classes, 1)},
        lambda net, x: net.out1(plain(net, x)).mean((2, 3)),
    ),
    "two-classifiers": Kind(
        lambda classes: {**two(classes), "fc1": nn.Linear(8, classes), "fc2": nn.Linear(8, classes)}, summed_heads
    ),
    "norm-behind-the-classifier": Kind(
        lambda classes: {**two(classes), "fc1": nn.Linear(8, classes), "norm1": nn.BatchNorm1d(classes)},
        lambda net, x: net.norm1(net.fc1(plain(net, x).mean((2, 3)))),
    ),
    "early-logits": Kind(
        lambda classes: {**two(classes), "early1": conv(8, classes, 1), "fc1": nn.Linear(8, classes)}, early_logits
    ),
}
