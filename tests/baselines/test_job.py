"""References of jobs: every kind of network, whole, cut or pruned; those that do not fit are refused in one line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines import Budget, FineTuning, Technique, carry_out, prune
from compress import Architecture, Place
from compress.data import Dataset, Part, normalise, open_dataset
from compress.errors import UsageError
from compress.network_cost import cost, exit_costs
from compress.networks import cut
from compress.networks.foreign import zoo
from compress.recipes import Recipe, recipe_named
from compress.runs import Run, load, macs_of
from compress.training import train
from compress.training.objectives import Objective, bp, mwbp
from tests.baselines.jobs import job_of

Make = Callable[..., Run]

HALF = Budget(speedup=2)


class Mixed(nn.Module):
    """Somebody else's net: grouped and depthwise convolutions, one of them beside the other in a concatenation."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.start = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.grouped = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.BatchNorm2d(16), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU())
        self.late = nn.Sequential(nn.Conv2d(32, 24, 1), nn.BatchNorm2d(24), nn.ReLU())
        self.classify = nn.Linear(24, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.start(images)
        features = torch.cat([self.grouped(features), self.depthwise(features)], dim=1)
        logits: Tensor = self.classify(self.late(features).mean((2, 3)))
        return logits


@pytest.fixture
def make(small: Dataset, runs: Path) -> Make:
    """A pruning of a run to half of its MACs, in one short epoch, unless told otherwise."""

    def made(reference: Run | Path, **options: Any) -> Run:
        recipe = replace(recipe_named("quick"), batch_size=90)
        defaults: dict[str, Any] = {"budget": HALF, "recipe": recipe}
        return prune(reference, small, place=Place(runs=runs), **defaults | options)

    return made


def check(run: Run, small: Dataset, exits: int = 1) -> None:
    """Check that every exit gives logits of all classes, and that the recorded cost is the counted one."""
    network = load(run)
    logits = network(normalise(small.test.images, run.normalisation))
    assert [tuple(exit.shape) for exit in logits] == [(100, 10)] * exits == [(100, 10)] * len(run.exits)
    assert run.record.results["achieved"]["macs"] == exit_costs(network)[-1].macs == run.exits[-1]["macs"]
    assert len(run.record.results["val_accuracy_pruned"]) == exits


@pytest.mark.parametrize("method", ["taylor", "blocks", "depth-cut"])
def test_a_multi_exit_network_keeps_its_exits_and_is_fine_tuned_by_mwbp(
    method: str, make: Make, many_exits: Run, small: Dataset
) -> None:
    coarse = method in ("blocks", "depth-cut")
    run = make(many_exits, technique=Technique(method=method, nearest=coarse))
    assert [exit["block"] for exit in many_exits.exits] == [2, 6, 9]
    blocks = [exit["block"] for exit in run.exits]
    if not coarse:
        assert blocks == [2, 6, 9]
        assert run.record.results["achieved"]["speedup"] == pytest.approx(2, rel=0.0102)
    last = len(run.spec.blocks)
    assert blocks[-1] == last
    assert (last < 9) == coarse
    check(run, small, exits=len(blocks) if method == "depth-cut" else 3)
    objective = Objective.from_json(run.record.config["objective"])
    assert objective == mwbp(many_exits.spec)
    assert objective.fitted(many_exits.spec, run.spec).segments == tuple(blocks)
    if method != "blocks":
        return
    again = make(run, technique=Technique(method=method, nearest=coarse), budget=Budget(speedup=1.1))
    assert again.record.parent == run.id
    assert again.record.config["objective"]["segments"] == blocks
    assert again.record.cost["total_training_macs"] > run.record.cost["total_training_macs"]
    check(again, small, exits=len(again.exits))


def test_a_cut_exit_is_a_network_of_its_own(make: Make, many_exits: Run, small: Dataset, runs: Path) -> None:
    run = make(Path(f"{many_exits.id}:2"))
    check(run, small)
    assert (run.record.parent, run.record.config["request"]["exit"]) == (many_exits.id, 2)
    assert f"--from {many_exits.id}:2 " in run.record.command
    part = cut(load(many_exits), 2)
    assert run.record.results["achieved"]["speedup"] == cost(part).macs / run.exits[-1]["macs"]
    assert run.record.results["achieved"]["speedup"] == pytest.approx(2, rel=0.0102)
    assert run.record.results["val_accuracy_before"] == [many_exits.exits[1]["val_accuracy"]]
    assert Objective.from_json(run.record.config["objective"]) == bp(part.spec)
    assert macs_of(f"{many_exits.id}:2", runs) == cost(part).macs == many_exits.exits[1]["macs"]
    assert macs_of(many_exits.id, runs) == many_exits.exits[-1]["macs"]
    assert make(many_exits, budget=Budget(macs=macs_of(f"{many_exits.id}:2", runs))).exits[-1]["macs"] == (
        pytest.approx(cost(part).macs, rel=0.01)
    )


def test_a_foreign_net_is_pruned_and_pruned_again(
    make: Make, small: Dataset, runs: Path, brief: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "_registered", {"mixed": Mixed})
    start = train("mixed", small, recipe=brief, place=Place(runs=runs))
    run = make(start, technique=Technique(nearest=True))  # four channels go at a time
    assert run.record.results["achieved"]["speedup"] == pytest.approx(2, rel=0.03)
    check(run, small)
    again = make(run, budget=Budget(ratio=0.2))
    assert again.record.parent == run.id
    check(again, small)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["torchvision:resnet18", "timm:resnet10t"])
def test_nets_of_torchvision_and_timm_are_pruned(arch: str, make: Make, tiny_folder: Path, tmp_path: Path) -> None:
    images = open_dataset(f"folder:{tiny_folder}", image_size=16)
    start = train(
        Architecture(arch, image_size=32), images, recipe=recipe_named("quick", epochs=1), place=Place(runs=tmp_path)
    )
    run = prune(start, images, budget=Budget(speedup=4), fine_tuning=FineTuning(epochs=1), place=Place(runs=tmp_path))
    assert run.record.results["achieved"]["speedup"] == pytest.approx(4, rel=0.0102)
    check(run, images)


def test_the_schedule_and_its_changes_are_part_of_the_run(make: Make, reference: Run) -> None:
    plain, restart = make(reference), make(reference, fine_tuning=FineTuning(schedule="restart"))
    changed = make(reference, fine_tuning=FineTuning(epochs=2, learning_rate=0.02, weight_decay=0.0))
    recipes = [run.record.config["recipe"] for run in (plain, restart, changed)]
    assert [recipe["learning_rate"] for recipe in recipes] == [0.01, 0.15, 0.02]
    assert [recipe["weight_decay"] for recipe in recipes] == [5e-4, 5e-4, 0.0]
    assert [recipe["epochs"] for recipe in recipes] == [1, 1, 2]
    assert len({plain.id, restart.id, changed.id}) == 3
    assert "--schedule restart" in restart.record.command
    assert "--epochs 2 --learning-rate 0.02 --weight-decay 0.0" in changed.record.command


def test_where_there_is_no_reference_one_is_trained_first_and_the_newest_found_after(
    small: Dataset, brief: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = prune("resnet8", small, recipe=brief, budget=HALF, place=Place(runs=tmp_path))
    assert "training one first" in capsys.readouterr().err
    parent = train("resnet8", small, recipe=brief, place=Place(runs=tmp_path))
    assert first.record.parent == parent.id
    assert len(list(tmp_path.iterdir())) == 2
    prune("resnet8", small, recipe=brief, budget=Budget(speedup=3), place=Place(runs=tmp_path))
    assert f"the reference is {parent.id}" in capsys.readouterr().err
    parent.record.status, parent.record.failure = "failed", "stopped by the test"
    parent.write_record()
    with pytest.raises(UsageError, match="stopped by the test"):
        prune("resnet8", small, recipe=brief, budget=Budget(speedup=2.5), place=Place(runs=tmp_path))
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(UsageError, match="stopped by the test"):
        prune(Path(parent.id), small, recipe=brief, budget=Budget(speedup=2.5), place=Place(runs=tmp_path))
    resumed = prune("resnet8", small, recipe=brief, budget=Budget(speedup=2.5), place=Place(runs=tmp_path, resume=True))
    assert resumed.record.parent == parent.id
    parent.record.status, parent.record.failure = "running", None
    parent.write_record()
    with pytest.raises(UsageError, match="is running, not finished"):
        prune(Path(parent.id), small, recipe=brief, budget=Budget(speedup=2.5), place=Place(runs=tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"technique": "l11"}, "did you mean 'l1'"),
        ({"recipe": recipe_named("paper")}, "another split"),
        ({"arch_or_run": Path("nothing")}, "not a run directory"),
        ({"exit": 2}, "has exits 1 to 1"),
        ({"exit": 0}, "has exits 1 to 1"),
        ({"seed": -1}, "seed -1"),
        ({"fine_tuning": FineTuning(learning_rate=0.0)}, "must be above 0"),
        ({"fine_tuning": FineTuning(schedule="fast")}, "schedule 'fast'"),  # type: ignore[arg-type]
        ({"budget": Budget(speedup=1e6)}, "cannot be reached.* can be pruned to .* at the least"),
        ({"budget": Budget(macs=1e12)}, "cannot be reached"),
        ({"budget": Budget(speedup=1.005)}, "nothing would be pruned"),
        ({"budget": Budget(ratio=1e-9), "technique": Technique(ranking="uniform", round_to=16)}, "nothing would be"),
        ({"technique": "blocks", "budget": Budget(ratio=0.5)}, "removes none"),
        ({"technique": "blocks"}, "--nearest takes the nearer one"),
        ({"technique": "depth-cut", "budget": Budget(params=2)}, "at the least"),
        ({"arch_or_run": "MwResNet-8-3"}, "has 3 exits, and a reference that is not named is trained by plain BP"),
        ({"technique": "group-norm", "fine_tuning": FineTuning(epochs=0)}, "group-norm needs some training"),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(given),
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing_behind(
    options: dict[str, Any], message: str, small: Dataset, reference: Run, runs: Path
) -> None:
    before = sorted(runs.rglob("*"))
    start = Path(f"{reference.id}:{options.pop('exit')}") if "exit" in options else reference
    place = Place(runs=runs)
    arguments: dict[str, Any] = {"arch_or_run": start, "dataset": small, "budget": HALF, "place": place}
    with pytest.raises(UsageError, match=message) as refused:
        prune(**arguments | options)
    assert len(str(refused.value).splitlines()) == 1
    assert sorted(runs.rglob("*")) == before


def _without_the_last_class(part: Part) -> Part:
    return part.subset((part.labels < 9).nonzero().flatten())


def test_a_reference_of_other_images_or_classes_is_refused(
    small: Dataset, tiny: Dataset, reference: Run, runs: Path
) -> None:
    images, others = _without_the_last_class(small.train), _without_the_last_class(small.test)
    for dataset, message in (
        (replace(small, train=small.test), "whose images are not"),
        (tiny, r"takes images \(C, H, W\)"),
        (replace(small, classes=small.classes[:9], train=images, test=others), "whose images are not"),
    ):
        with pytest.raises(UsageError, match=message):
            prune(reference, dataset, budget=HALF, place=Place(runs=runs))


def test_a_reference_of_another_architecture_is_refused(small: Dataset, reference: Run, runs: Path) -> None:
    job = job_of("resnet20", small, recipe_named("quick"), runs, reference=reference.path)
    with pytest.raises(UsageError, match="is a resnet14, not a resnet20"):
        carry_out(job)


def test_blocks_need_no_validation_images(small: Dataset, tmp_path: Path, brief: Recipe) -> None:
    recipe, technique = replace(brief, validation=0.0), Technique(method="blocks", nearest=True)
    run = prune("resnet14", small, budget=HALF, technique=technique, recipe=recipe, place=Place(runs=tmp_path))
    assert run.record.data["split"]["validation"] == 0
    assert run.record.results["achieved"]["speedup"] > 1.2
    assert run.record.cost["choosing_macs"] > 0
