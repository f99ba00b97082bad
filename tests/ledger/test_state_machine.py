"""The transfers, driven in every order by hypothesis against a model that shares no code with them.

Three accounts, all kinds of entries, amounts up to and beyond every limit, and amounts that are none. After each step
the books agree with the model, chains of the movements verify, and at the end no changed chain does.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.ledger_model import LIMIT, Book, Moved, Refused

from concierge.kit.canonical import canonical_bytes
from concierge.ledger import transfers
from concierge.ledger.entries import StoredEntry, entry_content, entry_hash
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head, Movement, Refusal
from concierge.ledger.verification import ChainState, Verification, verify_chain

LEDGER = "test-ledger"
UIDS = ("alice", "bob", "carol")
KEYRING = Keyring(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), [])
CREDITS = (("grant", "expense:bonus"), ("purchase", "liability:stripe"), ("refund", "revenue:chat"))

# Huge ones and such as are none at all come now and then: most of the time something has to happen.
SOME = st.integers(1, 1_000)
HUGE = st.integers(LIMIT - 1_000, LIMIT)
NO_AMOUNTS = st.sampled_from(
    [0, -1, True, False, 1.0, 2.5, float("nan"), "5", None, LIMIT + 1, 2**70, -LIMIT, -(2**53)]
)
AMOUNTS = st.integers(0, 19).flatmap(lambda draw: {0: HUGE, 1: NO_AMOUNTS, 2: NO_AMOUNTS}.get(draw, SOME))
ACCOUNTS = st.sampled_from(UIDS)


class Account:
    """The code under test and the model, side by side, and the chain of what was accepted."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.head = Head()
        self.book = Book()
        self.entries: list[StoredEntry] = []
        self.verified = ChainState()
        self.verified_entries = 0

    def append(self, movement: Movement, hold_id: str | None) -> None:
        before = self.head
        content = entry_content(
            ledger_id=LEDGER,
            uid=self.uid,
            head=before,
            movement=movement,
            op_id=f"op-{before.seq + 1}",
            at="2026-01-02T03:04:05.678Z",
            hold_id=hold_id,
        )
        digest = entry_hash(content)
        key_id, signature = KEYRING.sign(digest)
        self.entries.append(StoredEntry(content, digest, key_id, signature, before.seq + 1))
        self.head = transfers.advance(before, movement, digest)
        if self.head.debt > before.debt and movement.kind != "clawback":
            # What was held before a clawback took it was promised; nothing else raises a debt.
            assert movement.kind == "capture"
            assert before.available < 0
        if movement.kind != "clawback":
            assert self.head.available >= min(0, before.available), "only a clawback takes more than there is"

    def verify(self, entries: list[StoredEntry] | None = None) -> Verification:
        chain = self.entries if entries is None else entries
        return verify_chain(chain, ledger_id=LEDGER, uid=self.uid, keyring=KEYRING, head=self.head)


def outcome_of(action: Callable[[], Any]) -> Any:
    """What it returns, or the class of what it raises."""
    try:
        return action()
    except ValueError:
        return ValueError


class Transfers(RuleBasedStateMachine):
    """All accounts of a ledger."""

    @initialize(amounts=st.lists(st.integers(500, 5_000), min_size=3, max_size=3), held=st.integers(0, 400))
    def open(self, amounts: list[int], held: int) -> None:
        self.accounts = {uid: Account(uid) for uid in UIDS}
        self.holds: list[tuple[str, str]] = []
        self.resolved: list[tuple[str, str, int]] = []
        for uid, amount in zip(UIDS, amounts, strict=True):
            self.credit(uid, CREDITS[0], amount)
            if held:
                self.hold(uid, held, held)

    # What is checked after each step.

    @invariant()
    def the_books_agree(self) -> None:
        for account in self.accounts.values():
            head, book = account.head, account.book
            assert (head.posted, head.held, head.available, head.debt, head.frozen) == (
                book.owned,
                book.held,
                book.free,
                book.debt,
                book.frozen,
            )
            assert dict(head.counters) == book.counters
            assert head.held == sum(book.holds.values()) >= 0
            assert head.seq == len(account.entries)
            assert head.posted + sum(head.counters.values()) == 0
            assert -LIMIT <= head.posted <= LIMIT

    @invariant()
    def everything_comes_to_zero(self) -> None:
        heads = [account.head for account in self.accounts.values()]
        assert sum(head.posted + sum(head.counters.values()) for head in heads) == 0
        assert sum(head.counters.get("account", 0) for head in heads) == 0

    @invariant()
    def the_chains_go_on(self) -> None:
        """Only what is new; the whole chains are verified at the end."""
        for account in self.accounts.values():
            new = account.entries[account.verified_entries :]
            if new:
                part = verify_chain(
                    new, ledger_id=LEDGER, uid=account.uid, keyring=KEYRING, head=account.head, start=account.verified
                )
                assert part.findings == []
                assert part.open_holds == account.book.holds
                account.verified, account.verified_entries = part.state, len(account.entries)

    def teardown(self) -> None:
        for account in getattr(self, "accounts", {}).values():
            verification = account.verify()
            assert verification.findings == []
            assert verification.open_holds == account.book.holds

    # What is done.

    @rule(uid=ACCOUNTS, of=st.sampled_from(CREDITS), amount=AMOUNTS)
    def credit(self, uid: str, of: tuple[str, str], amount: Any) -> None:
        kind, counter = of
        self._both(
            uid,
            lambda head: transfers.credit(head, kind, amount, counter),  # type: ignore[arg-type]
            lambda book: book.receive(kind, amount, counter),
        )

    @rule(uid=ACCOUNTS, amount=AMOUNTS)
    def clawback(self, uid: str, amount: Any) -> None:
        self._both(
            uid,
            lambda head: transfers.clawback(head, amount, "liability:stripe"),
            lambda book: book.claw_back(amount, "liability:stripe"),
        )

    @rule(uid=ACCOUNTS, amount=AMOUNTS | SOME.map(lambda amount: -amount) | HUGE.map(lambda amount: -amount))
    def adjust(self, uid: str, amount: Any) -> None:
        self._both(
            uid,
            lambda head: transfers.adjust(head, amount, "expense:support"),
            lambda book: book.correct(amount, "expense:support"),
        )

    @precondition(lambda self: any(account.book.debt for account in self.accounts.values()))
    @rule(more=SOME)
    def pay_a_debt(self, more: int) -> None:
        uid = next(uid for uid, account in self.accounts.items() if account.book.debt)
        self.credit(uid, CREDITS[1], min(self.accounts[uid].book.debt + more, LIMIT))

    @rule(uid=ACCOUNTS)
    def freeze_or_unfreeze(self, uid: str) -> None:
        self.freeze(uid, not self.accounts[uid].book.frozen, 0)

    @rule(uid=ACCOUNTS, frozen=st.booleans(), amount=st.sampled_from([0, 1, -1]))
    def freeze(self, uid: str, frozen: bool, amount: int) -> None:
        counter = transfers.COUNTER_FREEZE if frozen else transfers.COUNTER_UNFREEZE

        def by_the_model(book: Book) -> Moved:
            if amount:
                raise ValueError
            return book.set_frozen(frozen)

        self._both(uid, lambda head: transfers.adjust(head, amount, counter), by_the_model)

    @rule(uid=ACCOUNTS, amount=st.integers(1, 300) | AMOUNTS, minimum=st.just(1) | AMOUNTS)
    def hold(self, uid: str, amount: Any, minimum: Any) -> None:
        hold_id = f"hold-{len(self.holds) + len(self.resolved) + 1}"
        available = self.accounts[uid].head.available
        moved = self._both(
            uid,
            lambda head: transfers.hold(head, amount, minimum),
            lambda book: book.place(hold_id, amount, minimum),
            hold_id,
        )
        if isinstance(moved, Movement):
            assert 0 < moved.amount <= available
            self.holds.append((uid, hold_id))

    @rule(pair=st.permutations(UIDS), what=st.sampled_from(["adjust", "hold", "transfer"]), beyond=st.integers(-1, 1))
    def just_what_is_available(self, pair: list[str], what: str, beyond: int) -> None:
        """Where a comparison with the wrong number, or with the wrong sign, shows."""
        amount = self.accounts[pair[0]].book.free + beyond
        if amount <= 0:
            return
        if what == "adjust":
            self.adjust(pair[0], -amount)
        elif what == "hold":
            self.hold(pair[0], amount, amount)
        else:
            self.transfer(pair, amount)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), amount=AMOUNTS, whole=st.booleans())
    def capture(self, data: st.DataObject, amount: Any, whole: bool) -> None:
        uid, hold_id = data.draw(st.sampled_from(self.holds))
        held = self.accounts[uid].book.holds[hold_id]
        captured = held if whole else amount
        moved = self._both(
            uid,
            lambda head: transfers.resolve(head, "capture", held, captured, "revenue:chat"),
            lambda book: book.capture(hold_id, captured, "revenue:chat"),
            hold_id,
        )
        if isinstance(moved, Movement):
            assert moved.amount <= held
            self._resolve(uid, hold_id, held)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), kind=st.sampled_from(["release", "expire"]))
    def let_go(self, data: st.DataObject, kind: Any) -> None:
        uid, hold_id = data.draw(st.sampled_from(self.holds))
        held = self.accounts[uid].book.holds[hold_id]
        self._both(
            uid,
            lambda head: transfers.resolve(head, kind, held, 0, "held"),
            lambda book: book.let_go(hold_id, kind),
            hold_id,
        )
        self._resolve(uid, hold_id, held)

    @rule(pair=st.permutations(UIDS), amount=AMOUNTS)
    def transfer(self, pair: list[str], amount: Any) -> None:
        source, target = self.accounts[pair[0]], self.accounts[pair[1]]
        sent = outcome_of(lambda: transfers.transfer_out(source.head, amount, target.uid))
        received = outcome_of(lambda: transfers.transfer_in(target.head, amount, source.uid))
        expected = outcome_of(lambda: source.book.send(target.book, (source.uid, target.uid), amount))
        if expected is ValueError:
            assert ValueError in (sent, received)
        elif isinstance(expected, Refused):
            assert sent == Refusal(expected.reason, expected.missing, expected.available)  # type: ignore[arg-type]
        else:
            for account, moved, wanted in ((source, sent, expected[0]), (target, received, expected[1])):
                assert (moved.kind, moved.amount, moved.counter) == (wanted.kind, wanted.amount, wanted.counter)
                account.append(moved, None)

    # What must not pass.

    @precondition(lambda self: self.resolved)
    @rule(data=st.data(), kind=st.sampled_from(["capture", "release", "expire"]))
    def a_second_resolution_does_not_verify(self, data: st.DataObject, kind: Any) -> None:
        uid, hold_id, held = data.draw(st.sampled_from(self.resolved))
        account = self.accounts[uid]
        if account.head.held < held:
            return
        forged = transfers.resolve(account.head, kind, held, held if kind == "capture" else 0, "revenue:chat")
        kept = (account.head, list(account.entries))
        account.append(forged, hold_id)
        findings = account.verify().findings
        account.head, account.entries = kept
        assert findings

    @rule(data=st.data())
    def a_changed_chain_does_not_verify(self, data: st.DataObject) -> None:
        account = self.accounts[data.draw(ACCOUNTS)]
        other = self.accounts[data.draw(ACCOUNTS.filter(lambda uid: uid != account.uid))]
        if account.entries:
            changed = data.draw(st.sampled_from(CHANGES))(data, list(account.entries), other.entries)
            if changed is not None:
                assert not account.verify(changed).verified

    # How it is done.

    def _resolve(self, uid: str, hold_id: str, held: int) -> None:
        self.holds.remove((uid, hold_id))
        self.resolved.append((uid, hold_id, held))

    def _both(
        self,
        uid: str,
        by_the_code: Callable[[Head], Movement | Refusal],
        by_the_model: Callable[[Book], Moved | Refused],
        hold_id: str | None = None,
    ) -> Any:
        """Does the same with the code and with the model, which have to come to the same."""
        account = self.accounts[uid]
        outcome = outcome_of(lambda: by_the_code(account.head))
        expected = outcome_of(lambda: by_the_model(account.book))
        if expected is ValueError:
            assert outcome is ValueError, f"accepted as {outcome}"
        elif isinstance(expected, Refused):
            assert outcome == Refusal(expected.reason, expected.missing, expected.available)  # type: ignore[arg-type]
        else:
            assert isinstance(outcome, Movement), outcome
            assert (outcome.kind, outcome.amount, outcome.counter) == (expected.kind, expected.amount, expected.counter)
            account.append(outcome, hold_id)
        return outcome


# Ways to change a chain. Each returns the changed entries, or None if there is nothing to change in this way.


def _flip(data: st.DataObject, entries: list[StoredEntry], _: list[StoredEntry]) -> list[StoredEntry] | None:
    index = data.draw(st.integers(0, len(entries) - 1))
    part = data.draw(st.sampled_from(["content", "signature"]))
    raw = bytearray(getattr(entries[index], part))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    entries[index] = replace(entries[index], **{part: bytes(raw)})
    return entries


def _drop(data: st.DataObject, entries: list[StoredEntry], _: list[StoredEntry]) -> list[StoredEntry] | None:
    del entries[data.draw(st.integers(0, len(entries) - 1))]
    return entries


def _repeat(data: st.DataObject, entries: list[StoredEntry], _: list[StoredEntry]) -> list[StoredEntry] | None:
    index = data.draw(st.integers(0, len(entries) - 1))
    entries.insert(index, entries[index])
    return entries


def _swap(data: st.DataObject, entries: list[StoredEntry], _: list[StoredEntry]) -> list[StoredEntry] | None:
    if len(entries) < 2:
        return None
    one, two = data.draw(st.permutations(range(len(entries))))[:2]
    entries[one], entries[two] = entries[two], entries[one]
    return entries


def _replay(data: st.DataObject, entries: list[StoredEntry], others: list[StoredEntry]) -> list[StoredEntry] | None:
    if not others:
        return None
    entries[data.draw(st.integers(0, len(entries) - 1))] = data.draw(st.sampled_from(others))
    return entries


def _reseal(data: st.DataObject, entries: list[StoredEntry], _: list[StoredEntry]) -> list[StoredEntry] | None:
    """One field changed, and hash and signature made anew by somebody who has the key."""
    index = data.draw(st.integers(0, len(entries) - 1))
    fields = json.loads(entries[index].content)
    name = data.draw(st.sampled_from(sorted(fields)))
    value = fields[name]
    fields[name] = value + 1 if isinstance(value, int) and value < LIMIT else "other"
    content = canonical_bytes(fields)
    digest = entry_hash(content)
    entries[index] = StoredEntry(content, digest, *KEYRING.sign(digest), entries[index].place)
    return entries


CHANGES = [_flip, _drop, _repeat, _swap, _replay, _reseal]

Transfers.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestTransfers = Transfers.TestCase


@pytest.mark.parametrize("amount", [LIMIT, LIMIT - 1])
def test_the_limits_of_an_account(amount: int) -> None:
    """To the last microcredit in both directions, and no further."""
    head = Head(posted=LIMIT - amount)
    assert transfers.credit(head, "grant", amount, "expense:bonus").posted_after == LIMIT
    assert transfers.transfer_in(head, amount, "bob").posted_after == LIMIT
    assert transfers.clawback(Head(posted=amount - LIMIT), amount, "liability:stripe").posted_after == -LIMIT
    full = Head(posted=LIMIT)
    for overflow in (
        lambda: transfers.credit(full, "grant", 1, "expense:bonus"),
        lambda: transfers.adjust(full, 1, "expense:support"),
        lambda: transfers.transfer_in(full, 1, "bob"),
        lambda: transfers.clawback(Head(posted=-LIMIT), 1, "liability:stripe"),
    ):
        with pytest.raises(ValueError, match="exceed"):
            overflow()
