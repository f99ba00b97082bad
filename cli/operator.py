"""`concierge ledger ...`: with an operator's credentials, straight on Firestore."""

import getpass
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from cli.guard import Misuse, guarded
from concierge import wiring
from concierge.credits.exports.service import PHASES
from concierge.errors import AccountFrozen, Conflict, NotFound
from concierge.kit.microcredits import show
from concierge.ledger.audit import Period
from concierge.ledger.audit_report import (
    AUDIT_FORMAT,
    CSV_COLUMNS,
    account_json,
    account_rows,
    csv_text,
    period_json,
    totals_json,
    totals_rows,
)
from concierge.ledger.audit_sums import AccountAudit, Totals
from concierge.ledger.transfers import Head

_ACCOUNTS_A_PAGE = 100
_ROWS_A_PAGE = 500


def verify(uid: str) -> int:
    """Replays one account, and compares it with what checkpoints have published of it; 0 if it verifies."""

    def run() -> int:
        verification = wiring.ledger().verify(uid, wiring.anchors(uid))
        head = verification.head
        print(f"{uid}: {verification.entries} entries, posted {show(head.posted)}, held {show(head.held)}")
        for finding in verification.findings:
            print(f"entry {finding.seq}: {finding.code}: {finding.message}")
        print("verified" if verification.verified else "NOT VERIFIED")
        return 0 if verification.verified else 1

    return guarded("verify", run)


def audit(since: str | None, until: str | None, uid: str | None, *, as_csv: bool, out: str | None) -> int:
    """Audits a range of time over one account or all, to a file or standard output; 0 if everything is sound, 1 if
    not, 2 if it could not be made."""

    def run() -> int:
        period = Period(_moment("--from", since) if since else None, _moment("--to", until) if until else _now())
        if period.since is not None and period.since > period.until:
            raise Misuse("--from must not be later than --to")
        with _output(out) as file:
            totals = Totals()
            accounts = _accounts(period, uid, totals)
            _write_csv(file, accounts, totals) if as_csv else _write_json(file, period, accounts, totals)
        return 0 if totals.sound else 1

    return guarded("audit", run)


def export(uid: str, out: str | None) -> int:
    """Writes everything that is held about an account as one `concierge.export.v1`; 2 if it could not be made."""

    def run() -> int:
        pages = wiring.exports().pages(uid, limit=_ROWS_A_PAGE)
        first = next(pages)
        with _output(out) as file:
            rest = {name: value for name, value in first.items() if name not in PHASES}
            file.write(json.dumps({**rest, "cursor": None, "next": None}, ensure_ascii=False)[:-1])
            _write_rows(file, chain([first], pages))
            file.write("}\n")
        return 0

    return guarded("export", run)


def set_frozen(uid: str, reason: str, *, frozen: bool) -> int:
    """Freezes or unfreezes an account, in the name of whoever is logged in; 1 if it is so already or is not there."""
    act = "freeze" if frozen else "unfreeze"

    def run() -> int:
        if not reason.strip():
            raise Misuse("--reason says why")
        operation = wiring.ledger().freeze if frozen else wiring.ledger().unfreeze
        try:
            operation(uid, op_id=f"{act}:cli:{uuid4().hex}", reason=reason, actor=f"operator:{getpass.getuser()}")
        except (NotFound, Conflict, AccountFrozen) as error:
            print(f"concierge ledger {act}: {error.message}", file=sys.stderr)
            return 1
        head = wiring.ledger().head(uid) or Head()
        wiring.mirror().apply(uid, head)
        print(f"{uid}: {'frozen' if head.frozen else 'not frozen'}, entry {head.seq}")
        return 0

    return guarded(act, run)


def _accounts(period: Period, uid: str | None, totals: Totals) -> Iterator[AccountAudit]:
    """The whole reports of all accounts, one at a time; `totals` has the sums when they have all been taken."""
    joined: AccountAudit | None = None
    for page in wiring.auditor().pages(period, uid, limit=_ACCOUNTS_A_PAGE):
        for part in page.parts:
            totals.add(part)
            if joined is None:
                joined = part
            else:
                joined.join(part)
            if joined.is_last:
                yield joined
                joined = None


def _write_rows(file: IO[str], pages: Iterable[dict[str, Any]]) -> None:
    """The lists of an export. They come one after the other, so that no more than a page is ever held."""
    opened: list[str] = []
    separator = ""
    for page in pages:
        for name in PHASES:
            if name not in opened and (page[name] or not opened):
                separator = _open_lists(file, opened, name)
            for row in page[name]:
                file.write(f"{separator}\n{json.dumps(row, ensure_ascii=False)}")
                separator = ","
    _open_lists(file, opened, None)


def _open_lists(file: IO[str], opened: list[str], name: str | None) -> str:
    """Ends the list before, and begins the lists up to `name`, or all that are left; the separator of its first row."""
    wanted = PHASES[: PHASES.index(name) + 1] if name is not None else PHASES
    for each in wanted:
        if each not in opened:
            file.write(f'{"]" if opened else ""}, "{each}": [')
            opened.append(each)
    file.write("" if name is not None else "]")
    return ""


def _write_csv(file: IO[str], accounts: Iterator[AccountAudit], totals: Totals) -> None:
    file.write(csv_text([CSV_COLUMNS]))
    for account in accounts:
        file.write(csv_text(account_rows(account)))
    file.write(csv_text(totals_rows(totals)))


def _write_json(file: IO[str], period: Period, accounts: Iterator[AccountAudit], totals: Totals) -> None:
    file.write(f'{{"format": {json.dumps(AUDIT_FORMAT)}, "range": {json.dumps(period_json(period))}, "accounts": [')
    separator = ""
    for account in accounts:
        file.write(f"{separator}\n{json.dumps(account_json(account), ensure_ascii=False)}")
        separator = ","
    file.write(f'], "totals": {json.dumps(totals_json(totals))}, "next": null}}\n')


@contextmanager
def _output(out: str | None) -> Iterator[IO[str]]:
    """A file that is there whole or not at all, or standard output."""
    if out is None:
        yield sys.stdout
        return
    target = Path(out)
    unfinished = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        # An export is personal data: for its owner's eyes.
        unfinished.touch(mode=0o600)
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            yield file
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _moment(option: str, text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Misuse(f"{option} is a date or an RFC 3339 time, not {text!r}") from None
    # A date, or a time without a zone, is UTC.
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _now() -> datetime:
    return datetime.now(UTC)
