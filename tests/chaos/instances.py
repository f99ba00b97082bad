"""Simulated instances of the ledger's service: the real classes, with a clock of their own, asked for one operation.

Turns what the ledger returns or raises into the answer that a caller would have. Anything else that it raises is a bug
and ends the simulation.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from chaos.calls import Answer, Call
from google.api_core import exceptions as google_exceptions
from google.cloud import firestore

from concierge.errors import AccountFrozen, Conflict, HoldExpired, InsufficientCredits, NotFound, Unavailable
from concierge.kit.objects import ObjectStore
from concierge.ledger.appender import Appended
from concierge.ledger.changes import ChangeFeed
from concierge.ledger.checkpoints.notes import Signer
from concierge.ledger.checkpoints.publisher import CheckpointPublisher
from concierge.ledger.checkpoints.receipts import origin_of
from concierge.ledger.checkpoints.repository import CheckpointRepository
from concierge.ledger.repository import Hold, LedgerRepository, Write
from concierge.ledger.reservations import Resolution
from concierge.ledger.service import Ledger, Posting
from concierge.ledger.signatures import Keyring

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
TALLIES = "tallies"
"""By account, what was captured: `{captured}` in microcredits, kept beside the entries."""
LIFETIME = timedelta(seconds=60)
LIFETIME_MAX = timedelta(seconds=75)
SIGNING_KEY = base64.b64encode(bytes(range(32))).decode()
_CHECKPOINT_KEY = base64.b64encode(bytes(range(32, 64))).decode()


MakeLedger = Callable[[Any, str, Callable[[], datetime]], Ledger]


def make_ledger(client: Any, ledger_id: str, now: Callable[[], datetime]) -> Ledger:
    """The ledger as the composition root builds it, with shorter lifetimes."""
    return build_ledger(Ledger, LedgerRepository(client), ledger_id, now)


def build_ledger(
    kind: type[Ledger], repository: LedgerRepository, ledger_id: str, now: Callable[[], datetime]
) -> Ledger:
    return kind(
        repository,
        Keyring.from_text(SIGNING_KEY, []),
        ledger_id=ledger_id,
        hold_lifetime=LIFETIME,
        hold_lifetime_max=LIFETIME_MAX,
        now=now,
    )


@dataclass(slots=True)
class Instance:
    """One instance; `skew_ms` is how far its clock is from the simulation's. `client` makes a client of Firestore, and
    `make` a ledger on it."""

    name: str
    ledger_id: str
    client: Callable[[], Any]
    bucket: Callable[[], Any]
    clock_ms: Callable[[], int]
    make: MakeLedger = make_ledger
    skew_ms: int = 0
    firestore: Any = None
    ledger: Ledger = None  # type: ignore[assignment]
    is_busy: bool = False

    def now(self) -> datetime:
        return EPOCH + timedelta(milliseconds=self.clock_ms() + self.skew_ms)

    def start(self) -> None:
        """A new process: nothing is left of the one before."""
        self.firestore = self.client()
        self.ledger = self.make(self.firestore, self.ledger_id, self.now)

    def publisher(self) -> CheckpointPublisher:
        return CheckpointPublisher(
            ChangeFeed(self.firestore),
            CheckpointRepository(self.firestore),
            ObjectStore(self.bucket()),
            Signer(origin_of(self.ledger_id), _CHECKPOINT_KEY),
            [],
            ledger_id=self.ledger_id,
        )

    def perform(self, call: Call) -> Answer:
        """Does what the call asks for. Raises what no caller has to expect."""
        try:
            return _ACTIONS[call.action](self, call)
        except InsufficientCredits as error:
            told = {"missing": error.missing_microcredits, "available": error.details["availableMicrocredits"]}
            return Answer("refused", {"reason": "INSUFFICIENT_CREDITS", **told})
        except AccountFrozen:
            return Answer("refused", {"reason": "ACCOUNT_FROZEN"})
        except Conflict:
            return Answer("conflict")
        except HoldExpired:
            return Answer("expired")
        except NotFound:
            return Answer("missing")
        except ValueError:
            return Answer("invalid")
        except Unavailable:
            return Answer("unanswered")


def _post(instance: Instance, call: Call) -> Answer:
    ledger, body = instance.ledger, dict(call.body)
    if call.action in ("adjust", "freeze", "unfreeze"):
        body["actor"] = "simulation"
    if call.action in ("freeze", "unfreeze"):
        body["reason"] = body.pop("memo")
    posting: Posting = getattr(ledger, call.action)(call.uid, op_id=call.id, **body)
    return _posted({call.uid: posting})


def _transfer(instance: Instance, call: Call) -> Answer:
    paid, received = instance.ledger.transfer(*call.accounts, op_id=call.id, **call.body)
    return _posted(dict(zip(call.accounts, (paid, received), strict=True)))


def _posted(postings: dict[str, Posting]) -> Answer:
    seqs = {uid: posting.operation.seq for uid, posting in postings.items()}
    hashes = {uid: posting.operation.hash for uid, posting in postings.items()}
    return Answer("done", {"seqs": seqs, "hashes": hashes})


def _hold(instance: Instance, call: Call) -> Answer:
    hold = instance.ledger.place_hold(call.uid, call.id, **call.body)
    if hold.refusal is not None:
        refusal = hold.refusal
        told = {"reason": refusal.reason, "missing": refusal.missing, "available": refusal.available}
        return Answer("refused", told)
    return _held(hold, amount=hold.amount, placed_seq=hold.placed_seq, state=hold.state)


def _extend(instance: Instance, call: Call) -> Answer:
    return _held(instance.ledger.extend(call.uid, call.id, **call.body))


def _take_over(instance: Instance, call: Call) -> Answer:
    return _held(instance.ledger.take_over(call.uid, call.id, **call.body))


def _held(hold: Hold, **more: Any) -> Answer:
    return Answer("done", {"run_id": hold.run_id, "fence": hold.fence, "expires_at": hold.expires_at, **more})


def _resolve(instance: Instance, call: Call) -> Answer:
    resolution: Resolution
    body = dict(call.body)
    if call.action == "capture":
        resolution = instance.ledger.capture(
            call.uid, call.id, body.pop("amount"), beside=lambda appended: _tallied(instance, appended), **body
        )
    elif call.action == "release":
        resolution = instance.ledger.release(call.uid, call.id, **body)
    else:
        resolution = instance.ledger.expire(call.uid, call.id)
    hold = resolution.hold
    return Answer(
        "done",
        {"state": hold.state, "seq": hold.entry_seq, "hash": hold.entry_hash, "replayed": resolution.replayed},
    )


def _tallied(instance: Instance, appended: Appended) -> list[Write]:
    """What features keep in the commit of a capture: here the sum of what was captured."""
    if appended.movement.kind != "capture":
        return []
    tally = instance.firestore.collection(TALLIES).document(appended.uid)
    return [Write.merge(tally, {"captured": firestore.Increment(appended.movement.amount)})]


def _checkpoint(instance: Instance, _: Call) -> Answer:
    try:
        return Answer("done", {"published": instance.publisher().run()})
    except google_exceptions.GoogleAPICallError:
        # The platform runs it again on schedule.
        return Answer("unanswered")


_ACTIONS: dict[str, Callable[[Instance, Call], Answer]] = {
    "credit": _post,
    "clawback": _post,
    "adjust": _post,
    "freeze": _post,
    "unfreeze": _post,
    "transfer": _transfer,
    "hold": _hold,
    "extend": _extend,
    "take_over": _take_over,
    "capture": _resolve,
    "release": _resolve,
    "expire": _resolve,
    "checkpoint": _checkpoint,
}
