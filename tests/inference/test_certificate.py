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


def test_a_certificate_holds_for_one_policy_engine_precision_and_device() -> None:
    assert CERTIFICATE.void(POLICY, engine="eager", precision="fp32", device="cpu") is None
    for engine, precision, device in (("eager", "bf16", "cpu"), ("openvino", "fp32", "cpu"), ("eager", "fp32", "cuda")):
        said = CERTIFICATE.void(POLICY, engine=engine, precision=precision, device=device) or ""
        assert f"holds for eager in fp32 on cpu, not for {engine} in {precision} on {device}" in said
        assert f"--engine {engine} --precision {precision} --device {device}" in said
    for other in (replace(POLICY, thresholds=(0.8,)), replace(POLICY, weights="cd")):
        assert "other weights" in (CERTIFICATE.void(other, engine="eager", precision="fp32", device="cpu") or "")


def test_a_certificate_that_names_no_device_was_made_on_the_cpu() -> None:
    fields = replace(CERTIFICATE, device="cuda").to_json()
    assert Certificate.from_json(fields).device == fields.pop("device") == "cuda"
    assert Certificate.from_json(fields) == CERTIFICATE


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
