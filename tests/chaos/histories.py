"""What callers ask for: a random history of operations, the same one for the same seed.

Callers know what they sent and what they were answered, and no more. They repeat themselves, also at another instance,
mix up bodies, go on as runs that were taken over, and send amounts that are none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from chaos.calls import HOLD_ACTIONS, Call

_UIDS = ("alice", "bob", "carol", "dave")
_BAD_AMOUNTS: tuple[Any, ...] = (0, -5, True, 1.5, 7.0, "10", None, 2**53, 2**70, -(2**53))
_CREDITS = (("grant", "expense:bonus"), ("purchase", "liability:stripe"), ("refund", "revenue:chat"))
_RECENT = 4


@dataclass(frozen=True, slots=True)
class Wish:
    """An operation to be sent."""

    action: str
    accounts: tuple[str, ...]
    id: str
    body: Mapping[str, Any]


@dataclass(slots=True)
class Profile:
    """How a seed behaves. Rates are probabilities: `repeat` that an operation is an earlier one again, `fault` that a
    call of Firestore meets one, `crash` that an instance dies at a step, `jump` that the clock jumps at a step. What an
    account begins with lies within `wealth`."""

    name: str
    accounts: int
    instances: int
    operations: int
    repeat: float
    fault: float
    crash: float
    jump: float
    checkpoints: bool
    wealth: tuple[int, int]
    weights: dict[str, int] = field(default_factory=dict)


def draw_profile(random: Random, *, checkpoints: bool) -> Profile:
    """How a seed behaves; with `checkpoints`, the publisher runs beside the operations."""
    name = random.choice(("faulty", "crashing", "crowded", "late", "handover", "everything"))
    weights = {
        "credit": 8,
        "hold": 24,
        "capture": 18,
        "release": 6,
        "extend": 10,
        "take_over": 9,
        "sweep": 3,
        "expire": 4,
        "clawback": 4,
        "adjust": 4,
        "transfer": 7,
        "freeze": 1,
        "unfreeze": 3,
        "bad": 4,
    }
    for action in random.sample(sorted(weights), 4):
        weights[action] *= 2
    if name == "handover":
        weights.update(hold=20, take_over=24, extend=14, capture=16, release=12)
    return Profile(
        name=name,
        accounts=random.choice((1, 2)) if name == "crowded" else random.randint(2, len(_UIDS)),
        instances=random.randint(3, 5) if name == "crowded" else random.randint(2, 4),
        operations=random.randint(30, 70),
        repeat=random.choice((0.1, 0.25, 0.4)),
        fault={"faulty": 0.12, "everything": 0.06}.get(name, 0.01),
        crash={"crashing": 0.05, "everything": 0.025}.get(name, 0.002),
        jump={"late": 0.12, "everything": 0.05}.get(name, 0.01),
        checkpoints=checkpoints,
        wealth=random.choice(((60, 200), (200, 600))),
        weights=weights,
    )


class History:
    """Draws one wish after the other."""

    def __init__(self, random: Random, profile: Profile) -> None:
        self._random = random
        self._profile = profile
        self._uids = _UIDS[: profile.accounts]
        self._opened = 0
        self._count = 0
        # By (uid, hold id): the (run id, fence) of those who believe that the hold is theirs.
        self._runs: dict[tuple[str, str], list[tuple[str, int]]] = {}
        # The holds that are open for all that is known.
        self._open: list[tuple[str, str]] = []
        self._frozen: list[str] = []

    def note(self, call: Call) -> None:
        """Learns from an answer."""
        assert call.answer is not None
        said, values, key = call.answer.said, call.answer.values, (call.uid, call.id) if call.accounts else ("", "")
        if call.action in ("hold", "take_over") and said == "done":
            known = self._runs.setdefault(key, [])
            claim = (values["run_id"], values["fence"])
            if claim not in known:
                known.append(claim)
            if values.get("state", "held") == "held" and key not in self._open:
                self._open.append(key)
        elif call.action in ("freeze", "unfreeze") and said == "done":
            self._frozen = [uid for uid in self._frozen if uid != call.uid]
            self._frozen += [call.uid] if call.action == "freeze" else []
        elif (said == "expired" or values.get("state", "held") != "held") and key in self._open:
            self._open.remove(key)

    def next(self, sent: list[Call]) -> Wish | None:
        """The next operation; None for a sweep of what is due."""
        if self._opened < len(self._uids):
            self._opened += 1
            return self._credit(self._uids[self._opened - 1], *self._profile.wealth)
        repeatable = [call for call in sent if call.accounts]
        if repeatable and self._random.random() < self._profile.repeat:
            return self._again(self._random.choice(repeatable[-40:]))
        weights = self._profile.weights
        action = self._random.choices(list(weights), list(weights.values()))[0]
        if action == "sweep":
            return None
        if action == "bad":
            return self._bad()
        if action in HOLD_ACTIONS and action != "hold":
            return self._on_hold(action)
        makers: dict[str, Callable[[], Wish]] = {
            "credit": lambda: self._credit(self._uid(), 1, 120),
            "hold": self._hold,
            "clawback": lambda: self._posting(
                "clawback", self._amount(self._random.choice((150, 150, 1_200))), "liability:stripe"
            ),
            "adjust": self._adjust,
            "transfer": self._transfer,
            "freeze": lambda: self._control("freeze"),
            "unfreeze": lambda: self._control("unfreeze"),
        }
        return makers[action]()

    def _id(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}-{self._count}"

    def _uid(self) -> str:
        # Somebody without an account now and then.
        return "nobody" if self._random.random() < 0.02 else self._random.choice(self._uids)

    def _amount(self, most: int) -> int:
        return self._random.randint(1, most)

    def _credit(self, uid: str, least: int, most: int) -> Wish:
        kind, counter = self._random.choice(_CREDITS)
        uid = uid if uid in self._uids else self._uids[0]
        memo = self._random.choice((None, "invoice 7"))
        amount = self._random.randint(least, most)
        body = {"kind": kind, "amount": amount, "counter": counter, "memo": memo}
        return Wish("credit", (uid,), self._id("op"), body)

    def _posting(self, action: str, amount: Any, counter: str, memo: str | None = None) -> Wish:
        return Wish(action, (self._uid(),), self._id("op"), {"amount": amount, "counter": counter, "memo": memo})

    def _adjust(self) -> Wish:
        # Now and then more than anybody has.
        amount = self._random.choice((1, -1)) * self._amount(60) - self._random.choice((0, 0, 900))
        return self._posting("adjust", amount, "expense:support", memo="a correction")

    def _control(self, action: str) -> Wish:
        uid = self._uid()
        if action == "unfreeze" and self._frozen and self._random.random() < 0.8:
            uid = self._random.choice(self._frozen)
        return Wish(action, (uid,), self._id("op"), {"memo": f"{action} for a look"})

    def _transfer(self) -> Wish:
        if len(self._uids) < 2:
            return self._hold()
        accounts = tuple(self._random.sample(self._uids, 2))
        return Wish("transfer", accounts, self._id("op"), {"amount": self._amount(90), "memo": None})

    def _hold(self) -> Wish:
        hold_id = self._id("hold")
        uid = self._uid()
        self._runs.setdefault((uid, hold_id), [])
        amount = self._amount(self._random.choice((110, 110, 400)))
        body = {
            "request_hash": f"request of {hold_id}",
            "run_id": self._id("run"),
            "amount": amount,
            "minimum": self._random.choice((amount, self._amount(amount))),
        }
        return Wish("hold", (uid,), hold_id, body)

    def _on_hold(self, action: str) -> Wish:
        if not self._runs:
            return self._hold()
        known = self._open if self._open and self._random.random() < 0.8 else list(self._runs)
        uid, hold_id = self._random.choice(known[-_RECENT:])
        if self._random.random() < 0.02:
            hold_id = "no-such-hold"
        runs = self._runs.get((uid, hold_id), [])
        run = self._random.choice(runs) if runs else None
        fence = run[1] if run is not None and self._random.random() < 0.8 else None
        body: dict[str, Any]
        if action == "extend":
            body = {"fence": fence or 0}
        elif action == "take_over":
            body = {"run_id": self._id("run") if run is None or self._random.random() < 0.7 else run[0]}
        elif action == "capture":
            body = {"amount": self._amount(60), "counter": "revenue:chat", "note": "done", "fence": fence}
        else:
            body = {"fence": fence} if action == "release" else {}
        return Wish(action, (uid,), hold_id, body)

    def _bad(self) -> Wish:
        bad = self._random.choice(_BAD_AMOUNTS)
        kind = self._random.choice(("credit", "clawback", "transfer", "hold", "capture"))
        if kind == "credit":
            wish = self._credit(self._uid(), 1, 9)
        elif kind == "clawback":
            wish = self._posting("clawback", 1, "liability:stripe")
        elif kind == "transfer":
            wish = self._transfer()
        elif kind == "hold":
            wish = self._hold()
        else:
            wish = self._on_hold("capture")
        body = dict(wish.body)
        if "amount" in body:
            body["amount"] = bad
        return Wish(wish.action, wish.accounts, wish.id, body)

    def _again(self, call: Call) -> Wish:
        """The same operation again, or one under the same id that is another."""
        body = dict(call.body)
        if self._random.random() < 0.3:
            if call.action == "hold":
                body["request_hash"] = f"another request under {call.id}"
            elif "amount" in body and type(body["amount"]) is int:
                body["amount"] += self._random.choice((1, 7))
            elif call.action == "freeze":
                return Wish("unfreeze", call.accounts, call.id, body)
        elif call.action == "hold" and self._random.random() < 0.5:
            # Another delivery of the same request is another run.
            body["run_id"] = self._id("run")
        return Wish(call.action, call.accounts, call.id, body)
