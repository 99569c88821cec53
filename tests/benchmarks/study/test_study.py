"""Studies: read strictly, run what is missing, reported against their reference."""

import dataclasses
import math
from pathlib import Path

import pytest

from baselines import METHODS, Budget
from benchmarks import read_study
from benchmarks.results.budget_classes import CLASS
from benchmarks.results.claims import Claim
from benchmarks.study.entry import Match, Pruned, Source, Trained
from benchmarks.study.graph import graph
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.study_file import BUNDLED
from compress.errors import UsageError
from compress.network_cost import exit_costs
from compress.networks import initialised
from compress.recipes import RECIPES
from compress.training import plan_of, spec_to_train
from tests.benchmarks.study.conftest import HEAD, Settings

STUDY = f"""
{HEAD}
seeds = [0, 1]

[[run]]
name = "deep"
command = "train"
arch = "resnet14"

[[run]]
name = "multi"
command = "train-mwbp"
arch = "resnet8"
exits = 2

[[run]]
name = "pruned"
command = "prune"
arch = "resnet14"
match = "multi"
"""

PRIMARY = '[[primary]]\nclaim = "It wins"\nof = "multi"\nagainst = "deep"\n'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title =", "titel ="), "unknown key 'titel'; did you mean 'title'"),
        (('arch = "resnet8"', 'arc = "resnet8"'), "unknown key 'arc'; did you mean 'arch'"),
        (('title = "Small"\n', ""), "title"),
        (('command = "train-mwbp"', 'command = "train-mwpb"'), "did you mean 'train-mwbp'"),
        (('name = "multi"', 'name = "deep"'), "named twice"),
        (('match = "multi"', 'match = "mutli"'), "did you mean 'multi'"),
        (('match = "multi"', 'match = "pruned"'), "no earlier run; put it above"),
        (('match = "multi"', 'speedup = 2\nfrom = "pruned"'), "from 'pruned' is no earlier run; put it above"),
        (('reference = "deep"', 'reference = "depe"'), "did you mean 'deep'"),
        (("seeds = [0, 1]", "seeds = [0, 1"), "line 12"),
        (("seeds = [0, 1]", "seeds = 3"), "seeds"),
        (("seeds = [0, 1]", "seeds = []"), "seeds"),
        (("seeds = [0, 1]", "seeds = [0, 0]"), "one of them is there twice"),
        (("[[run]]", "[run]"), "."),
        ((STUDY[STUDY.index("[[run]]") :], "run = 3"), "run: expected `array`, got `int`"),
        (("[[run]]", "[[runs]]"), "unknown key 'runs'; did you mean 'run'"),
        (('reference = "deep"', "reference = 5"), "reference: expected `str`, got `int`"),
        (('reference = "deep"', 'reference = "deep"\nprimary = "multi"'), "primary: expected `array`, got `str`"),
        (('reference = "deep"', 'reference = "deep"\nprimary = ["multi", "multi"]'), "two different runs"),
        (('reference = "deep"', 'reference = "deep"\nprimary = ["multi", "dep"]'), "did you mean 'deep'"),
        (('reference = "deep"', 'reference = "deep"\nprimray = ["multi", "deep"]'), "did you mean 'primary'"),
        (("[[run]]", f"{PRIMARY}joined = true\n[[run]]"), "the first is joined"),
        (("[[run]]", f'{PRIMARY}of = "multi"\n[[run]]'), "Cannot overwrite a value"),
        (("[[run]]", PRIMARY.replace("claim", "clam") + "[[run]]"), "unknown key 'clam'; did you mean 'claim'"),
        (("[[run]]", PRIMARY.replace('"deep"', "[]") + "[[run]]"), "against names one run"),
        (("[[run]]", PRIMARY.replace('"deep"', '"dep"') + "[[run]]"), "primary 'dep': did you mean 'deep'"),
        (("[[run]]", PRIMARY.replace("multi", "multi:3") + "[[run]]"), r"behind the colon .* multi predicts: 1, 2"),
        (("[[run]]", PRIMARY.replace("multi", "multi:ensemble") + "[[run]]"), "multi predicts: 1, 2"),
        (("[[run]]", PRIMARY.replace('"deep"', '"multi:2"') + "[[run]]"), "two different runs, not 'multi' twice"),
        (("[[run]]", PRIMARY.replace('"multi"', '["multi", "multi:2"]') + "[[run]]"), "one or more different runs"),
        (("[[run]]", PRIMARY.replace("multi", "pruned:2") + "[[run]]"), r"pruned predicts: 1$"),
        (("[[run]]", PRIMARY.replace("multi", "mutli:2") + "[[run]]"), "did you mean 'multi'"),
        (("[[run]]", f"{PRIMARY}margin = 0\n[[run]]"), "margin 0: points above 0"),
        (("exits = 2", 'exits = 2\nmatch_training = "dep"'), "match_training 'dep' is no earlier run; did you mean"),
        (
            ("exits = 2", 'exits = 2\nmatch_training = "pruned"'),
            "match_training 'pruned' is no earlier run; put it above",
        ),
        (("exits = 2", 'exits = 2\nmatch_training = "deep:1"'), "without an exit"),
        (('match = "multi"', 'match = "multi"\nmatch_training = "deep"'), "match_training is not for prune"),
        (('reference = "deep"', 'reference = "deep"\nprecision = "fp16"'), "precision"),
        (('reference = "deep"', 'reference = "deep"\nepochs = "many"'), "epochs: expected `int"),
        (('arch = "resnet8"', "arch = 8"), "arch: expected `str"),
        (('arch = "resnet8"', 'arch = "resnet9"'), "not 6n"),
        (("exits = 2", "exits = 2.5"), "exits: expected `int . str"),
        (("exits = 2", "exits = 7"), "1 to 3"),
        (("exits = 2", "ratio = 0.5"), "ratio is for prune alone"),
        (('match = "multi"', "ratio = 1.5"), "between 0 and 1"),
        (('match = "multi"', 'match = "multi"\nmethod = "taylr"'), "did you mean 'taylor'"),
        (('match = "multi"', 'match = "multi"\nspeedup = 2'), "not speedup and match"),
        (('match = "multi"', 'match = "multi"\nexits = 2'), "not for prune"),
        (('match = "multi"', 'match = "multi:x"'), "number of an exit"),
        (('match = "multi"', 'match = "multi:3"'), r"match 'multi:3': multi has 2 exit\(s\)"),
        (('match = "multi"', "speedup = []"), "speedup is an empty list"),
        (('match = "multi"', "speedup = [2, 2]"), "speedup 2 is there twice"),
        (('match = "multi"', 'speedup = [2, "3"]'), "speedup\\[1\\]: expected `float`"),
        (('match = "multi"', "speedup = [2, 0.5]"), "must be above 1"),
        (('match = "multi"', 'speedup = 2\nschedule = "restrat"'), "did you mean 'restart'"),
        (('match = "multi"', 'speedup = 2\nfrom = "mutli"'), "from 'mutli' is no earlier run; did you mean 'multi'"),
        (('match = "multi"', "steps = true\nspeedup = 2"), "steps: expected `int`, got `bool`"),
        (("exits = 2", 'exits = 2\nscope = "inner"'), "scope is for prune alone"),
        (("exits = 2", "exits = 2\nextra_decay = 2"), "bp-extra-decay goes with command train"),
        (("exits = 2", 'exits = 2\nmethod = "deep-supervison"'), "did you mean 'deep-supervision'"),
        (("exits = 2", "exits = 2\nwidths = [16, 32]"), "3 whole numbers"),
        (("exits = 2", 'exits = 2\nupdate = "sequental"'), "did you mean 'sequential'"),
        (('arch = "resnet14"', 'arch = "resnet14"\nexits = 2'), "exits is for train-mwbp alone"),
        (('match = "multi"', 'match = "multi"\nwidths = [8, 8, 8]'), "not for prune"),
        (('arch = "resnet8"\n', ""), "run multi: arch is missing"),
        (("[[run]]", "[tuning]\nrate = [1]\n[[run]]"), "did you mean 'rates'"),
        (("[[run]]", "[tuning]\nrates = [1, 1]\n[[run]]"), "different factors"),
        (("[[run]]", "[tuning]\nrates = [1, 0]\n[[run]]"), "above 0"),
        (("[[run]]", "[tuning]\nat = 2\n[[run]]"), r"at 2: run pruned has 1 budget"),
        (("[[run]]", "[tuning]\nat = 0\n[[run]]"), "counted from 1"),
        (("[[run]]", "[tuning]\nall = true\n[[run]]"), "run pruned must name the tuned run"),
    ],
)
def test_mistakes_in_a_study_are_named_in_one_line(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert change[0] in STUDY
    (tmp_path / "small.toml").write_text(STUDY.replace(*change, 1))
    with pytest.raises(UsageError, match=message) as refused:
        read_study(str(tmp_path / "small.toml"))
    assert "\n" not in str(refused.value)


def test_a_study_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_bytes(b'title = "\xff"')
    with pytest.raises(UsageError, match="UTF-8"):
        read_study(str(tmp_path / "small.toml"))


def test_an_unknown_study_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'quickstart'"):
        read_study("quikstart")


def test_the_bundled_quickstart_is_what_the_readme_says() -> None:
    study = read_study("quickstart")
    *trained, pruned = study.runs
    networks = [entry for entry in trained if isinstance(entry, Trained)]
    assert {entry.architecture.widths for entry in networks} == {(8, 16, 32)}
    assert [(entry.architecture.name, entry.method.name, entry.exits) for entry in networks] == [
        ("resnet32", "bp", None),
        ("resnet20", "bp", None),
        ("resnet26", "mwbp", 4),
    ]
    assert isinstance(pruned, Pruned)
    assert (pruned.source, pruned.targets) == (Source(name="resnet32"), (Match(Source(name="mwresnet26-4", exit=3)),))
    assert (study.dataset, study.seeds) == ("fashion-mini", (0,))


def test_a_list_of_budgets_is_a_run_each_and_an_entry_to_build_on_has_one(tmp_path: Path) -> None:
    text = STUDY.replace('match = "multi"', "speedup = [4, 1.5]")
    (tmp_path / "small.toml").write_text(text)
    assert [str(target) for target in read_study(str(tmp_path / "small.toml")).runs[2].targets] == [
        "speedup 4", "speedup 1.5",
    ]  # fmt: skip
    (tmp_path / "small.toml").write_text(
        text + '[[run]]\nname = "last"\ncommand = "prune"\nfrom = "pruned"\nratio = 0.1'
    )
    with pytest.raises(UsageError, match="from 'pruned' has several budgets"):
        read_study(str(tmp_path / "small.toml"))
    (tmp_path / "small.toml").write_text(text.replace('"deep"', '"deep"\nprimary = ["pruned", "deep"]', 1))
    with pytest.raises(UsageError, match="primary 'pruned' has several budgets"):
        read_study(str(tmp_path / "small.toml"))


def test_the_bundled_study_of_pruning_has_every_method_at_the_same_budgets_from_one_reference() -> None:
    study = read_study("pruning")
    reference, *arms = study.runs
    assert isinstance(reference, Trained)
    assert (reference.name, reference.architecture.name) == (study.reference, "resnet56")
    pruned = [arm for arm in arms if isinstance(arm, Pruned)]
    assert len(pruned) == len(arms)
    assert {arm.technique.method for arm in pruned} == set(METHODS)
    assert {arm.source for arm in pruned} == {Source(name=study.reference)}
    assert {arm.targets for arm in pruned} == {tuple(Budget(speedup=speedup) for speedup in (1.5, 2.5, 4))}
    assert len({(arm.technique, arm.fine_tuning) for arm in pruned}) == len(arms)
    assert study.tuning
    assert 1 in study.tuning.rates
    assert {str(study.tuning.target(arm)) for arm in arms} == {"speedup 2.5"}


def test_every_bundled_study_is_read_and_says_what_it_takes() -> None:
    names = [file.name.removesuffix(".toml") for file in BUNDLED.iterdir()]
    assert {*names} >= {"quickstart", "pruning", "fashion-mnist", "headline", "cifar10-paper", "cifar100-paper"}
    for name in names:
        study = read_study(name)
        assert study.takes
        assert study.about.strip()
        assert study.recipe in RECIPES


def test_the_study_of_fronts_shares_the_runs_of_the_small_headline() -> None:
    front, headline = read_study("front-small"), read_study("headline-small")
    for shared in ("dataset", "recipe", "precision", "epochs", "validation", "calibration", "class_weights", "tuning"):
        assert getattr(front, shared) == getattr(headline, shared)
    assert {*front.seeds} <= {*headline.seeds}
    known = {dataclasses.replace(entry, name="") for entry in headline.runs}
    own = [entry for entry in front.runs if dataclasses.replace(entry, name="") not in known]
    assert [entry.name for entry in front.runs if entry not in own] == [
        "resnet110", "resnet44", "mwresnet44-5", "resnet20-wide", "mwresnet20-wide-5", "resnet110-at-resnet44",
    ]  # fmt: skip
    assert [entry.name for entry in own] == [
        "resnet110-pruned", "resnet44-pruned", "mwresnet44-5-pruned", "mwresnet20-wide-5-pruned",
    ]  # fmt: skip
    assert len({entry.targets for entry in own}) == 1
    assert front.int8 == "onnxruntime"


def test_the_studies_by_the_papers_protocol_ask_the_papers_questions() -> None:
    for name in ("cifar10-paper", "cifar100-paper", "svhn-paper"):
        study = read_study(name)
        assert (study.recipe, study.seeds) == ("paper", (0, 1, 2, 3, 4))
        assert [claim.pairs for claim in study.claims] == [{"mwresnet44-5": "resnet110"}]
        techniques = [entry.technique for entry in study.runs if isinstance(entry, Pruned)]
        assert {technique.method for technique in techniques} == {*METHODS}
        assert "sensitivity" in {technique.allocate for technique in techniques}
        trained = {entry.method.name for entry in study.runs if isinstance(entry, Trained)}
        assert trained >= {"bp", "mwbp", "bp-extra-decay", "deep-supervision", "mwbp-uniform-decay", "frozen-trunk"}


@pytest.mark.parametrize(("name", "shape"), [("cifar10-paper", (3, 32, 32)), ("fashion-mnist", (1, 28, 28))])
def test_every_exit_has_a_plain_net_of_its_budget(name: str, shape: tuple[int, int, int]) -> None:
    study = read_study(name)
    specs = {
        spec_to_train(entry.architecture, entry.method, entry.exits, input_shape=shape, classes=10)
        for entry in study.runs
        if isinstance(entry, Trained) and entry.method.name in ("bp", "mwbp") and entry.name != study.reference
    }
    several = [spec for spec in specs if len(spec.exits) > 1]
    trunks = [dataclasses.replace(spec, exits=spec.exits[-1:]) for spec in several]
    single = specs.difference(several, trunks)  # to have fewer of them to count
    plain = [exit_costs(initialised(spec, 0))[0].macs for spec in single]
    for spec in several:
        for exit in exit_costs(initialised(spec, 0))[:-1]:
            assert any(abs(math.log(exit.macs / macs)) <= math.log1p(CLASS) for macs in plain), (spec.arch, exit)


@pytest.mark.parametrize(
    ("keys", "option"),
    [
        ('command = "train", arch = "resnet8", extra_decay = 3', "--extra-decay 3"),
        ('command = "train", arch = "resnet8", widths = [8, 12, 16]', "resnet8w8-12-16"),
        (
            'command = "train-mwbp", arch = "resnet8", exits = 2, method = "deep-supervision"',
            "--method deep-supervision",
        ),
    ],
)
def test_an_entry_says_all_that_a_command_can_say_of_a_training(
    keys: str, option: str, settings: Settings, tmp_path: Path
) -> None:
    outcomes = Outcomes(setting=settings(f"{HEAD}\nrun = [{{name = 'deep', {keys}}}]", tmp_path))
    assert option in plan_of(**outcomes.training(outcomes.nodes[0])).command


def test_an_entry_that_lists_methods_is_an_entry_of_each(tmp_path: Path) -> None:
    text = STUDY.replace('match = "multi"', 'match = "multi"\nmethod = ["l1", "fpgm"]')
    (tmp_path / "small.toml").write_text(text.replace('"pruned"', '"by-{method}"'))
    runs = read_study(str(tmp_path / "small.toml")).runs[2:]
    assert [(run.name, run.technique.method) for run in runs if isinstance(run, Pruned)] == [
        ("by-l1", "l1"), ("by-fpgm", "fpgm"),
    ]  # fmt: skip
    (tmp_path / "small.toml").write_text(text)
    with pytest.raises(UsageError, match="run pruned is named twice"):
        read_study(str(tmp_path / "small.toml"))


def test_a_study_may_have_the_runs_of_another(tmp_path: Path) -> None:
    other, study = tmp_path / "other.toml", tmp_path / "study.toml"
    other.write_text(STUDY)
    text = STUDY.split("[[run]]")[0] + f"runs_of = '{other}'\n"
    study.write_text(text)
    assert read_study(str(study)).runs == read_study(str(other)).runs
    study.write_text(text + "[[run]]")
    with pytest.raises(UsageError, match="leave out"):
        read_study(str(study))
    study.write_text(text.replace("other", "others"))
    with pytest.raises(UsageError, match="neither a bundled study nor a file"):
        read_study(str(study))


def test_a_contrast_is_of_any_exit_or_of_the_ensemble(tmp_path: Path) -> None:
    named = PRIMARY.replace('"multi"', '["multi:1", "multi:2", "multi:ensemble", "thin:1"]')
    thin = '[[run]]\nname = "thin"\ncommand = "prune"\nfrom = "multi"\nspeedup = 2\n'
    text = STUDY.replace("[[run]]", f"{named}[[run]]", 1).replace("exits = 2", "exits = 2\nensemble = 2") + thin
    (tmp_path / "small.toml").write_text(text)
    study = read_study(str(tmp_path / "small.toml"))
    assert study.claims[0].of == ("multi:1", "multi:2", "multi:ensemble", "thin:1")
    assert [str(node) for node in graph(study)][:3] == ["deep, seed 0", "multi, seed 0", "thin at speedup 2, seed 0"]
    (tmp_path / "small.toml").write_text(text.replace("thin:1", "thin:ensemble"))  # it lost it when it was pruned
    with pytest.raises(UsageError, match=r"primary 'thin:ensemble': .* thin predicts: 1, 2$"):
        read_study(str(tmp_path / "small.toml"))


def test_a_contrast_is_two_names_or_tables_that_say_more(tmp_path: Path) -> None:
    text = STUDY.replace('reference = "deep"', 'reference = "deep"\nprimary = ["multi", "deep"]')
    (tmp_path / "small.toml").write_text(text)
    assert read_study(str(tmp_path / "small.toml")).claims == (
        Claim(claim="multi against deep", of=("multi",), against=("deep",)),
    )
    more = '[[primary]]\njoined = true\nclaim = "Twice"\nof = ["multi", "pruned"]\nagainst = ["deep", "multi"]\n'
    more += 'margin = 1\nif_equivalent = "so be it"\n'
    (tmp_path / "small.toml").write_text(STUDY.replace("[[run]]", f"{PRIMARY}{more}[[run]]", 1))
    of, against = ("multi", "pruned"), ("deep", "multi")
    assert read_study(str(tmp_path / "small.toml")).claims == (
        Claim(claim="It wins", of=("multi",), against=("deep",)),
        Claim(claim="Twice", of=of, against=against, joined=True, margin=1.0, if_equivalent="so be it"),
    )
