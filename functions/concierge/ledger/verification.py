"""Verification of one account: replays its chain and names everything that is wrong with it. Pure.

An honest chain passes for anybody who has the entries and the public keys; nothing here trusts the storage.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from concierge.ledger import transfers
from concierge.ledger.entries import ENTRY_VERSION, StoredEntry, entry_hash
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head, Movement

_HASH_PATTERN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. `code` is MALFORMED, HASH_MISMATCH, BAD_SIGNATURE, UNKNOWN_KEY, WRONG_ACCOUNT, BROKEN_SEQUENCE,
    BROKEN_CHAIN, RULE_VIOLATION or HEAD_MISMATCH."""

    seq: int
    code: str
    message: str


@dataclass(slots=True)
class Verification:
    """The result for one account. `head` is what the entries themselves add up to."""

    entries: int = 0
    head: Head = field(default_factory=Head)
    findings: list[Finding] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def verified(self) -> bool:
        return not self.findings


def verify_chain(
    entries: Iterable[StoredEntry], *, ledger_id: str, uid: str, keyring: Keyring, head: Head | None
) -> Verification:
    """Checks bytes, hashes, signatures, order and the rules of every transfer; with `head`, the stored head as well.

    `entries` come in the order of their sequence numbers, from the first. All faults are collected, none raised.
    """
    result = Verification()
    open_holds: dict[str, int] = {}
    for position, stored in enumerate(entries, start=1):
        result.entries = position
        report = _Reporter(result.findings, position)
        _check_seal(stored, keyring, report)
        try:
            fields = stored.fields()
            movement = Movement(
                fields["kind"], fields["amount"], fields["counter"], fields["postedAfter"], fields["heldAfter"]
            )
            _check_place(fields, ledger_id, uid, result.head, position, report)
            expected = _expected_movement(result.head, fields, open_holds)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            report("MALFORMED", f"the entry cannot be replayed: {error}")
            continue
        if expected != movement:
            report("RULE_VIOLATION", f"a {movement.kind} of {movement.amount} cannot leave this balance")
        result.head = transfers.advance(result.head, movement, stored.hash)
        posted_change = _posted_change(movement)
        result.counters[movement.counter] = result.counters.get(movement.counter, 0) - posted_change
    if head is not None and _comparable(head) != _comparable(result.head):
        report = _Reporter(result.findings, result.entries)
        report("HEAD_MISMATCH", f"the head says entry {head.seq}, the chain ends at {result.head.seq}")
    return result


class _Reporter:
    """Adds findings for one entry."""

    def __init__(self, findings: list[Finding], seq: int) -> None:
        self._findings, self._seq = findings, seq

    def __call__(self, code: str, message: str) -> None:
        self._findings.append(Finding(self._seq, code, message))


def _check_seal(stored: StoredEntry, keyring: Keyring, report: _Reporter) -> None:
    if not _HASH_PATTERN.fullmatch(stored.hash) or entry_hash(stored.content) != stored.hash:
        report("HASH_MISMATCH", "the stored hash is not the hash of the stored bytes")
    elif not keyring.knows(stored.key_id):
        report("UNKNOWN_KEY", f"signed with key {stored.key_id}, which is not known")
    elif not keyring.verifies(stored.key_id, stored.hash, stored.signature):
        report("BAD_SIGNATURE", f"not signed by key {stored.key_id}")


def _check_place(
    fields: dict[str, Any], ledger_id: str, uid: str, head: Head, position: int, report: _Reporter
) -> None:
    if fields["v"] != ENTRY_VERSION:
        raise ValueError(f"version {fields['v']} is not known")
    if fields["ledger"] != ledger_id or fields["uid"] != uid:
        report("WRONG_ACCOUNT", "the entry was written for another ledger or account")
    if fields["seq"] != position:
        report("BROKEN_SEQUENCE", f"entry {fields['seq']} stands at place {position}")
    if fields["prev"] != head.hash:
        report("BROKEN_CHAIN", "the entry does not follow the one before it")


def _expected_movement(head: Head, fields: dict[str, Any], open_holds: dict[str, int]) -> Movement | None:
    """What the rules make of the entry's own kind and amount; None if they refuse it."""
    kind, amount, counter = fields["kind"], fields["amount"], fields["counter"]
    if kind in transfers.CREDIT_KINDS:
        return transfers.credit(head, kind, amount, counter)
    if kind == "hold":
        outcome = transfers.hold(head, amount, amount)
        open_holds[fields["holdId"]] = amount
        return outcome if isinstance(outcome, Movement) else None
    if kind in ("capture", "release", "expire"):
        held_amount = open_holds.pop(fields["holdId"])
        return transfers.resolve(head, kind, held_amount, amount if kind == "capture" else 0, counter)
    raise ValueError(f"kind {kind!r} is not known")


def _posted_change(movement: Movement) -> int:
    if movement.kind in transfers.CREDIT_KINDS:
        return movement.amount
    return -movement.amount if movement.kind == "capture" else 0


def _comparable(head: Head) -> tuple[int, str, int, int]:
    return head.seq, head.hash, head.posted, head.held
