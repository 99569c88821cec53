"""Each measure of a block against an independent computation, or a case made so that its value is known."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.probing.linear_probe import channel_moments, pooled_features, probe_predictions
from benchmarks.probing.representations import gradient_shares, linear_cka, similarities_to_next, skip_drops
from compress.networks import Network, create, cut, register
from compress.networks.foreign import zoo

SHAPE, CLASSES, COUNT = (1, 12, 12), 4, 64
LAST_OF_BRANCH = {"resnet14": 3, "resnet14v1": 3, "resnet14nl": 4}  # conv2, norm2, norm3 among a block's children


@pytest.fixture
def images() -> Tensor:
    return torch.randn(COUNT, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(COUNT) % CLASSES


def network(arch: str = "resnet14", exits: int = 1) -> Network:
    """In eval mode, its batch norms as different from the identity as after a training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = create(arch, exits=exits, input_shape=SHAPE, classes=CLASSES).eval()
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
                nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
    return made


def outputs(made: Network, images: Tensor) -> list[Tensor]:
    """What hooks see leave every block."""
    seen: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda *call: seen.append(call[2].detach().clone())) for block in made.blocks]
    made(images)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("arch", ["resnet14", "resnet14v1"])
def test_features_are_what_a_fresh_heads_batch_norm_relu_and_pooling_give(arch: str, images: Tensor) -> None:
    made = network(arch)
    features = pooled_features(made, [(images, images)], channel_moments(made, images))
    for pooled, output in zip(features, outputs(made, images), strict=True):
        head = nn.Sequential(nn.BatchNorm2d(output.shape[1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        assert torch.allclose(pooled, head(output), atol=1e-5)


class Turned(nn.Module):
    """Maps `(N, C, H, W)` as `(N, H, W, C)` or, flattened, as tokens `(N, T, C)`."""

    def __init__(self, *, flatten: bool) -> None:
        super().__init__()
        self.flatten = flatten

    def forward(self, x: Tensor) -> Tensor:
        turned = x.movedim(1, -1)
        return turned.flatten(1, 2) if self.flatten else turned


class ChannelsLast(nn.Module):
    """A net of which the same features leave one block with the channels first, and the next with them last."""

    def __init__(self, classes: int, *, flatten: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 5, 3, padding=1)
        self.turn = Turned(flatten=flatten)
        self.classifier = nn.Linear(5, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.turn(self.convolution(images)).flatten(1, -2).mean(dim=1))
        return logits


@pytest.mark.parametrize("flatten", [True, False], ids=["tokens", "maps"])
def test_channels_that_come_last_are_pooled_as_those_that_come_first(
    flatten: bool, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "_registered", {})
    register("turned", lambda classes: ChannelsLast(classes, flatten=flatten))
    made = create("turned", exits="convolution,turn,end", input_shape=SHAPE, classes=CLASSES).eval()
    first, last, *_ = pooled_features(made, [(images, images)], channel_moments(made, images))
    assert first.shape == (COUNT, 5)
    assert torch.allclose(first, last, atol=1e-6)


def test_the_probe_is_ridge_regression_on_one_hot_targets() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    centres = rng.normal(size=(3, 8))
    x = 5 + rng.normal(size=(200, 8)) + centres[labels]
    held = 5 + rng.normal(size=(100, 8)) + centres[rng.integers(0, 3, 100)]
    tensors = [torch.from_numpy(array) for array in (x, labels, held)]
    predicted, strength = probe_predictions(tensors[0], tensors[1], tensors[2], 3)
    # Least squares on data extended by sqrt(N strength) times the identity is ridge regression.
    z, unseen, targets = (x - x.mean(0)) / x.std(0), (held - x.mean(0)) / x.std(0), np.eye(3)[labels]
    rows = np.vstack([z, np.sqrt(200 * strength) * np.eye(8)])
    weights = np.linalg.lstsq(rows, np.vstack([targets - targets.mean(0), np.zeros((8, 3))]), rcond=None)[0]
    assert predicted.tolist() == (unseen @ weights + targets.mean(0)).argmax(1).tolist()


def test_features_that_give_the_label_away_are_read_without_error_and_noise_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, held_labels = torch.arange(400) % 10, torch.arange(200) % 10
    noise, held_noise = torch.randn(400, 20, generator=generator), torch.randn(200, 20, generator=generator)
    leak = torch.cat([noise, nn.functional.one_hot(labels, 10)], dim=1)
    held_leak = torch.cat([held_noise, nn.functional.one_hot(held_labels, 10)], dim=1)
    assert (probe_predictions(leak, labels, held_leak, 10)[0] == held_labels).all()
    assert (probe_predictions(noise, labels, held_noise, 10)[0] == held_labels).float().mean() < 0.2


def test_a_dead_channel_does_no_harm() -> None:
    labels = torch.arange(40) % 2
    features = torch.stack([labels.float(), torch.zeros(40)], dim=1)
    assert (probe_predictions(features, labels, features, 2)[0] == labels).all()


def test_gradient_shares_are_those_of_a_backward_pass_by_hand(images: Tensor, labels: Tensor) -> None:
    made = network(exits=2)
    before = copy.deepcopy(made.state_dict())
    shares = gradient_shares(made, [(images, labels)])
    assert sum(share or 0 for share in shares) == pytest.approx(1)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert not made.training

    loss = nn.functional.cross_entropy(made.train()(images)[-1], labels)
    norms = []
    for block in made.blocks:
        own = [parameter for parameter in block.parameters() if parameter.ndim == 4]
        gradients = torch.autograd.grad(loss, own, retain_graph=True)
        squares = [float((g.norm() * w.detach().norm()) ** 2) for g, w in zip(gradients, own, strict=True)]
        norms.append(sum(squares) ** 0.5)
    assert shares == pytest.approx([norm / sum(norms) for norm in norms], rel=1e-4)


def test_gradient_shares_average_norms_over_batches(images: Tensor, labels: Tensor) -> None:
    made, batch = network(), (images[:32], labels[:32])
    assert gradient_shares(made, [batch, batch]) == pytest.approx(gradient_shares(made, [batch]), rel=1e-5)


def test_gradient_shares_do_not_see_the_length_of_weights_before_batch_norm(images: Tensor, labels: Tensor) -> None:
    made = network().double()
    batches = [(images.double(), labels)]
    before = gradient_shares(made, batches)
    with torch.no_grad():
        made.blocks[1].conv1.weight *= 5  # type: ignore[operator, union-attr]
    assert gradient_shares(made, batches) == pytest.approx(before, rel=1e-3)


def test_no_gradient_reaches_a_block_that_nothing_depends_on(images: Tensor, labels: Tensor) -> None:
    made = network()
    nn.init.zeros_(made.blocks[1].conv2.weight)  # type: ignore[arg-type, union-attr]
    shares = gradient_shares(made, [(images, labels)])
    assert shares[1] == 0
    assert all(share for number, share in enumerate(shares) if number != 1)


def test_a_block_without_weights_has_no_share(images: Tensor, labels: Tensor) -> None:
    made = network()
    made.blocks[1] = nn.ReLU(inplace=True)
    shares = gradient_shares(made, [(images, labels)])
    assert shares[1] is None
    assert sum(share or 0 for share in shares) == pytest.approx(1)


def test_earlier_heads_take_no_part(images: Tensor, labels: Tensor) -> None:
    made = network(exits=3)
    alone = cut(made, 3)
    assert gradient_shares(made, [(images, labels)]) == gradient_shares(alone, [(images, labels)])
    assert skip_drops(made, [(images, labels)]) == skip_drops(alone, [(images, labels)])


def gram(features: Tensor) -> Tensor:
    return features.double() @ features.double().T


def test_cka_is_one_for_the_same_features_rotated_and_scaled_and_near_zero_for_others() -> None:
    generator = torch.Generator().manual_seed(0)
    features, others = (torch.randn(200, 5, generator=generator) for _ in range(2))
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
    assert linear_cka(gram(features), gram(features)) == pytest.approx(1)
    assert linear_cka(gram(features), gram(3 * features @ rotation + 7)) == pytest.approx(1, abs=1e-6)
    assert abs(linear_cka(gram(features), gram(others))) < 0.05
    assert linear_cka(gram(features), torch.zeros(200, 200).double()) == 0


def test_cka_is_the_ratio_of_sums_over_distinct_images() -> None:
    """The unbiased HSIC by its definition: means over pairs, quadruples and triples of different images."""
    generator = torch.Generator().manual_seed(2)
    k, m = (gram(torch.randn(6, 3, generator=generator)) for _ in range(2))

    def hsic(k: Tensor, m: Tensor) -> float:
        pairs = [float(k[i, j] * m[i, j]) for i, j in itertools.permutations(range(6), 2)]
        quadruples = [float(k[i, j] * m[q, r]) for i, j, q, r in itertools.permutations(range(6), 4)]
        triples = [float(k[i, j] * m[i, q]) for i, j, q in itertools.permutations(range(6), 3)]
        return float(np.mean(pairs) + np.mean(quadruples) - 2 * np.mean(triples))

    assert linear_cka(k, m) == pytest.approx(hsic(k, m) / abs(hsic(k, k) * hsic(m, m)) ** 0.5)


def test_a_block_that_does_nothing_is_the_same_as_the_one_before(images: Tensor) -> None:
    made = network("resnet20")
    nn.init.zeros_(made.blocks[1].conv2.weight)  # type: ignore[arg-type, union-attr]
    similar = similarities_to_next(made, images)
    assert similar[0] == pytest.approx(1, abs=1e-9)
    assert similar[-1] is None
    assert all(value is not None and value < 0.9999 for value in similar[1:-1])
    assert similarities_to_next(made, images[:3]) == [None] * 9


@pytest.mark.parametrize("arch", ["resnet14", "resnet14v1", "resnet14nl"])
def test_skipping_a_block_is_as_good_as_a_branch_of_zeros(arch: str, images: Tensor) -> None:
    made = network(arch)
    with torch.no_grad():
        made.heads["6"][-1].bias -= made(images)[-1].mean(dim=0)  # type: ignore[index] # no class wins for all images
    labels = made(images)[-1].argmax(dim=1)  # so that the whole network is always right
    expected = []
    for number in range(len(made.blocks)):
        other = copy.deepcopy(made)
        block = other.blocks[number]
        for parameter in [*block.children()][LAST_OF_BRANCH[arch]].parameters():
            nn.init.zeros_(parameter)
        wrong = other(images)[-1].argmax(dim=1) != labels
        expected.append(float(wrong.double().mean()))
    assert skip_drops(made, [(images, labels)]) == expected
    assert max(expected) > 0.2


def test_a_useless_block_can_be_skipped_and_one_without_a_shortcut_cannot(images: Tensor, labels: Tensor) -> None:
    made = network()
    nn.init.zeros_(made.blocks[1].conv2.weight)  # type: ignore[arg-type, union-attr]
    made.blocks[3] = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(32, 32, 3, padding=1))
    drops = skip_drops(made, [(images, labels)])
    assert drops[1] == 0
    assert [number for number, drop in enumerate(drops) if drop is None] == [3]


def test_mobilenets_residual_blocks_alone_can_be_skipped(images: Tensor, labels: Tensor) -> None:
    made = network("mobilenetv2")
    drops = skip_drops(made, [(images, labels)])
    assert [drop is not None for drop in drops] == [block.kind == "inverted-residual" for block in made.spec.blocks]
    assert sum(share or 0 for share in gradient_shares(made, [(images, labels)])) == pytest.approx(1)


def test_batches_count_by_their_images(images: Tensor, labels: Tensor) -> None:
    made = network("resnet8")
    parts = list(zip(images.split(40), labels.split(40), strict=True))
    assert skip_drops(made, parts) == skip_drops(made, [(images, labels)])
    moments = channel_moments(made, images)
    pairs = zip(pooled_features(made, parts, moments), pooled_features(made, [(images, labels)], moments), strict=True)
    assert all(torch.allclose(several, whole, atol=1e-6) for several, whole in pairs)
