"""The bonus' pure parts: whose mailbox it is, which network, and what speaks against a grant."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concierge.credits.bonus.identity import IdentityHasher, network_of, normalise_email
from concierge.credits.bonus.scoring import WEIGHTS, Observation, Policy, Reason, score

POLICY = Policy(network_limit=5, domain_limit=20, withhold_at=100, requires_verified_email=False)
KEY = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("address", "mailbox"),
    [
        ("Jane.Doe+news@Gmail.com", "janedoe@gmail.com"),
        ("janedoe@googlemail.com", "janedoe@gmail.com"),
        (" jane.doe@example.org ", "jane.doe@example.org"),
        ("jane+a+b@example.org", "jane@example.org"),
        ("+tag@example.org", "+tag@example.org"),
        ("jane-shop@yahoo.com", "jane@yahoo.com"),
        ("jane-shop@example.org", "jane-shop@example.org"),
        ("jane@protonmail.com", "jane@proton.me"),
        ("jane@BÜCHER.example", "jane@xn--bcher-kva.example"),
        ("jane@xn--bcher-kva.example", "jane@xn--bcher-kva.example"),
        ("jane@example.org.", "jane@example.org"),
        ('"odd@local"@example.org', '"odd@local"@example.org'),
    ],
)
def test_all_spellings_of_a_mailbox_are_one(address: str, mailbox: str) -> None:
    found = normalise_email(address)
    assert found is not None
    assert found.mailbox == mailbox


@pytest.mark.parametrize("address", ["", "jane", "@example.org", "jane@", "jane@" + "x" * 64 + ".org"])
def test_what_is_no_address_is_none(address: str) -> None:
    assert normalise_email(address) is None


@given(st.text(max_size=80))
def test_normalising_never_fails_and_changes_nothing_the_second_time(address: str) -> None:
    once = normalise_email(address)
    if once is not None:
        assert normalise_email(once.mailbox) in (once, None) or "+" in once.mailbox or "-" in once.mailbox


def test_public_and_disposable_domains_are_told_apart() -> None:
    assert normalise_email("a@googlemail.com").is_public  # type: ignore[union-attr]
    assert normalise_email("a@mailinator.com").is_disposable  # type: ignore[union-attr]
    own = normalise_email("a@example.org")
    assert own is not None
    assert not (own.is_public or own.is_disposable)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("8.8.4.4", "8.8.4.0/24"),
        ("2a00:1450:4001:82f::200e", "2a00:1450:4001:800::/56"),
        ("::ffff:8.8.8.8", "8.8.8.0/24"),
        ("127.0.0.1", None),
        ("10.1.2.3", None),
        ("fe80::1", None),
        ("not an address", None),
        ("8.8.8.8:443", None),
        (None, None),
    ],
)
def test_the_network_of_an_address(address: str | None, network: str | None) -> None:
    assert network_of(address) == network


def test_hashes_need_the_key_and_differ_by_kind() -> None:
    hasher, other = IdentityHasher(KEY), IdentityHasher(base64.b64encode(bytes([1]) * 32).decode())
    assert hasher("email", "a") == IdentityHasher(KEY)("email", "a")
    assert len({hasher("email", "a"), hasher("device", "a"), hasher("email", "b"), other("email", "a")}) == 4
    with pytest.raises(ValueError, match="key"):
        IdentityHasher("short")


CASES: list[tuple[dict[str, Any], str, tuple[Reason, ...]]] = [
    ({"email_verified": True}, "granted", ()),
    ({}, "granted", ("unverified-email",)),
    ({"has_device": False}, "granted", ("unverified-email", "no-device")),
    ({"identity_claimed": True, "email_verified": True}, "duplicate", ("identity-claimed",)),
    ({"device_claimed": True, "email_verified": True}, "duplicate", ("device-claimed",)),
    ({"identified": False, "has_email": False}, "withheld", ("anonymous",)),
    ({"exists": False, "identified": False, "has_email": False}, "withheld", ("unknown-user",)),
    ({"disposable": True, "email_verified": True}, "withheld", ("disposable-domain",)),
    ({"network_grants": 2, "email_verified": True}, "granted", ()),
    ({"network_grants": 3, "email_verified": True}, "granted", ("network-busy",)),
    ({"network_grants": 5, "email_verified": True}, "withheld", ("network-velocity", "network-busy")),
    ({"domain_grants": 20, "email_verified": True}, "withheld", ("domain-velocity", "domain-busy")),
    # Two networks' worth of suspicion and no proof: together still below the threshold, with an unverified address not.
    ({"network_grants": 4, "domain_grants": 15, "email_verified": True}, "granted", ("network-busy", "domain-busy")),
    (
        {"network_grants": 4, "domain_grants": 15, "has_device": False},
        "withheld",
        ("network-busy", "domain-busy", "unverified-email", "no-device"),
    ),
    ({"rejected": True, "email_verified": True}, "withheld", ("rejected",)),
]


@pytest.mark.parametrize(("seen", "verdict", "reasons"), CASES)
def test_the_score_table(seen: dict[str, Any], verdict: str, reasons: tuple[Reason, ...]) -> None:
    found = score(Observation(**seen), POLICY)
    assert (found.verdict, found.reasons) == (verdict, reasons)
    assert found.points == sum(WEIGHTS[reason] for reason in reasons)


def test_a_verified_address_may_be_required() -> None:
    strict = Policy(network_limit=5, domain_limit=20, withhold_at=100, requires_verified_email=True)
    assert score(Observation(), strict).verdict == "withheld"
    assert score(Observation(email_verified=True), strict).verdict == "granted"


@given(st.builds(Observation), st.sampled_from(["identity_claimed", "device_claimed", "rejected", "disposable"]))
def test_one_more_reason_never_lowers_the_points(seen: Observation, field: str) -> None:
    worse = Observation(**{**{name: getattr(seen, name) for name in Observation.__slots__}, field: True})
    assert score(worse, POLICY).points >= score(seen, POLICY).points
