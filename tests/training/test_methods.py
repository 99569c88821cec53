"""Training methods: their objectives in numbers, what they train, and which options they refuse."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from compress import Architecture, Place, Start
from compress.data import Dataset
from compress.errors import UsageError
from compress.network_cost import cost, exit_costs, part_costs
from compress.networks import Network, create, spec_of
from compress.networks.spec import StemSpec
from compress.recipes import Recipe, recipe_named
from compress.runs import load
from compress.training import Method, plan_of, train
from compress.training.methods import FROZEN
from compress.training.objectives import mwbp
from tests.conftest import Command

FIVE = spec_of("resnet56", exits=5)


def test_gammas_are_the_authors_uniform_or_given() -> None:
    assert Method().objective(FIVE) == mwbp(FIVE)
    assert Method(gamma="uniform").objective(FIVE).loss_weights == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1, 1])
    given = Method(gamma="0.5,1,2,4").objective(FIVE)
    assert given.gammas == (0.5, 1, 2, 4, 1)
    assert given.lambdas == (7.5, 7, 6, 4, 1)
    assert given.loss_weights == pytest.approx([0.5 / 7.5, 1 / 7, 2 / 6, 1, 1])


def test_controls_take_mwbp_apart() -> None:
    full = mwbp(FIVE)
    deep = Method(name="deep-supervision").objective(FIVE)
    assert (deep.loss_weights, deep.decay_factors) == ((1.0,) * 5, (1.0,) * 5)
    uniform = Method(name="mwbp-uniform-decay").objective(FIVE)
    assert (uniform.loss_weights, uniform.decay_factors) == (full.loss_weights, (1.0,) * 5)
    single = spec_of("resnet56")
    decayed = Method(name="bp-extra-decay", decay_exits="7,12,17,22,end").objective(single)
    assert decayed.loss_weights == (1.0,)
    assert (decayed.segments, decayed.decay_factors) == ((7, 12, 17, 22, 27), full.decay_factors)


def test_extra_decay_reaches_the_segments_of_a_network_without_those_exits() -> None:
    network = create("resnet20")
    objective = Method(name="bp-extra-decay", decay_exits=3).objective(network.spec)
    groups = objective.parameter_groups(network, learning_rate=0.1, weight_decay=1e-3)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decay = {names[id(parameter)]: group["weight_decay"] / 1e-3 for group in groups for parameter in group["params"]}
    assert len(decay) == len(names)
    factors = mwbp(spec_of("resnet20", exits=3)).decay_factors
    for name, factor in decay.items():
        block = int(name.split(".")[1]) if name.startswith("blocks.") else 0
        assert factor == pytest.approx(1.0 if name.startswith("heads.") else factors[block // 3]), name


def test_gradient_equilibrium_is_the_mean_of_the_gradients_that_pass_a_segment() -> None:
    """Against its definition: rescaling at every exit, k-i of k-i+1 parts on, one part into the exit (by hooks)."""
    torch.manual_seed(0)
    network = create(Architecture("resnet8", widths="4,4,8"), exits=3, input_shape=(1, 8, 8)).double()
    images, labels = torch.randn(8, 1, 8, 8, dtype=torch.float64), torch.arange(8)
    objective = Method(name="deep-supervision", gradient_equilibrium=True).objective(network.spec)
    start = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    groups = objective.parameter_groups(network, learning_rate=0.1, weight_decay=0.01)
    optimizer = torch.optim.SGD(groups, lr=0.1)
    objective.total(objective.losses(network(images), labels)).backward()
    optimizer.step()
    moved = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}

    network.load_state_dict(start, strict=False)
    network.zero_grad()
    features, losses = network.stem(images), []
    for number, block in enumerate(network.blocks, start=1):
        features, left = block(features), 4 - number  # exits from this one on
        into_exit, features = _Rescaled.apply(features, 1 / left, (left - 1) / left)
        losses.append(functional.cross_entropy(network.heads[str(number)](into_exit), labels))
    torch.stack(losses).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        expected = start[name] - 0.1 * (parameter.grad + 0.01 * start[name])  # heads keep their full gradient
        assert torch.allclose(moved[name], expected, atol=1e-12), name


class _Rescaled(torch.autograd.Function):
    """Two copies of the features, whose gradients come back multiplied by two factors."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, first: float, second: float) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.factors = first, second
        return features.clone(), features.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0] * ctx.factors[0] + gradients[1] * ctx.factors[1], None, None


def test_distillation_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(6, 10, generator=generator, requires_grad=True) for _ in range(3)]
    teacher = torch.randn(6, 10, generator=generator)
    labels = torch.arange(6)
    method = Method(self_distillation=0.3, teacher=0.2, temperature=3.0)
    objective = method.objective(spec_of("resnet8", exits=3))
    losses = objective.losses(logits, labels, 0.0, teacher)

    def from_to(target: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
        p, q = (target / 3).softmax(dim=1), (student / 3).softmax(dim=1)
        return 9 * (p * (p.log() - q.log())).sum(dim=1).mean()

    for exit, loss in enumerate(losses):
        share = 0.3 if exit < 2 else 0.0
        expected = (0.8 - share) * functional.cross_entropy(logits[exit], labels)
        expected = expected + share * from_to(logits[2], logits[exit]) + 0.2 * from_to(teacher, logits[exit])
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    losses[0].backward()
    last = logits[2].grad
    assert last is not None
    assert not last.any()  # teaching an earlier exit does not move the last one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mwpb"}, "did you mean 'mwbp'"),
        ({"update": "sequental"}, "did you mean 'sequential'"),
        ({"gamma": "unifrom"}, "did you mean 'uniform'"),
        ({"gamma": "1,0,1"}, "every weight must be above 0"),
        ({"self_distillation": 1.5}, "self-distillation 1.5: a share"),
        ({"self_distillation": 0.7, "teacher": 0.7}, "1.4 together"),
        ({"temperature": 0.0}, "temperature 0: must be above 0"),
        ({"name": "auxnet", "update": "simultaneous"}, "sequential only"),
        ({"name": "deep-supervision", "update": "sequential"}, "not for deep-supervision"),
        ({"update": "sequential", "gradient_equilibrium": True}, "gradient-equilibrium needs all gradients at once"),
        ({"name": "bp-extra-decay"}, "goes with bp-extra-decay"),
        ({"name": "deep-supervision", "gamma": "uniform"}, "deep-supervision has no such weights"),
        ({"gamma": (0.0, 1.0)}, "every weight must be above 0"),
        ({"teacher": 0.0}, "teacher-weight 0"),
        ({"decay_exits": 3}, "goes with bp-extra-decay alone"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Method(**options)


@pytest.mark.parametrize(
    ("method", "exits", "message"),
    [
        (Method(gamma="1,2"), 5, r"gamma 1,2: one number an auxiliary exit, here 4, not 2"),
        (Method(name="bp"), 5, "use train-mwbp"),
        (Method(name="bp", gradient_equilibrium=True), 1, "gradient-equilibrium: with bp"),
        (Method(name="frozen-trunk"), 1, "there are none"),
        (Method(self_distillation=0.5), 1, "no other to teach it"),
        (Method(name="bp-extra-decay", decay_exits=99), 1, "exits 99"),
        (Method(name="bp-extra-decay", decay_exits=1), 1, "extra-decay 1: one exit brings no more weight decay"),
    ],
)
def test_a_method_that_does_not_fit_the_network_is_refused(method: Method, exits: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        method.objective(spec_of("resnet56", exits=exits))


@pytest.mark.parametrize(
    "method", [Method(update="sequential"), Method(name=FROZEN), Method(gradient_equilibrium=True)]
)
def test_what_counts_on_heads_of_their_own_refuses_shared_ones(method: Method) -> None:
    with pytest.raises(UsageError, match="shared heads have no weights of their own"):
        method.objective(spec_of(Architecture("resnet14", head="shared"), exits=3))


def test_extra_decay_refuses_exits_that_cut_a_foreign_network_otherwise() -> None:
    method = Method(name="bp-extra-decay", decay_exits="maxpool,layer2,end")
    with pytest.raises(UsageError, match="extra-decay maxpool,layer2,end: an exit within a block"):
        method.objective(spec_of("torchvision:resnet18", input_shape=(3, 64, 64)))


# ------------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def brief(brief: Recipe) -> Recipe:
    return replace(brief, batch_size=20)


def test_exits_on_a_frozen_trunk_leave_the_trunk_and_its_last_exit_as_they_were(
    tiny: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    run = train("resnet8", tiny, method="frozen-trunk", exits=3, recipe=brief, place=Place(runs=tmp_path))
    assert (run.record.kind, run.record.method) == ("control", "frozen-trunk")
    assert run.record.parent is not None
    plain = load(run.record.parent, runs=tmp_path)
    network = load(run)
    state = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    images = torch.randn(4, *tiny.input_shape)
    assert torch.equal(plain(images)[-1], network(images)[-1])
    torch.manual_seed(0)
    fresh = Network(network.spec).state_dict()
    assert not torch.equal(state["heads.1.4.weight"], fresh["heads.1.4.weight"])  # the auxiliary heads did learn
    parts = part_costs(network)
    own = cost(network).macs + 2 * sum(parts[f"heads.{block}"].macs for block in list(network.heads)[:-1])
    settling = 180 * cost(network).macs
    assert run.record.cost["training_macs"] == own * 180 // brief.batch_size * brief.batch_size + settling
    again = train(
        "resnet8",
        tiny,
        method="frozen-trunk",
        exits=3,
        recipe=brief,
        start=Start(trunk=run.record.parent),
        place=Place(runs=tmp_path),
    )
    assert again.path == run.path


@pytest.mark.parametrize("changed", [{"averaging": "ema"}, {"stochastic_depth": 0.1}, {"select": "best-validation"}])
def test_what_a_frozen_trunk_refuses_is_refused_before_a_trunk_is_trained(
    changed: dict[str, Any], tiny: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"frozen-trunk: (a frozen trunk is neither|the last exit never changes)"):
        train("resnet8", tiny, method=FROZEN, exits=3, recipe=replace(brief, **changed), place=Place(runs=tmp_path))
    assert not any(tmp_path.iterdir())


def test_a_teacher_is_charged_recorded_and_heard(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    teacher = train("resnet14", tiny, recipe=brief, place=Place(runs=tmp_path))
    taught = train("resnet8", tiny, recipe=brief, start=Start(teacher=teacher.id), place=Place(runs=tmp_path))
    alone = train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path))
    assert taught.record.config["teacher"] == teacher.id
    assert taught.record.config["objective"]["teacher"] == 0.5
    assert f"--teacher {teacher.id}" in taught.record.command
    images = taught.record.cost["training_macs"] - alone.record.cost["training_macs"]
    assert images == cost(load(teacher)).macs * 180
    total = taught.record.cost["training_macs"] + teacher.record.cost["total_training_macs"]
    assert taught.record.cost["total_training_macs"] == total
    first = load(taught).state_dict()["stem.0.weight"]
    assert not torch.equal(first, load(alone).state_dict()["stem.0.weight"])


def test_sequential_training_is_charged_for_every_pass(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    run = train("resnet8", tiny, method=Method(update="sequential"), exits=3, recipe=brief, place=Place(runs=tmp_path))
    network = load(run)
    passes = cost(network).macs + 2 * sum(exit.macs for exit in exit_costs(network))
    assert run.record.cost["training_macs"] == passes * 180 + cost(network).macs * 180  # and batch norm's statistics


COMMANDS = [
    "train-mwbp --arch MwResNet-14-2 --update sequential --head bn-relu-conv-gap-fc",
    "train-mwbp --arch resnet8 --exits 3 --gamma 0.5,1 --self-distillation 0.5",
    "train-mwbp --arch resnet8 --method auxnet --exits 1,end",
    "train-mwbp --arch resnet8 --method deep-supervision --gradient-equilibrium --stochastic-depth 0.2",
    "train --arch resnet14 --extra-decay 3 --form norm-last --widths 4,8,16 --blocks 1,1,2",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_recorded_command_with_every_option_is_the_same_run(
    command: str, compress: Command, tiny_folder: Path, tmp_path: Path
) -> None:
    place = ["--runs", str(tmp_path), "--dataset", f"folder:{tiny_folder}", "--epochs", "1", "--json"]
    status, out, err = compress(*command.split(), *place)
    assert status == 0, err
    [run] = json.loads(out)["runs"]
    status, out, err = compress(*run["command"].split()[1:], "--runs", str(tmp_path), "--json")
    assert status == 0, err
    assert "finished before" in err
    assert json.loads(out)["runs"][0]["id"] == run["id"]


def test_what_a_command_cannot_do_is_one_line(refused: Any, tiny_folder: Path, tmp_path: Path) -> None:
    place = ["--runs", tmp_path / "runs", "--dataset", f"folder:{tiny_folder}"]
    assert "needs fp32" in refused("train-mwbp", "--update", "sequential", "--precision", "bf16", *place)
    assert "no teacher" in refused("train-mwbp", "--teacher-weight", "0.3", *place)
    assert "temperature 2: nothing is distilled" in refused("train-mwbp", "--temperature", "2", *place)
    assert "not under" in refused("train", "--teacher", "resnet110_nothing", *place)
    assert "goes with method frozen-trunk" in refused("train-mwbp", "--trunk", "resnet44_", *place)
    assert "auxnet has gap-fc heads" in refused("train-mwbp", "--method", "auxnet", "--head", "relu-gap-fc", *place)


def test_what_a_training_cannot_do_leaves_no_run_behind(refused: Any, tiny_folder: Path, tmp_path: Path) -> None:
    place = ["--runs", tmp_path / "runs", "--dataset", f"folder:{tiny_folder}"]
    deep = ["--stochastic-depth", "0.2"]
    assert "has no" in refused("train", "--arch", "torchvision:resnet18", *deep, *place, leaves=True)
    assert "stochastic-depth 1" in refused("train", "--arch", "resnet8", "--stochastic-depth", "1", *place, leaves=True)
    frozen = ["train-mwbp", "--method", "frozen-trunk", *place]
    other = ["--arch", "torchvision:resnet18", "--exits", "maxpool,end"]
    assert "by nature: give exits by their numbers" in refused(*frozen, *other, leaves=True)
    assert "nothing would be trained" in refused("train", "--epochs", "0", *place, leaves=True)
    assert list((tmp_path / "runs").iterdir()) == []
    trunk = train(
        "resnet8", f"folder:{tiny_folder}", recipe=recipe_named("quick", epochs=1), place=Place(runs=tmp_path / "runs")
    )
    small = ["--arch", "resnet8", "--exits", "2", "--epochs", "1", "--trunk", trunk.id]
    assert "neither averaged nor" in refused(*frozen, *small, *deep, leaves=True)
    assert "has weights of its own" in refused(*frozen, *small, "--pretrained", leaves=True)
    assert list((tmp_path / "runs").iterdir()) == [trunk.path]


def test_a_trunk_or_teacher_of_another_split_would_have_seen_what_is_held_out(
    tiny: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    other = train("resnet8", tiny, recipe=replace(brief, validation=0.1), place=Place(runs=tmp_path))
    with pytest.raises(UsageError, match="another split"):
        train(
            "resnet8",
            tiny,
            method="frozen-trunk",
            exits=2,
            recipe=brief,
            start=Start(trunk=other.id),
            place=Place(runs=tmp_path),
        )
    with pytest.raises(UsageError, match="another split"):
        train("resnet8", tiny, recipe=brief, start=Start(teacher=other.id), place=Place(runs=tmp_path))


def test_initial_weights_and_sizes_are_part_of_the_run_and_its_command(
    compress: Command, tiny_folder: Path, tmp_path: Path
) -> None:
    place = ["--runs", str(tmp_path / "runs"), "--dataset", f"folder:{tiny_folder}", "--epochs", "1", "--json"]
    torch.manual_seed(7)
    weights = create("resnet8", input_shape=(1, 28, 28)).state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    status, out, err = compress("train", "--arch", "resnet8", "--weights", tmp_path / "weights.pt", *place)
    assert status == 0, err
    [started] = json.loads(out)["runs"]
    assert json.loads(compress("train", "--arch", "resnet8", *place)[1])["runs"][0]["id"] != started["id"]
    status, out, err = compress(*started["command"].split()[1:], "--runs", tmp_path / "runs", "--json")
    assert status == 0, err
    assert json.loads(out)["runs"][0]["id"] == started["id"]
    weights["stem.0.weight"] += 1
    torch.save(weights, tmp_path / "weights.pt")  # other weights under the same name are another run
    status, out, err = compress(*started["command"].split()[1:], "--runs", tmp_path / "runs", "--json")
    assert json.loads(out)["runs"][0]["id"] != started["id"]


def test_the_plan_of_a_foreign_net_names_its_exits_and_enlarges_images(tiny_folder: Path) -> None:
    plan = plan_of("torchvision:shufflenet_v2_x0_5", f"folder:{tiny_folder}", method="mwbp", exits="stage2,stage3,end")
    assert plan.spec.stem == StemSpec(kind="enlarge", out=3, size=64)
    assert "--arch torchvision:shufflenet_v2_x0_5 --exits stage2,stage3,end " in plan.command
