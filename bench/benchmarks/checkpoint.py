"""One checkpoint over 10,000 accounts that have changed.

Measured: CheckpointPublisher.run from the change feed to the signed note, where every account has a leaf already: the
heads are read, the leaves before them are read, the leaf file and the tiles are written, the new leaves are written.
Floor: as many bare reads and writes of documents of the same sizes, with the same client, batches and threads, and
nothing else. Both against one embedded Firestore without functions and one embedded Cloud Storage, in turns.
Budget: under 5 s on 2 cores.
"""

import base64
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import uuid4

from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.storage import Client as StorageClient

from bench.environment import Bench, service, variables
from bench.rows import Budget, Row
from bench.series import interleaved, timed
from concierge import paths
from concierge.kit.objects import ObjectStore
from concierge.ledger.changes import ChangeFeed
from concierge.ledger.checkpoints.leaves import Leaf, LeafLine
from concierge.ledger.checkpoints.notes import Signer
from concierge.ledger.checkpoints.publisher import CheckpointPublisher
from concierge.ledger.checkpoints.receipts import origin_of
from concierge.ledger.checkpoints.repository import CheckpointRepository
from concierge.ledger.repository import account_to_document
from concierge.ledger.transfers import Head

NAME = "checkpoint"
_PROJECT = "demo-concierge"
_KEY = base64.b64encode(bytes(range(32))).decode()
_ACCOUNTS = 10_000
_BATCH = 400
_THREADS = 4


def measure(bench: Bench) -> list[Row]:
    with (
        service("bench.firestore_process") as firestore_port,
        service("bench.storage_process") as storage_port,
        variables(_environment(firestore_port, storage_port)),
    ):
        client = firestore.Client(project=_PROJECT, credentials=AnonymousCredentials())
        try:
            pairs = interleaved(
                _checkpoints(client),
                _bare_documents(client),
                rounds=bench.rounds(3, 1),
                seconds_max=2 * bench.seconds_max,
            )
        finally:
            client.close()
    return [
        Row(
            name=NAME,
            title=f"checkpoint of {_ACCOUNTS:,} accounts",
            unit="ms",
            measured=pairs.measured,
            floor=pairs.floor,
            floor_title=f"{2 * _ACCOUNTS:,} documents read, {_ACCOUNTS:,} written",
            figure=pairs.measured.median / 1000,
            figure_unit="s",
            budget=Budget(5, "at most"),
            notes=(f"  {pairs.ratios.median:.2f} x the bare reads and writes",),
            details={"accounts": _ACCOUNTS, "pairwise": pairs.ratios.as_json()},
        )
    ]


def _environment(firestore_port: int, storage_port: int) -> dict[str, str]:
    return {
        "FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{firestore_port}",
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{storage_port}",
        # Without it gRPC remarks on standard error that the server has gone, which it is meant to.
        "GRPC_VERBOSITY": "ERROR",
    }


def _checkpoints(client: firestore.Client) -> Callable[[], float]:
    """Each call moves all accounts on, which takes no time, and then measures their checkpoint."""
    bucket = StorageClient(project=_PROJECT, credentials=AnonymousCredentials()).bucket(f"{_PROJECT}.appspot.com")
    publisher = CheckpointPublisher(
        ChangeFeed(client),
        CheckpointRepository(client),
        ObjectStore(bucket),
        Signer(origin_of(_PROJECT), _KEY),
        [],
        ledger_id=_PROJECT,
    )
    uids = [uuid4().hex[:28] for _ in range(_ACCOUNTS)]
    seqs = count(1)

    def move() -> None:
        seq = next(seqs)
        head = Head(
            seq=seq, hash=f"{seq:064x}", posted=seq, counters={"expense:bonus": -1000, "revenue:chat": 1000 - seq}
        )
        accounts = client.collection(paths.ACCOUNTS)
        _write(client, [(accounts.document(uid), account_to_document(uid, head)) for uid in uids])

    def checkpoint() -> float:
        move()
        published: list[int] = []
        milliseconds = timed(lambda: published.append(publisher.run()))
        assert published == [1], "one checkpoint"
        return milliseconds

    return checkpoint


def _bare_documents(client: firestore.Client) -> Callable[[], float]:
    """Documents of the sizes of accounts and leaves, at places of the same depth."""
    counters = {"expense:bonus": -1_000_000_000, "revenue:chat": 1_000_000}
    head = {**account_to_document("x", Head(hash="0" * 64, counters=counters)), "changedAt": datetime.now(UTC)}
    line = LeafLine(Leaf(_PROJECT, "x" * 28, 1, "0" * 64), 999_000_000, counters)
    leaf = {"leaf": f"1 1 {line.to_bytes().decode()}"}
    heads = [client.collection("bareAccounts").document(uuid4().hex[:28]) for _ in range(_ACCOUNTS)]
    leaves = [client.collection("bareLeaves").document(uuid4().hex[:28]) for _ in range(_ACCOUNTS)]
    _write(client, [(reference, head) for reference in heads])
    _write(client, [(reference, leaf) for reference in leaves])

    def read_and_write() -> float:
        def action() -> None:
            _read(client, heads)
            _read(client, leaves)
            _write(client, [(reference, leaf) for reference in leaves])

        return timed(action)

    return read_and_write


def _read(client: firestore.Client, references: Sequence[Any]) -> None:
    def read(begin: int) -> None:
        for snapshot in client.get_all(references[begin : begin + _BATCH]):
            snapshot.to_dict()

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(read, range(0, len(references), _BATCH)))


def _write(client: firestore.Client, documents: Sequence[tuple[Any, dict[str, Any]]]) -> None:
    def write(begin: int) -> None:
        batch = client.batch()
        for reference, document in documents[begin : begin + _BATCH]:
            batch.set(reference, document)
        batch.commit()

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(write, range(0, len(documents), _BATCH)))
