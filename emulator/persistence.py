"""Rows that outlive the process: one SQLite file under `--data DIR`, or nothing at all.

Every service keeps its state in memory and writes each change through to rows `(service, key) -> bytes`, one atomic
`write` for each committed operation. SQLite's write-ahead log makes such a write survive `kill -9`.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (service TEXT, key TEXT, value BLOB, PRIMARY KEY (service, key)) WITHOUT ROWID
"""


class Store:
    """Key-value rows by service. Without a directory it stores nothing and loads nothing."""

    def __init__(self, directory: Path | None) -> None:
        self._connection: sqlite3.Connection | None = None
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            # The services share one event loop, but the loop may run in another thread than the one that opened it.
            self._connection = sqlite3.connect(
                directory / "firebase.sqlite3", isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_SCHEMA)

    @property
    def durable(self) -> bool:
        """True if what is written is kept; callers may skip encoding rows otherwise."""
        return self._connection is not None

    def rows(self, service: str) -> Iterator[tuple[str, bytes]]:
        """All rows of a service in the order of their keys (UTF-8 bytes)."""
        if self._connection is not None:
            yield from self._connection.execute(
                "SELECT key, value FROM rows WHERE service = ? ORDER BY key", (service,)
            ).fetchall()

    def write(self, service: str, rows: Mapping[str, bytes | None], *, drop_prefixes: Sequence[str] = ()) -> None:
        """Applies one change atomically: first drops every key that starts with a prefix, then puts the rows.

        A value of None deletes that key.
        """
        if self._connection is None:
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for prefix in drop_prefixes:
                self._connection.execute(
                    "DELETE FROM rows WHERE service = ? AND key >= ? AND key < ?",
                    (service, prefix, prefix + "\U0010ffff"),
                )
            for key, value in rows.items():
                if value is None:
                    self._connection.execute("DELETE FROM rows WHERE service = ? AND key = ?", (service, key))
                else:
                    self._connection.execute("REPLACE INTO rows VALUES (?, ?, ?)", (service, key, value))
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
