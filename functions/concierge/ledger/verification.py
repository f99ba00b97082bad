"""Verification of one account: replays its chain and names everything that is wrong with it. Pure.

An honest chain passes for anybody who has the entries and the public keys; nothing here trusts the storage.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from concierge.ledger import transfers
from concierge.ledger.entries import ENTRY_VERSION, HASH_DOMAIN, StoredEntry, entry_hash
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head, Movement

_HASH_PATTERN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. `code` says which kind:

    HASH_MISMATCH    the bytes are not those that were hashed
    BAD_SIGNATURE    not signed by the key that it names
    UNKNOWN_KEY      signed by a key that is none of ours
    MALFORMED        sealed properly, and yet no entry that can be replayed
    WRONG_ACCOUNT    written for another account or ledger
    BROKEN_SEQUENCE  stands at another place than its number says
    BROKEN_CHAIN     does not follow the entry before it
    MISSING_ENTRY    there is no entry of this number, but later ones
    TRUNCATED        the newest entries are gone, from this number on
    FORKED           another entry was published under this number
    RULE_VIOLATION   the rules of the ledger do not allow it
    HEAD_MISMATCH    the head is not what the entries add up to
    """

    seq: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ChainState:
    """How far a chain has been replayed: the head there, and the open holds by id with their amounts."""

    head: Head = field(default_factory=Head)
    open_holds: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Verification:
    """The result for one account. `head` is what the entries themselves add up to, and `open_holds` what they leave
    open; `entries` is how many were looked at."""

    entries: int = 0
    head: Head = field(default_factory=Head)
    open_holds: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        return not self.findings

    @property
    def counters(self) -> Mapping[str, int]:
        """The other sides' totals, in microcredits."""
        return self.head.counters

    @property
    def state(self) -> ChainState:
        """Where the replay of later entries goes on."""
        return ChainState(self.head, dict(self.open_holds))


def verify_chain(
    entries: Iterable[StoredEntry],
    *,
    ledger_id: str,
    uid: str,
    keyring: Keyring,
    head: Head | None,
    start: ChainState | None = None,
    anchors: Mapping[int, str] | None = None,
) -> Verification:
    """Checks bytes, hashes, signatures, order and the rules of every transfer; with `head`, the stored head as well.

    `entries` come in the order of their sequence numbers, from the first, or from the one after `start`. `anchors` are
    hashes by sequence number that are known from elsewhere, as from a published checkpoint. All faults are collected,
    none raised.
    """
    start = start or ChainState()
    replay = _Replay(Verification(head=start.head, open_holds=dict(start.open_holds)), ledger_id, uid, keyring)
    expected = dict(anchors or {})
    for stored in entries:
        replay.take(stored)
        known = expected.pop(replay.result.head.seq, None)
        if known is not None and known != stored.hash:
            replay.report("FORKED", "another entry was published under this number")
    result = replay.result
    beyond = max((seq for seq in expected if seq > result.head.seq), default=0)
    if head is not None and head.seq > beyond:
        beyond = head.seq
    if beyond > result.head.seq:
        message = f"entries up to {beyond} are known, the chain ends at {result.head.seq}"
        result.findings.append(Finding(result.head.seq + 1, "TRUNCATED", message))
    elif head is not None and not _agree(head, result.head, exactly=replay.certain):
        message = f"the head of entry {head.seq} is not what {result.head.seq} entries add up to"
        result.findings.append(Finding(head.seq, "HEAD_MISMATCH", message))
    return result


def chain_is_unchanged(entries: Iterable[StoredEntry], *, last_hash: str) -> int | None:
    """Whether all entries from the first on are still linked by their hashes and end at `last_hash`: then each is, byte
    for byte, what it was when that hash was verified. How many they are; None if they are not.

    Hashes only, hence many times faster than verify_chain; a link is read off the end of the canonical bytes, where
    the sorted keys put it.
    """
    sha256, domain = hashlib.sha256, HASH_DOMAIN
    previous, count = transfers.GENESIS_HASH, 0
    for stored in entries:
        content, count = stored.content, count + 1
        digest = sha256(domain + content).hexdigest()
        link = content.rfind(b'"prev":"')
        if digest != stored.hash or content[link + 8 : link + 72] != previous.encode():
            return None
        previous = digest
    return count if previous == last_hash else None


class _Replay:
    """The replay of one chain. After a fault it goes on from what the next sound entry says of itself, so that each
    fault is told once. `certain` is False once a balance or an open hold had to be taken on trust."""

    def __init__(self, result: Verification, ledger_id: str, uid: str, keyring: Keyring) -> None:
        self.result = result
        self.certain = True
        self._ledger_id, self._uid, self._keyring = ledger_id, uid, keyring
        self._place = result.head.seq
        # False while the balance before the next entry is not known.
        self._balanced = True

    def report(self, code: str, message: str) -> None:
        self.result.findings.append(Finding(self._place, code, message))

    def take(self, stored: StoredEntry) -> None:
        """The next entry."""
        result = self.result
        result.entries += 1
        linked = True
        self._place = result.head.seq + 1
        if stored.place > self._place:
            last = stored.place - 1
            self.report("MISSING_ENTRY", f"entries {self._place} to {last} are not there")
            self._place, linked = stored.place, False
            self._distrust()
        sound = self._check_seal(stored)
        movement, hold_id = None, None
        if sound:
            try:
                fields = stored.fields()
                movement, hold_id = _movement(fields), fields.get("holdId")
                sound = self._check_place(fields, linked)
                self._check_rules(fields, movement, sound)
            except (ValueError, KeyError, TypeError, AssertionError) as error:
                self.report("MALFORMED", f"the entry cannot be replayed: {error}")
                sound = False
        self._advance(stored, movement, hold_id, sound)

    def _advance(self, stored: StoredEntry, movement: Movement | None, hold_id: str | None, sound: bool) -> None:
        head = replace(self.result.head, seq=self._place - 1)
        if movement is None:
            self.result.head = replace(head, seq=self._place, hash=stored.hash)
        else:
            self.result.head = transfers.advance(head, movement, stored.hash)
            if movement.kind == "hold" and hold_id is not None:
                self.result.open_holds[hold_id] = movement.amount
        self._balanced = sound
        if not sound:
            self._distrust()

    def _distrust(self) -> None:
        self._balanced = self.certain = False

    def _check_seal(self, stored: StoredEntry) -> bool:
        if not _HASH_PATTERN.fullmatch(stored.hash) or entry_hash(stored.content) != stored.hash:
            self.report("HASH_MISMATCH", "the stored hash is not the hash of the stored bytes")
        elif not self._keyring.knows(stored.key_id):
            self.report("UNKNOWN_KEY", f"signed with key {stored.key_id}, which is not known")
        elif not self._keyring.verifies(stored.key_id, stored.hash, stored.signature):
            self.report("BAD_SIGNATURE", f"not signed by key {stored.key_id}")
        else:
            return True
        return False

    def _check_place(self, fields: Mapping[str, Any], linked: bool) -> bool:
        sound = True
        if fields["v"] != ENTRY_VERSION:
            raise ValueError(f"version {fields['v']} is not known")
        if fields["ledger"] != self._ledger_id or fields["uid"] != self._uid:
            self.report("WRONG_ACCOUNT", "the entry was written for another ledger or account")
            sound = False
        if fields["seq"] != self._place:
            self.report("BROKEN_SEQUENCE", f"entry {fields['seq']} stands at place {self._place}")
            sound = False
        if linked and fields["prev"] != self.result.head.hash:
            self.report("BROKEN_CHAIN", "the entry does not follow the one before it")
            sound = False
        return sound

    def _check_rules(self, fields: Mapping[str, Any], movement: Movement, sound: bool) -> None:
        """Compares the entry with what the rules make of its own kind and amount on the balance before it."""
        open_holds = self.result.open_holds
        if not (sound and self._balanced) or (not self.certain and fields.get("holdId") not in {None, *open_holds}):
            open_holds.pop(fields.get("holdId", ""), None)
            return
        if _expected_movement(self.result.head, fields, open_holds) != movement:
            self.report("RULE_VIOLATION", f"a {movement.kind} of {movement.amount} cannot leave this balance")


def _movement(fields: Mapping[str, Any]) -> Movement:
    movement = Movement(fields["kind"], fields["amount"], fields["counter"], fields["postedAfter"], fields["heldAfter"])
    for number in (movement.amount, movement.posted_after, movement.held_after, fields["seq"]):
        if type(number) is not int:
            raise ValueError("an amount is not a whole number")
    return movement


def _expected_movement(head: Head, fields: Mapping[str, Any], open_holds: dict[str, int]) -> Movement | None:
    """What the rules make of the entry's own kind and amount; None if they refuse it."""
    kind, amount, counter = fields["kind"], fields["amount"], fields["counter"]
    outcome: Movement | transfers.Refusal
    if kind in transfers.CREDIT_KINDS:
        outcome = transfers.credit(head, kind, amount, counter)
    elif kind == "hold":
        outcome = transfers.hold(head, amount, amount)
        if fields["holdId"] in open_holds:
            raise ValueError("the hold is open already")
    elif kind in transfers.RESOLUTION_KINDS:
        held_amount = open_holds.pop(fields["holdId"])
        outcome = transfers.resolve(head, kind, held_amount, amount if kind == "capture" else 0, counter)
    elif kind == "clawback":
        outcome = transfers.clawback(head, amount, counter)
    elif kind == "adjust":
        outcome = transfers.adjust(head, amount, counter)
    elif kind == "transfer-out":
        outcome = transfers.transfer_out(head, amount, _other_account(counter))
    elif kind == "transfer-in":
        outcome = transfers.transfer_in(head, amount, _other_account(counter))
    else:
        raise ValueError(f"kind {kind!r} is not known")
    return outcome if isinstance(outcome, Movement) else None


def _other_account(counter: str) -> str:
    return counter.removeprefix(transfers.account_counter(""))


def _agree(head: Head, replayed: Head, *, exactly: bool) -> bool:
    """Whether a stored head is the replayed one. Quarantine does not follow from the entries; after a fault neither do
    the counters and the freeze, nor do the counters of an account that is older than they are."""
    same = (head.seq, head.hash, head.posted, head.held, head.debt) == (
        replayed.seq,
        replayed.hash,
        replayed.posted,
        replayed.held,
        replayed.debt,
    )
    if not exactly:
        return same
    if transfers.COUNTER_OPENING in head.counters:
        counted = sum(head.counters.values()) + head.posted == 0
    else:
        counted = dict(head.counters) == dict(replayed.counters)
    return same and counted and head.frozen == replayed.frozen
