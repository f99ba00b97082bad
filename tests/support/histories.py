"""Accounts with a past, and what their audit has to say: from the stored bytes, without any of the ledger's code."""

import json
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from support.backend import Backend

from concierge.errors import ConciergeError, Conflict
from concierge.ledger.service import refusal_error

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CONTROLS = ("hold", "release", "expire")
OUTWARD = ("capture", "clawback", "transfer-out")


class History:
    """An account whose n-th entry was made n minutes after the start."""

    def __init__(self, backend: Backend, uid: str) -> None:
        self.at = START
        self.uid = uid
        self._ledger = backend.ledger(now=lambda: self.at, hold_lifetime=timedelta(minutes=10))

    def step(self, operation: str, *arguments: Any, **options: Any) -> None:
        """One operation on the account, which appends one entry."""
        self.at += MINUTE
        getattr(self._ledger, operation)(self.uid, *arguments, **options)

    def usual(self) -> "History":
        """One entry of nearly every kind; three holds are left open."""
        step = self.step
        step("credit", op_id="g", kind="grant", amount=1_000_000, counter="expense:bonus")
        step("credit", op_id="p", kind="purchase", amount=500_000, counter="liability:stripe")
        for name in ("a", "b", "c", "-d", "e"):
            step("place_hold", name, request_hash="h", run_id="r", amount=50_000, minimum=1)
        step("capture", "a", 20_000, counter="revenue:chat")
        step("release", "b")
        step("clawback", op_id="c", amount=500_000, counter="liability:stripe")
        step("adjust", op_id="j", amount=-7, counter="expense:goodwill", memo="m", actor="x")
        step("freeze", op_id="f", reason="m", actor="x")
        step("unfreeze", op_id="u", reason="m", actor="x")
        return self


class RandomHistory:
    """Operations of every kind, each on the clock's next minute; what the ledger refuses appends nothing."""

    def __init__(self, backend: Backend, uid: str, partner: str, chance: random.Random) -> None:
        self.uid, self.partner, self.chance = uid, partner, chance
        self.number, self.at = 0, START
        self.ledger = backend.ledger(now=lambda: self.at, hold_lifetime=timedelta(days=9))
        self.open: list[tuple[str, int]] = []
        self.ledger.credit(partner, op_id="g", kind="grant", amount=10**9, counter="expense:bonus")

    def act(self) -> None:
        self.number += 1
        self.at += MINUTE
        try:
            self.chance.choice(
                [self.credit, self.hold, self.hold, self.resolve, self.resolve, self.correct, self.freeze, self.send]
            )(f"op{self.number}")
        except ConciergeError:
            # Refused: the account is frozen, in debt or too poor. That minute has no entry.
            self.at -= MINUTE

    def credit(self, op: str) -> None:
        kind = self.chance.choice(["grant", "purchase", "refund"])
        self.ledger.credit(self.uid, op_id=op, kind=kind, amount=self.amount(), counter=f"source:{kind}")

    def hold(self, op: str) -> None:
        hold = self.ledger.place_hold(self.uid, op, request_hash="h", run_id="r", amount=self.amount(), minimum=1)
        if hold.refusal is not None:
            raise refusal_error(hold.refusal)
        self.open.append((op, hold.amount))

    def resolve(self, op: str) -> None:
        if not self.open:
            raise Conflict("nothing is open")
        hold_id, amount = self.open.pop(self.chance.randrange(len(self.open)))
        if self.chance.random() < 0.3:
            self.ledger.release(self.uid, hold_id)
        else:
            self.ledger.capture(self.uid, hold_id, self.chance.randint(1, amount), counter="revenue:chat")

    def correct(self, op: str) -> None:
        if self.chance.random() < 0.5:
            self.ledger.clawback(self.uid, op_id=op, amount=self.amount(), counter="source:purchase")
        else:
            amount = self.chance.choice([-1, 1]) * self.amount()
            self.ledger.adjust(self.uid, op_id=op, amount=amount, counter="expense:goodwill", memo="m", actor="a")

    def freeze(self, op: str) -> None:
        act = self.chance.choice([self.ledger.freeze, self.ledger.unfreeze, self.ledger.unfreeze])
        act(self.uid, op_id=op, reason="m", actor="a")

    def send(self, op: str) -> None:
        sides = [self.uid, self.partner]
        self.chance.shuffle(sides)
        self.ledger.transfer(*sides, op_id=op, amount=self.amount())

    def amount(self) -> int:
        return self.chance.randint(1, 1_000)


def stored(backend: Backend, uid: str) -> list[dict[str, Any]]:
    documents = backend.firestore.collection("accounts").document(uid).collection("entries").order_by("__name__")
    return [json.loads(snapshot.to_dict()["content"]) for snapshot in documents.stream()]


def expected(entries: list[dict[str, Any]], since: datetime, until: datetime) -> dict[str, Any]:
    """What the report must say, from the entries' own text."""
    kinds: Any = defaultdict(lambda: {"count": 0, "amountMicrocredits": 0})
    counters: Any = defaultdict(lambda: {"count": 0, "amountMicrocredits": 0})
    opening = closing = {"postedMicrocredits": 0, "heldMicrocredits": 0}
    count = 0
    for entry in entries:
        at = datetime.fromisoformat(entry["at"])
        balance = {"postedMicrocredits": entry["postedAfter"], "heldMicrocredits": entry["heldAfter"]}
        if at >= until:
            break
        closing = balance
        if at < since:
            opening = balance
            continue
        count += 1
        moved = entry["amount"] if entry["kind"] in OUTWARD else 0 if entry["kind"] in CONTROLS else -entry["amount"]
        kinds[entry["kind"]]["count"] += 1
        kinds[entry["kind"]]["amountMicrocredits"] += entry["amount"]
        counter = "account" if entry["counter"].startswith("account:") else entry["counter"]
        counters[counter]["count"] += 1
        counters[counter]["amountMicrocredits"] += moved
    return {
        "opening": opening,
        "closing": closing,
        "entries": count,
        "kinds": dict(kinds),
        "counters": dict(counters),
    }
