"""The certificate of an early-exit policy: what is guaranteed, with which confidence, and what it holds for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from compress.documents import fitted
from compress.errors import UsageError, checked
from compress.inference.policy import Policy

RiskName = Literal["drop", "agreement"]


@checked
@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The guarantee P(risk <= epsilon) >= 1 - delta of a policy, over the draw of the calibration images.

    The risk is of the images that the calibration images are a sample of, as one engine computes them in one precision
    on one kind of device.

    Attributes:
        risk: drop (in accuracy against the last exit) or agreement (share of images whose label is not the last
            exit's).
        epsilon: the largest risk allowed, a fraction.
        delta: probability that the guarantee is wrong, over calibration sets.
        n: number of calibration images.
        observed: risk on the calibration images; those near a threshold counted as the worst of their decisions.
        bound: upper confidence bound of the kept policy's risk at 1 - delta, had it been the only one tested; since it
            was found by a walk, what is guaranteed is `epsilon`.
        margin: distance of a confidence from a threshold within which both decisions are taken for possible.
        step, steps: place of the policy on the path from conservative (0) to eager, and the number of its policies.
        data, weights, policy: SHA-256 (hex) of the calibration images, the network's weights and the policy.
        engine, precision, device: what computed the logits; a device is cpu or cuda, as another one's kernels round
            otherwise. Certificates that name none were made on the CPU.
        seed: of the order of the calibration images in the test.
    """

    risk: RiskName
    epsilon: float
    delta: float
    n: int
    observed: float
    bound: float
    margin: float
    step: int
    steps: int
    data: str
    weights: str
    policy: str
    engine: str
    precision: str
    device: str = "cpu"
    seed: int

    def __post_init__(self) -> None:
        for name, value in (("epsilon", self.epsilon), ("delta", self.delta)):
            if not 0 < value < 1:
                raise UsageError(f"{name} {value} must be between 0 and 1")
        if self.n < 1 or not 0 <= self.step < self.steps:
            raise UsageError(f"{self.n} images, step {self.step} of {self.steps}")

    def void(self, policy: Policy, *, engine: str, precision: str, device: str) -> str | None:
        """Why the guarantee does not hold for a policy as an engine runs it in a precision; None where it holds."""
        if policy.digest != self.policy or policy.weights != self.weights:
            return "the certificate is void: it is of another policy or of other weights"
        if (engine, precision, device) != (self.engine, self.precision, self.device):
            return (
                f"the certificate is void: it holds for {self._server}, not for {engine} in {precision} on {device}: "
                f"certify that with compress exits --engine {engine} --precision {precision} --device {device}"
            )
        return None

    def __str__(self) -> str:
        what = "accuracy drop" if self.risk == "drop" else "disagreement with the last exit"
        return (
            f"{what} at most {100 * self.epsilon:g} points with {100 * (1 - self.delta):g}% confidence, certified on "
            f"{self.n:,} images for {self._server}"
        )

    @property
    def _server(self) -> str:
        return f"{self.engine} in {self.precision} on {self.device}"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Certificate:
        """Read what `to_json` returned.

        Raises:
            UsageError: a field is missing, has another type, or is out of its range.
        """
        return fitted(data, cls, "certificate")
