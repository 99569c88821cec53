"""Controls: the pruned shape from scratch, and the plain shallower networks of a family."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from baselines import Technique, carry_out
from baselines.controls import DISTILLED, scratch, scratch_epochs, shallow_order, shallower
from baselines.depth_pruning import cut_anew, without_blocks
from baselines.removal_order import Size
from compress import Architecture, Place, Start
from compress.data import Dataset, Split, split
from compress.errors import UsageError
from compress.network_cost import exit_costs
from compress.networks import Network, Spec, create, spec_of
from compress.networks.foreign import zoo
from compress.recipes import Recipe, recipe_named
from compress.runs import Run
from compress.training import Method, Plan, train
from compress.training.execution import Prepared
from tests.baselines.jobs import job_of
from tests.baselines.networks import narrowed_by
from tests.baselines.test_coupling import Dense


class Bare(nn.Module):
    """Somebody else's net without batch norm, so that the scale of weights matters; it initialises itself."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 48, 3), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(48, 64, 3), nn.ReLU())
        self.classify = nn.Sequential(nn.Flatten(), nn.Linear(64 * 16, classes))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.constant_(layer.get_parameter("bias"), 0.5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.second(self.first(images)))
        return logits


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(zoo, "_registered", {"bare": Bare})
    return "bare"


def test_scratch_is_a_training_of_the_pruned_shape_from_its_beginning(tiny: Dataset) -> None:
    reference = create("resnet14", exits=2, input_shape=(1, 8, 8)).eval()
    spec = without_blocks(narrowed_by(reference, 0.5), [4]).spec
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    network = scratch(spec, seed=4)
    assert torch.equal(torch.rand(1), expected)
    assert network.spec == spec
    torch.manual_seed(4)
    assert all(map(torch.equal, network.state_dict().values(), Network(spec).state_dict().values()))
    assert not torch.equal(next(scratch(spec, seed=5).parameters()), next(network.parameters()))


def test_somebody_elses_pruned_net_starts_from_its_own_initialisation_at_its_own_scale(bare: str) -> None:
    small = narrowed_by(create(bare, input_shape=(1, 8, 8)).eval(), 0.5)
    assert small.spec.resized
    network, again = scratch(small.spec, seed=0), scratch(small.spec, seed=0)
    assert network.spec == small.spec
    assert all(map(torch.equal, network.state_dict().values(), again.state_dict().values()))
    weights = [(name, tensor) for name, tensor in network.named_parameters() if name.endswith("weight")]
    assert len(weights) == 3
    for name, weight in weights:
        fan_in = weight[0].numel()
        assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_in), rel=0.15), name
    assert all(bool((bias == 0.5).all()) for name, bias in network.named_parameters() if name.endswith("bias"))
    (logits,) = network(torch.randn(2, 1, 8, 8))
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_batch_norm_of_somebody_elses_pruned_net_starts_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_registered", {"dense": Dense})
    network = narrowed_by(create("dense", input_shape=(1, 8, 8)).eval(), 0.5)
    fresh = scratch(network.spec, seed=1).state_dict()
    norms = [name.rpartition(".")[0] for name in fresh if name.endswith("running_var")]
    assert len(norms) == 2
    for norm in norms:
        assert bool((fresh[f"{norm}.running_var"] == 1).all())
        assert bool((fresh[f"{norm}.weight"] == 1).all())


@pytest.mark.parametrize(
    ("method", "before", "after", "epochs"),
    [
        ("scratch-e", 100, 25, 5),
        ("scratch-b", 100, 50, 10),
        ("scratch-b", 260, 100, 13),
        ("scratch-b", 100, 25, 20),
        ("scratch-b", 100, 1, 20),  # capped
        ("scratch-b", 100, 99, 5),
    ],
)
def test_epochs_from_scratch(method: str, before: int, after: int, epochs: int) -> None:
    assert scratch_epochs(method, recipe_named("quick"), before, after) == epochs


@pytest.mark.parametrize(
    ("arch", "family"),
    [
        ("resnet56", ["resnet50", "resnet44", "resnet38", "resnet32", "resnet26", "resnet20", "resnet14", "resnet8"]),
        ("resnet20v1", ["resnet14v1", "resnet8v1"]),
        ("resnet20nl", ["resnet14nl", "resnet8nl"]),
        ("wrn-22-4", ["resnet14x4", "resnet8x4"]),
        ("MwResNet-26-4", ["resnet20", "resnet14", "resnet8"]),
        ("resnet20w4-6-8", ["resnet14w4-6-8", "resnet8w4-6-8"]),
        ("resnet20b4-4-6", ["resnet16b2-2-3"]),
        ("resnet14", ["resnet8"]),
    ],
)
def test_the_family_has_the_same_form_and_widths_and_fewer_blocks(arch: str, family: list[str]) -> None:
    specs = shallower(spec_of(arch, input_shape=(1, 9, 9), classes=7))
    assert [spec.arch for spec in specs] == family
    for spec in specs:
        assert spec == spec_of(spec.arch, input_shape=(1, 9, 9), classes=7)
        assert [exit.block for exit in spec.exits] == [len(spec.blocks)]


@pytest.mark.parametrize(
    ("arch", "says"),
    [
        ("mobilenetv2", "shallow: mobilenetv2 has no family of shallower networks"),
        ("torchvision:resnet18", "shallow: torchvision:resnet18 has no family"),
        ("resnet8", "in proportion to resnet8's stages of 1, 1, 1"),
        ("resnet20b2-3-4", "in proportion to resnet20b2-3-4's stages of 2, 3, 4"),
    ],
)
def test_nets_outside_such_families_are_refused(arch: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        shallower(spec_of(arch))


def narrowed(network: Network) -> Spec:
    return narrowed_by(network, 0.5).spec


def shortened(network: Network) -> Spec:
    return without_blocks(network, [2]).spec


def ended(network: Network) -> Spec:
    return cut_anew(network, 4, seed=0).spec


@pytest.mark.parametrize("change", [narrowed, shortened, ended])
def test_a_network_that_its_name_no_longer_describes_has_no_family(change: Callable[[Network], Spec]) -> None:
    network = create("resnet14", input_shape=(1, 8, 8)).eval()
    with pytest.raises(UsageError, match="this network is a resnet14 by name, but pruned or cut"):
        shallower(change(network))


@pytest.mark.parametrize("arch", ["resnet26", "resnet20v1", "wrn-22-2"])
def test_steps_through_the_family_cost_what_its_networks_do(arch: str) -> None:
    spec = spec_of(arch, exits=3, input_shape=(1, 8, 8))
    steps, family = shallow_order(spec), [spec, *shallower(spec)]
    assert steps.lockstep
    assert (steps.units, steps.moves) == ((len(family),), (((0, 1),),) * (len(family) - 1))
    sizes = [steps.size((place,)) for place in range(len(family))]
    for size, shape in zip(sizes, family, strict=True):
        cost = exit_costs(Network(shape))[-1]
        assert size == Size(cost.macs, cost.params)
    assert sizes == sorted(set(sizes), reverse=True)


def test_from_scratch_a_shape_is_trained_as_its_reference_was(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    """Fine-tuning leaves out what helps a training from its beginning; without it the control would be held back."""
    method, place = Method(annealing="last-third", ensemble_teacher=0.3, self_distillation=0.2), Place(runs=tmp_path)
    reference = train("resnet14", tiny, method=method, exits=2, recipe=brief, place=place)
    job = job_of(None, tiny, brief, tmp_path, reference=reference.path)
    fresh, tuned = (
        carry_out(replace(job, technique=Technique(method=name, nearest=True))).record.config["objective"]
        for name in ("scratch-e", "l1")
    )
    own = reference.record.config["objective"]
    assert [own[name] for name in ("annealing", "ensemble_teacher", "self_distillation")] == ["last-third", 0.3, 0.2]
    assert fresh == own
    assert not {"annealing", "ensemble_teacher"} & tuned.keys()
    frozen = train("resnet14", tiny, method="frozen-trunk", exits=2, recipe=brief, place=place)
    again = job_of(None, tiny, brief, tmp_path, reference=frozen.path, technique=Technique(method="scratch-e"))
    with pytest.raises(UsageError, match="its trunk was trained by another run"):
        carry_out(again)


@pytest.mark.parametrize("method", ["scratch-e", "shallow"])
def test_a_control_begins_as_the_network_that_it_controls(
    method: str, tiny: Dataset, brief: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the blocks as the identity, where the recipe says so."""
    recipe, place = replace(brief, zero_scale=True), Place(runs=tmp_path)
    reference = train(Architecture("resnet14", form="norm-last"), tiny, recipe=recipe, place=place)
    began: list[Network] = []

    def begin(plan: Plan, prepare: Callable[[Split], Prepared], **_: object) -> Run:
        began.append(prepare(split(tiny, validation=0.1, calibration=0.1, seed=0)).network)
        return reference

    monkeypatch.setattr("baselines.pruning.execute", begin)
    carry_out(
        job_of(None, tiny, recipe, tmp_path, reference=reference.path, technique=Technique(method=method, nearest=True))
    )
    [network] = began
    last = [block.get_parameter("norm3.weight") for block in network.blocks]
    assert last
    assert not torch.stack([weight.detach().abs().sum() for weight in last]).any()


def test_the_distilled_network_is_trained_as_any_network_with_a_teacher(
    tiny: Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs = tmp_path_factory.mktemp("runs")
    recipe = replace(brief, batch_size=100)
    teacher = train("resnet8", tiny, recipe=recipe, place=Place(runs=runs))
    taught = train("resnet8w2-2-2", tiny, recipe=recipe, start=Start(teacher=teacher.path), place=Place(runs=runs))
    objective = DISTILLED.objective(taught.spec)
    assert taught.record.config["objective"] == objective.to_json()
    assert (objective.teacher, objective.temperature) == (0.5, 4.0)
