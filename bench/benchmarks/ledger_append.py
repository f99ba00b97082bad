"""One entry of the ledger over a bare Firestore transaction.

Measured: Ledger.credit, which reads the head and the operation, and creates the entry and the operation, and moves the
head. Floor: a transaction of the same client that reads two documents in one call and writes three of the same size,
without any thought. Both against one embedded Firestore without functions, one thread, accounts of their own, in turns.
Budget: at least 0.8 times the floor's rate.
"""

import base64
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import uuid4

from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from bench.environment import Bench, service, variables
from bench.rows import Budget, Row
from bench.series import interleaved, timed
from concierge.ledger.repository import LedgerRepository
from concierge.ledger.service import Ledger
from concierge.ledger.signatures import Keyring

NAME = "ledger_append"
_PROJECT = "demo-concierge"
_KEY = base64.b64encode(bytes(range(32))).decode()


def measure(bench: Bench) -> list[Row]:
    with service("bench.firestore_process") as port, variables(_environment(port)):
        client = firestore.Client(project=_PROJECT, credentials=AnonymousCredentials())
        try:
            pairs = interleaved(
                _appends(client),
                _bare_transactions(client),
                rounds=bench.rounds(400, 80),
                seconds_max=bench.seconds_max,
                warm_up=20,
            )
        finally:
            client.close()
    return [
        Row(
            name=NAME,
            title="ledger append, rate",
            unit="ms",
            measured=pairs.measured,
            floor=pairs.floor,
            floor_title="transaction, 2 reads and 3 writes",
            figure=pairs.inverse_ratios.median,
            figure_unit="x",
            budget=Budget(0.8, "at least"),
            notes=(f"  {1000 / pairs.measured.median:.0f} appends a second, one thread",),
            details={"pairwise": pairs.inverse_ratios.as_json()},
        )
    ]


def _environment(port: int) -> dict[str, str]:
    # Without the second one, gRPC remarks on standard error that the server has gone, which it is meant to.
    return {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{port}", "GRPC_VERBOSITY": "ERROR"}


def _appends(client: firestore.Client) -> Callable[[], float]:
    ledger = Ledger(
        LedgerRepository(client),
        Keyring.from_text(_KEY, []),
        ledger_id=_PROJECT,
        hold_lifetime=timedelta(minutes=10),
    )
    uid, numbers = uuid4().hex, count(1)

    def append() -> float:
        op_id = f"bench-{next(numbers)}"
        return timed(lambda: ledger.credit(uid, op_id=op_id, kind="grant", amount=1_000_000, counter="expense:bonus"))

    return append


def _bare_transactions(client: firestore.Client) -> Callable[[], float]:
    """Documents of the ledger's sizes, at places of the same depth."""
    account = client.collection("bare").document(uuid4().hex)
    numbers = count(1)
    head = {"seq": 0, "headHash": "0" * 64, "posted": 0, "held": 0, "debt": 0, "frozen": False, "epoch": 1}
    entry = {"content": b"x" * 420, "hash": "0" * 64, "keyId": "0" * 16, "signature": b"x" * 64}
    operation = {"requestHash": "0" * 64, "seq": 0, "hash": "0" * 64, "amount": 1_000_000}

    def transact() -> float:
        number = next(numbers)
        operation_reference = account.collection("ops").document(f"bench-{number}")
        entry_reference = account.collection("entries").document(f"{number:012d}")

        def body(transaction: Any) -> None:
            for snapshot in client.get_all([account, operation_reference], transaction=transaction):
                snapshot.to_dict()
            transaction.create(entry_reference, entry)
            transaction.set(account, {**head, "seq": number})
            transaction.create(operation_reference, {**operation, "seq": number})

        return timed(lambda: firestore.transactional(body)(client.transaction()))

    return transact
