"""Certificates: what they hold for, and their JSON."""

from dataclasses import replace
from typing import Any

import pytest

from compress.errors import UsageError
from compress.inference import Certificate, Policy

POLICY = Policy(temperatures=(1.0, 2.0), thresholds=(0.9,), weights="ab")
CERTIFICATE = Certificate(
    risk="drop",
    epsilon=0.01,
    delta=0.05,
    n=500,
    observed=0.0,
    bound=0.008,
    margin=1e-4,
    step=3,
    steps=80,
    data="d",
    weights="ab",
    policy=POLICY.digest,
    engine="eager",
    precision="fp32",
    seed=0,
)


def test_a_certificate_holds_for_one_policy_engine_and_precision() -> None:
    assert CERTIFICATE.void(POLICY, engine="eager", precision="fp32") is None
    for engine, precision in (("eager", "bf16"), ("openvino", "fp32")):
        assert f"not for {engine} in {precision}" in (
            CERTIFICATE.void(POLICY, engine=engine, precision=precision) or ""
        )
    for other in (replace(POLICY, thresholds=(0.8,)), replace(POLICY, weights="cd")):
        assert "other weights" in (CERTIFICATE.void(other, engine="eager", precision="fp32") or "")


def test_json_gives_the_certificate_back() -> None:
    assert Certificate.from_json(CERTIFICATE.to_json()) == CERTIFICATE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"risk": "drp"}, "risk: invalid value 'drp'"),
        ({"epsilon": 1.5}, "epsilon 1.5 must be between 0 and 1"),
        ({"n": 0}, "0 images"),
        ({"step": 80}, "step 80 of 80"),
        ({"bound": "low"}, "bound"),
    ],
)
def test_certificates_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Certificate.from_json(CERTIFICATE.to_json() | change)
