"""The independent auditor: from what was sent, what was answered and what is stored, it says what is wrong.

It shares no code with the ledger: entries are replayed by rules of its own (books.py), and what each call may have
come to follows from what its caller knows (audit_postings.py, audit_holds.py). A lost answer leaves both possible.

    nothing lost        an acknowledged operation is in its account exactly once, under its own body
    nothing twice       each operation has one entry, each hold one placing and one resolution
    nothing invented    each entry, record and hold is what some call asked for, while that call ran
    one outcome         same id and body, same answer; another body, a conflict; what was refused stays refused
    no reason, no error each refusal, conflict and expiry had its cause while the call ran
    no overdraft        only a clawback takes more than is available
    late is late        a capture or release lies before the hold's end, an expiry behind it
    fences              a run that was taken over resolves and extends nothing
    double entry        each account and its counters come to zero, and so do all transfers
    beside              what is kept in the commit of an entry is kept once, and with it
    settled             at the end nothing is held
"""

from collections.abc import Iterator
from datetime import timedelta

from chaos.audit_holds import HoldAudit
from chaos.audit_postings import audit_postings
from chaos.books import Books
from chaos.calls import Call
from chaos.documents import Documents
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Auditor:
    """Audits one ledger. `lifetime` and `lifetime_max` are those of its holds."""

    def __init__(
        self, ledger_id: str, public_key: Ed25519PublicKey, *, lifetime: timedelta, lifetime_max: timedelta
    ) -> None:
        self._ledger_id = ledger_id
        self._public_key = public_key
        self._holds = HoldAudit(lifetime, lifetime_max)

    def open_books(self, documents: Documents) -> dict[str, Books]:
        """Every account, replayed."""
        uids = sorted({path.split("/")[1] for path in documents if path.startswith("accounts/")})
        return {uid: Books(uid, documents, self._ledger_id, self._public_key) for uid in uids}

    def audit(self, calls: list[Call], documents: Documents, *, is_settled: bool) -> list[str]:
        """All problems. With `is_settled`, nothing is under way any more, and every hold's time was up and swept."""
        books = self.open_books(documents)
        for call in calls:
            for uid in call.accounts:
                if uid not in books:
                    books[uid] = Books(uid, {}, self._ledger_id, self._public_key)
        problems = [*audit_books(books), *_audit_tallies(books, documents)]
        if not problems:
            # What follows presupposes a sound chain.
            problems += audit_postings(calls, books, documents)
            problems += self._holds.audit(calls, books, documents)
        if is_settled:
            problems += _audit_settled(books, documents)
        return problems


def audit_books(books: dict[str, Books]) -> Iterator[str]:
    """Each account by itself, and all together."""
    for account in books.values():
        yield from account.problems
    states = [account.states[-1] for account in books.values()]
    total = sum(state.posted + sum(state.counters.values()) for state in states)
    transfers = sum(state.counters.get("account", 0) for state in states)
    if total or transfers:
        yield f"over all accounts there remain {total}, and {transfers} of transfers"


def _audit_tallies(books: dict[str, Books], documents: Documents) -> Iterator[str]:
    for uid, account in books.items():
        kept = documents.get(f"tallies/{uid}", {}).get("captured", 0)
        captured = sum(entry.amount for entry in account.entries if entry.kind == "capture")
        if kept != captured:
            yield f"beside the entries of {uid} {kept} was kept as captured, and {captured} was"


def _audit_settled(books: dict[str, Books], documents: Documents) -> Iterator[str]:
    for uid, account in books.items():
        if account.states[-1].held:
            yield f"{uid} still has {account.states[-1].held} held: {dict(account.states[-1].holds)}"
    for path, document in documents.items():
        if "/holds/" in path and document["state"] == "held":
            yield f"{path} is still held"
