"""Predicting against decoding: the harness measures what it promises, at a tiny size."""

import json
from pathlib import Path

from benchmarks.speed.predicting import decoding, measure
from compress.prediction import predictor


def test_the_ratios_and_their_conditions_are_json_and_decoding_is_of_the_same_files(tmp_path: Path) -> None:
    found = measure(tmp_path, arch="resnet8", image_size=8, photos=3, rounds=2, workers=2)
    results = json.loads(json.dumps(found))
    for name in ("eager_over_decoding", "onnxruntime_over_decoding"):
        assert 0 < results[name]["low"] <= results[name]["ratio"] <= results[name]["high"]
    assert results["decoded_per_second"] > 0
    assert results["environment"]["workers"] == 2
    [run] = (tmp_path / "runs").iterdir()
    eager = predictor(run)
    alone, predicted = ([*by.predict(tmp_path / "photos")] for by in (decoding(eager), eager))
    assert [each.path for each in alone] == [each.path for each in predicted]
    assert {(each.label, each.exit) for each in alone} == {("0", 0)}
