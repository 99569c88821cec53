"""Pruning in Python, for a training loop of one's own; the page that shows it is run."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import compress
from baselines import Budget, Technique, prune_network
from compress.data import Dataset
from compress.errors import UsageError
from compress.network_cost import cost
from tests.baselines.networks import check_ordinary, differing, network_of, trained_like
from tests.training.test_given_network import NET

HALF = Budget(speedup=2)


def test_the_shown_loop_trains_a_pruned_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs/pruning.md").read_text()
    loop, again = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    # 12 and 16 channels cannot be halved to within 1% of the MACs, wider layers can
    (tmp_path / "my_net.py").write_text(NET.replace("16", "48").replace("12", "40") + "\n\nmake_net = Net\n")
    torch.manual_seed(3)
    given = trained_like(compress.create("python:my_net:make_net", input_shape=(1, 28, 28)))
    torch.save(compress.plain(given).state_dict(), "my_net.pt")
    images, labels = torch.randn(16, 1, 28, 28), torch.arange(16) % 10
    names: dict[str, Any] = {"loader": [(images, labels)] * 3}
    exec(loop, names)
    trained, pruned = names["classifier"].eval(), names["pruned"]
    assert cost(given).macs / cost(pruned).macs == pytest.approx(2, rel=0.0102)
    assert not torch.equal(trained(images), compress.plain(pruned).eval()(images))  # the loop did train it
    exec(again, names)
    assert torch.equal(names["classifier"](images), trained(images))
    assert set(trained.state_dict()) == set(compress.plain(given).state_dict())


@pytest.mark.parametrize("method", ["l1", "taylor", "blocks", "depth-cut"])
def test_a_smaller_copy_is_an_ordinary_network(method: str, tiny: Dataset) -> None:
    network = network_of("resnet14", exits=[2, 6], size=14)
    before = copy.deepcopy(network)
    smaller = prune_network(network, budget=HALF, technique=Technique(method=method, nearest=True), dataset=tiny)
    assert cost(network).macs / cost(smaller).macs == pytest.approx(2, rel=0.25)
    assert not smaller.training
    assert differing(network, before) == []
    check_ordinary(smaller)


def test_statistics_are_kept_without_images_and_re_estimated_with_them(tiny: Dataset) -> None:
    network = network_of("resnet8", size=14)
    kept, told = (prune_network(network, budget=HALF, dataset=dataset) for dataset in (None, tiny))
    changed = differing(kept, told)
    assert changed
    assert all(name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked") for name in changed)
    assert prune_network(network.train(), budget=HALF).training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"technique": "taylor"}, "method taylor: looks at images"),
        ({"technique": "scratch-e"}, "method scratch-e: needs training"),
        ({"technique": Technique(steps=2)}, "steps 2: needs training"),
        ({"budget": Budget(latency_ratio=0.5)}, "latency_ratio: is measured by"),
        ({"budget": Budget(speedup=10_000)}, "cannot be reached"),
        ({"dataset": "fashion-mini"}, r"takes \(1, 14, 14\)"),
    ],
)
def test_what_it_cannot_do_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prune_network(network_of("resnet8", size=14), **{"budget": HALF} | options)
