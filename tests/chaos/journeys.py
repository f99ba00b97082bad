"""Whole journeys on a bad day: from the client's write to the ledger, over the wire, and the audit of what is left.

One seed is one short life of two people: requests that answer, break, stay silent or are cancelled; a process of
functions that dies at a named point; deliveries that come twice, late or never; databases that fail, or whose answers
are lost; a clock that jumps. Afterwards everything has ended, and the books show it.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any
from uuid import uuid4

from chaos.auditor import Auditor, audit_books
from chaos.documents import from_client
from chaos.points import JOURNEY_POINTS
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.backend import SIGNING_KEY, TERMINAL, Backend
from support.provider import Behaviour, ScriptedProvider
from support.waiting import eventually

_REQUESTS = 5
_TOKENS = ["Hello", ", ", "world", "."]
_INPUT_PRICE, _OUTPUT_PRICE = 10, 40
_INPUT_TOKENS = 20
_FAULTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("trigger.request_created", ("duplicate", "delay", "drop", "error_after")),
    ("trigger.request_created", ("duplicate", "delay", "drop", "error_after")),
    ("trigger.account_written", ("duplicate", "delay", "drop")),
    ("firestore.Commit", ("error", "error_after", "abort")),
    ("firestore.Commit", ("error", "error_after", "abort")),
    ("firestore.BatchGetDocuments", ("error", "abort")),
    ("rtdb.PATCH", ("error", "error_after")),
)
_KINDS = ("plain", "plain", "plain", "uncounted", "breaking", "silent", "flaky", "slow", "cancelled", "malformed")
_ERRORS = {
    "INTERRUPTED",
    "PROVIDER_UNAVAILABLE",
    "INSUFFICIENT_CREDITS",
    "INVALID_ARGUMENT",
    "HOLD_EXPIRED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
}
_PUBLIC_KEY = Ed25519PrivateKey.from_private_bytes(base64.b64decode(SIGNING_KEY)).public_key()


@dataclass(slots=True)
class Asked:
    """A request, and how its provider behaves."""

    client: Any
    request_id: str
    kind: str
    body: dict[str, Any]

    @property
    def uid(self) -> str:
        uid: str = self.client.session.uid
        return uid


@dataclass(slots=True)
class JourneyOutcome:
    """What a seed did."""

    seed: int
    point: str
    requests: int = 0
    statuses: list[str] = field(default_factory=list)


class JourneyFailure(AssertionError):
    """A seed that found something; says what, how to replay it, and what was done."""

    def __init__(self, seed: int, problems: list[str], history: list[str]) -> None:
        found = "\n".join(f"  {problem}" for problem in problems[:12])
        told = "\n".join(f"  {line}" for line in history[-60:])
        super().__init__(
            f"journey {seed} found {len(problems)} problems:\n{found}\nWhat was done:\n{told}\n"
            f"Replay it with: make simulate JOURNEY={seed}"
        )
        self.seed = seed


def point_of(seed: int) -> str:
    """Where the functions die in this seed."""
    return JOURNEY_POINTS[seed % len(JOURNEY_POINTS)]


class Journey:
    """One seed on a stack of its own or one that other tests have used before."""

    def __init__(self, seed: int, backend: Backend, provider: ScriptedProvider) -> None:
        self._seed = seed
        self._random = Random(seed)
        self._backend = backend
        self._provider = provider
        self._asked: list[Asked] = []
        self._history: list[str] = []
        # Ids are new each time, so that a seed can be run twice on one stack; nothing is decided by them.
        self._nonce = uuid4().hex

    def run(self) -> JourneyOutcome:
        """Raises JourneyFailure."""
        backend, outcome = self._backend, JourneyOutcome(self._seed, point_of(self._seed))
        self._clients = [backend.welcomed(), backend.funded(self._random.choice((150_000, 400_000, 10**9)))]
        backend.idle()
        try:
            self._die_at(outcome.point)
            self._live()
            self._come_to_rest()
            problems = [*self._audit(), *self._ask_again()]
        except Exception as error:
            # Whoever uses this stack next finds it as it was.
            backend.clear_faults()
            backend.restart_functions()
            raise JourneyFailure(self._seed, [f"{type(error).__name__}: {error}"], self._history) from error
        if problems:
            raise JourneyFailure(self._seed, problems, self._history)
        outcome.requests = len(self._asked)
        outcome.statuses = [str(self._response(asked).get("status")) for asked in self._asked]
        return outcome

    # What happens.

    def _note(self, line: str) -> None:
        self._history.append(line)

    def _die_at(self, point: str) -> None:
        """The functions die at this point, with another request under way."""
        self._backend.restart_functions(CONCIERGE_FAULT=f"{point}:exit")
        self._note(f"functions die at {point}")
        self._ask("slow", self._clients[0])
        self._ask("plain", self._clients[0])
        self._backend.await_crash()

    def _live(self) -> None:
        planned = [
            ("trigger.request_created", ("duplicate",)),
            *self._random.sample(_FAULTS, self._random.randint(2, 4)),
        ]
        for target, actions in planned:
            fault = {"action": self._random.choice(actions), "skip": self._random.randint(0, 4)}
            if fault["action"] == "delay":
                fault["delay_ms"] = self._random.randint(50, 900)
            self._backend.fault(target, **fault)
            self._note(f"{target} {fault}")
        kill_before, jump_before = self._random.randrange(2 * _REQUESTS), self._random.randrange(2 * _REQUESTS)
        for number in range(_REQUESTS):
            if number == kill_before:
                self._backend.kill_functions()
                self._note("functions are killed")
                self._backend.restart_functions()
            if number == jump_before:
                seconds = self._random.choice((30, 90, 700))
                self._backend.advance_clock(seconds)
                self._note(f"clocks jump by {seconds} s")
            self._ask(self._random.choice(_KINDS), self._random.choice(self._clients))
            if self._random.random() < 0.3:
                self._repeat(self._random.choice(self._asked))
            if self._random.random() < 0.3:
                self._backend.idle()

    def _ask(self, kind: str, client: Any) -> None:
        marker = f"{self._nonce}-{len(self._asked)};"
        self._provider.on(marker, _behaviour(kind))
        body = {"kind": "chat", "conversationId": "c", "text": marker, "createdAt": 1, "options": {"maxTokens": 50}}
        if kind == "malformed":
            body["kind"] = "image"
        asked = Asked(client, f"{self._nonce}-{len(self._asked)}", kind, body)
        self._asked.append(asked)
        self._note(f"{asked.uid} asks {asked.request_id}, {kind}")
        client.put(f"requests/{asked.uid}/{asked.request_id}", body)
        if kind == "cancelled":
            self._cancel(asked)

    def _cancel(self, asked: Asked) -> None:
        """Past the rules: whether the request is still open is a race, which the backend has to bear."""
        self._backend.admin(f"cancellations/{asked.uid}/{asked.request_id}").set(True)

    def _repeat(self, asked: Asked) -> None:
        self._note(f"{asked.request_id} is written again")
        self._backend.admin(f"requests/{asked.uid}/{asked.request_id}").set(asked.body)

    def _come_to_rest(self) -> None:
        """Faults are over; the sweeper runs until everything has ended."""
        self._backend.idle()
        self._backend.clear_faults()
        self._sweep_until_quiet()
        self._backend.repair_mirrors()
        self._backend.idle()

    def _sweep_until_quiet(self) -> None:
        self._backend.idle()
        eventually(lambda: self._is_quiet() or self._backend.sweep(), f"the end of all requests of seed {self._seed}")
        self._backend.idle()

    def _is_quiet(self) -> bool:
        admin = self._backend.admin
        if admin("housekeeping/settlements").get() or any(admin(f"requests/{uid}").get() for uid in self._uids):
            return False
        return all(self._response(asked).get("status") in TERMINAL for asked in self._asked)

    # What has to be true then.

    @property
    def _uids(self) -> list[str]:
        return [client.session.uid for client in self._clients]

    def _response(self, asked: Asked) -> dict[str, Any]:
        return self._backend.response(asked.client, asked.request_id)

    def _audit(self) -> Iterator[str]:
        documents = from_client(self._backend.firestore, self._uids)
        lifetime = timedelta(minutes=10)
        auditor = Auditor(self._backend.stack.project, _PUBLIC_KEY, lifetime=lifetime, lifetime_max=lifetime)
        books = auditor.open_books(documents)
        yield from audit_books(books)
        for uid in self._uids:
            yield from (f"{uid} does not verify: {found}" for found in self._backend.ledger().verify(uid).findings)
            state, account = books[uid].states[-1], books[uid]
            if state.held:
                yield f"{uid} still has {state.held} held"
            shown = self._backend.admin(f"balances/{uid}").get() or {}
            expected = (state.posted, state.held, len(account.entries))
            if (shown.get("posted"), shown.get("held"), shown.get("seq")) != expected:
                yield f"{uid} is shown {shown}, and has {expected}"
            known = {asked.request_id for asked in self._asked if asked.uid == uid}
            strangers = [entry for entry in account.entries if entry.hold_id is not None and entry.hold_id not in known]
            if strangers:
                yield f"{uid} has entries of requests that nobody sent: {strangers}"
        for asked in self._asked:
            hold = documents.get(f"accounts/{asked.uid}/holds/{asked.request_id}")
            entries = books[asked.uid].by_hold(asked.request_id)
            for problem in _audit_request(asked, self._response(asked), hold, entries):
                yield f"{asked.kind} request {asked.request_id}: {problem}"
            calls = self._provider.calls[asked.body["text"]]
            if calls > 1 + (asked.kind == "flaky"):
                yield f"{asked.kind} request {asked.request_id}: its provider was called {calls} times"

    def _ask_again(self) -> Iterator[str]:
        """The same request again changes nothing; another one under the same id gets a conflict beside the outcome."""
        before = from_client(self._backend.firestore, self._uids)
        told = {asked.request_id: self._response(asked) for asked in self._asked}
        again = self._random.sample(self._asked, 2)
        for asked, other in zip(again, (False, True), strict=True):
            body = {**asked.body, "text": f"{asked.body['text']} and more"} if other else asked.body
            self._backend.admin(f"requests/{asked.uid}/{asked.request_id}").set(body)
        self._sweep_until_quiet()
        if from_client(self._backend.firestore, self._uids) != before:
            yield f"asking again has changed the ledger: {[asked.request_id for asked in again]}"
        for asked, other in zip(again, (False, True), strict=True):
            now, then = self._response(asked), told[asked.request_id]
            for name in ("status", "text", "cost", "receipt", "error"):
                if now.get(name) != then.get(name):
                    yield f"{asked.request_id} was {then.get(name)}, and after it was asked again {now.get(name)}"
            if other and asked.kind != "malformed" and "conflict" not in now:
                yield f"another body under {asked.request_id} met no conflict: {now}"


def _audit_request(asked: Asked, response: Mapping[str, Any], hold: Any, entries: list[Any]) -> Iterator[str]:
    """What the client was told against its hold and its entries."""
    status, error = response.get("status"), response.get("error") or {}
    if error and error.get("code") not in _ERRORS:
        yield f"it ended with {error}"
    if hold is None or hold["state"] == "refused":
        if entries:
            yield f"nothing was held, and there are {entries}"
        if status != "failed":
            yield f"nothing was held, and it is {status}"
        return
    if [entry.kind for entry in entries] not in (["hold", "capture"], ["hold", "release"], ["hold", "expire"]):
        yield f"its entries are {[entry.kind for entry in entries]}"
        return
    charged = entries[1].amount if entries[1].kind == "capture" else 0
    if (hold["captured"], hold["amount"]) != (charged, entries[0].amount):
        yield f"its hold says {dict(hold)}, its entries {entries}"
    cost = response.get("cost") or {}
    if (cost.get("chargedMicrocredits"), cost.get("heldMicrocredits")) != (charged, entries[0].amount):
        yield f"its client was told {cost}, its entries say {charged} of {entries[0].amount}"
    if response.get("receipt") != {"entrySeq": entries[1].seq, "hash": entries[1].hash}:
        yield f"its receipt is {response.get('receipt')}, its entry {entries[1]}"
    if status == "done" and not charged and asked.kind != "silent":
        yield "it is done, and was not charged"
    if error.get("code") in ("INTERRUPTED", "HOLD_EXPIRED") and charged:
        yield f"it ended as {error['code']}, and was charged {charged}"
    usage = response.get("usage") or {}
    if status == "done" and usage and not usage.get("estimated"):
        expected = _INPUT_TOKENS * _INPUT_PRICE + len(_behaviour(asked.kind).tokens) * _OUTPUT_PRICE
        if charged != expected:
            yield f"it was charged {charged}, and cost {expected}"


def _behaviour(kind: str) -> Behaviour:
    """The provider's answer to a request of this kind."""
    if kind == "uncounted":
        return Behaviour(usage=None)
    if kind == "breaking":
        return Behaviour(die_after=2)
    if kind == "silent":
        return Behaviour(tokens=[])
    if kind == "flaky":
        return Behaviour(statuses=[500])
    if kind in ("slow", "cancelled"):
        return Behaviour(tokens=_TOKENS * 3, token_seconds=0.04)
    return Behaviour()
