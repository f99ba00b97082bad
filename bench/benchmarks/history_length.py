"""What an operation asks of Firestore on an account of 10 entries and on one of 100,000.

Measured: documents read and written, as Cloud Firestore bills them, counted by an interceptor of the embedded server.
Floor: the same operation on the short account. The long account is loaded as documents, with the entries that the
ledger would have made. The sweep looks for due holds among few open ones and among many; analytics are of a whole year,
with the comparison of costs and ledger in them. Budget: the same number.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from bench import trace
from bench.benchmarks.verify import KEYRING, LEDGER, UID, chain
from bench.environment import Bench, service, traced, variables
from bench.rows import Budget, Row
from bench.series import Series
from concierge.credits.usage import cells
from concierge.credits.usage.analytics import last_days
from concierge.credits.usage.reconciler import Reconciler
from concierge.credits.usage.repository import UsageRepository, usage_reference
from concierge.credits.usage.rollup import UsageRollup
from concierge.credits.usage.service import Usage
from concierge.ledger.changes import ChangeFeed
from concierge.ledger.repository import LedgerRepository, account_to_document, entry_to_document
from concierge.ledger.service import Ledger

NAME = "history_length"
_BATCH = 500
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Account:
    """A client of a Firestore with one account in it."""

    client: firestore.Client
    ledger: Ledger
    usage: Usage
    marks: Path

    def documents(self, operation: "Callable[[_Account], Any]") -> tuple[int, int]:
        """(reads, writes) of one operation."""
        start_ns = time.monotonic_ns()
        operation(self)
        return trace.documents(trace.between(trace.read_marks(self.marks), start_ns, time.monotonic_ns()))


_OPERATIONS: dict[str, Callable[[_Account], Any]] = {
    "append": lambda account: account.ledger.credit(
        UID, op_id=uuid4().hex, kind="grant", amount=1_000_000, counter="expense:bonus"
    ),
    "balance": lambda account: account.ledger.head(UID),
    "analytics": lambda account: account.usage.analytics(UID, last_days(account.usage.today(), 366), "day"),
    "sweep": lambda account: account.ledger.due_holds(500),
}


def measure(bench: Bench) -> list[Row]:
    long_pairs = bench.rounds(50_000, 500)
    short, long = _counts(5), _counts(long_pairs)
    rows = []
    for name in _OPERATIONS:
        totals = [float(sum(counts[name])) for counts in (long, short)]
        rows.append(
            Row(
                name=f"{NAME}_{name}",
                title=f"{name}, documents at {2 * long_pairs + 1:,} entries",
                unit="documents",
                measured=Series.of(totals[:1]),
                floor=Series.of(totals[1:]),
                floor_title="at 11 entries",
                figure=totals[0] / totals[1],
                figure_unit="x",
                budget=Budget(1.0, "at most"),
                notes=(f"  {long[name][0]} reads and {long[name][1]} writes; {short[name][0]} and {short[name][1]}",),
            )
        )
    return rows


def _counts(pairs: int) -> dict[str, tuple[int, int]]:
    """(reads, writes) of each operation on an account with this many holds and captures behind it."""
    with TemporaryDirectory() as folder:
        marks = Path(folder) / "marks"
        with service("bench.firestore_process", traced(marks)) as port, variables(_environment(port)):
            client = firestore.Client(project=LEDGER, credentials=AnonymousCredentials())
            ledger = Ledger(LedgerRepository(client), KEYRING, ledger_id=LEDGER, hold_lifetime=timedelta(minutes=10))
            try:
                _load(client, pairs)
                repository = UsageRepository(client)
                reconciler = Reconciler(repository, LedgerRepository(client))
                UsageRollup(repository, ChangeFeed(client), reconciler).run()
                account = _Account(client, ledger, Usage(repository, reconciler), marks)
                return {name: account.documents(operation) for name, operation in _OPERATIONS.items()}
            finally:
                client.close()


def _load(client: firestore.Client, pairs: int) -> None:
    """The account's documents, what was used of it in a year, and as many open holds of others, one of them due."""
    entries, head = chain(pairs)
    account = client.collection("accounts").document(UID)
    account.set(account_to_document(UID, head))
    now = datetime.now(UTC)
    holds = client.collection("accounts").document("somebody").collection("holds")
    writes = [
        (account.collection("entries").document(f"{seq:012d}"), entry_to_document(entry))
        for seq, entry in enumerate(entries, start=1)
    ]
    writes += [(holds.document(f"open-{number}"), _hold(now + _DAY)) for number in range(pairs)]
    writes.append((holds.document("due"), _hold(now - _DAY)))
    writes += [
        (usage_reference(client, UID, month), _month(min(pairs, 28)))
        for month in cells.months_between(now.date() - 365 * _DAY, now.date())
    ]
    for start in range(0, len(writes), _BATCH):
        batch = client.batch()
        for reference, document in writes[start : start + _BATCH]:
            batch.create(reference, document)
        batch.commit()


def _month(days: int) -> dict[str, Any]:
    """Some requests on each of these days."""
    counters = {"requests": 9, "done": 9, "outputTokens": 900, "costMicrocredits": 90_000}
    return cells.to_document({(f"{day:02d}", "chat", "m"): counters for day in range(1, days + 1)})


def _hold(expires_at: datetime) -> dict[str, Any]:
    return {
        "state": "held",
        "requestHash": "0" * 64,
        "runId": "run",
        "amount": 1,
        "placedAt": expires_at - timedelta(minutes=10),
        "expiresAt": expires_at,
        "captured": 0,
        "note": None,
        "entrySeq": 1,
        "entryHash": "0" * 64,
        "resolvedBy": None,
        "refusal": None,
    }


def _environment(port: int) -> dict[str, str]:
    # Without the second one, gRPC remarks on standard error that the server has gone, which it is meant to.
    return {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{port}", "GRPC_VERBOSITY": "ERROR"}
