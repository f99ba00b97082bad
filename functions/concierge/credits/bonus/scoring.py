"""What speaks against granting a bonus. Pure: observations in, points with reasons out.

Each reason has a weight; at `withhold_at` points the bonus is withheld. Weights of 100 decide alone.
"""

from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "identity-claimed",
    "device-claimed",
    "anonymous",
    "unknown-user",
    "disposable-domain",
    "unverified-email-not-allowed",
    "network-unknown",
    "network-velocity",
    "domain-velocity",
    "network-busy",
    "domain-busy",
    "unverified-email",
    "no-device",
    "rejected",
]

WEIGHTS: dict[Reason, int] = {
    "identity-claimed": 100,
    "device-claimed": 100,
    "anonymous": 100,
    "unknown-user": 100,
    "disposable-domain": 100,
    "unverified-email-not-allowed": 100,
    "network-unknown": 100,
    "network-velocity": 100,
    "domain-velocity": 100,
    "rejected": 100,
    "network-busy": 40,
    "domain-busy": 40,
    "unverified-email": 10,
    "no-device": 10,
}
_DUPLICATE: frozenset[Reason] = frozenset({"identity-claimed", "device-claimed"})


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits: bonuses of one network or domain within two days, and the points at which one is withheld; and what has
    to be known of a person at all."""

    network_limit: int
    domain_limit: int
    withhold_at: int
    requires_verified_email: bool
    requires_network: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a claim. Counts are of bonuses granted before; None where there is nothing to count by."""

    exists: bool = True
    identified: bool = True
    email_verified: bool = False
    has_email: bool = True
    disposable: bool = False
    identity_claimed: bool = False
    device_claimed: bool = False
    has_device: bool = True
    network_grants: int | None = None
    domain_grants: int | None = None
    rejected: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """`verdict` follows from the points and the reasons, which come in the order of WEIGHTS."""

    points: int
    reasons: tuple[Reason, ...]
    verdict: Literal["granted", "withheld", "duplicate"]


def score(seen: Observation, policy: Policy) -> Score:
    """The points of everything that speaks against a grant."""
    unverified = seen.has_email and not seen.email_verified
    present: dict[Reason, bool] = {
        "identity-claimed": seen.identity_claimed,
        "device-claimed": seen.device_claimed,
        "anonymous": seen.exists and not seen.identified,
        "unknown-user": not seen.exists,
        "disposable-domain": seen.disposable,
        "unverified-email-not-allowed": unverified and policy.requires_verified_email,
        "network-unknown": seen.network_grants is None and policy.requires_network,
        "network-velocity": _reaches(seen.network_grants, policy.network_limit),
        "domain-velocity": _reaches(seen.domain_grants, policy.domain_limit),
        "rejected": seen.rejected,
        "network-busy": _reaches(seen.network_grants, (policy.network_limit + 1) // 2),
        "domain-busy": _reaches(seen.domain_grants, (policy.domain_limit + 1) // 2),
        "unverified-email": unverified,
        "no-device": not seen.has_device,
    }
    reasons = tuple(reason for reason in WEIGHTS if present[reason])
    points = sum(WEIGHTS[reason] for reason in reasons)
    if _DUPLICATE & set(reasons):
        return Score(points, reasons, "duplicate")
    return Score(points, reasons, "withheld" if points >= policy.withhold_at else "granted")


def _reaches(count: int | None, limit: int) -> bool:
    return count is not None and count >= limit
