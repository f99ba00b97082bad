"""What an audit adds up, and what its CSV may hold. Pure."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concierge.ledger.audit_report import CSV_COLUMNS, account_rows, csv_text, totals_json
from concierge.ledger.audit_sums import AccountAudit, Balance, OpenHold, OpenHolds, Tally, Totals
from concierge.ledger.entries import StoredEntry
from concierge.ledger.verification import Finding


def part(uid: str = "u", **fields: Any) -> AccountAudit:
    given_fields = {
        "is_first": True,
        "is_last": True,
        "numbers": 0,
        "opening": Balance(),
        "closing": Balance(),
        "findings": [],
        "covered_to": 0,
        **fields,
    }
    return AccountAudit(uid=uid, **given_fields)


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@given(text=st.text())
def test_no_text_is_a_formula_and_none_is_lost(text: str) -> None:
    holds = OpenHolds(Tally(1, 5), 0, [OpenHold(text, 1, -5, text)])
    findings = [Finding(1, "MALFORMED", text)]
    rows = list(account_rows(part(text, findings=findings, open_holds=holds, counters={text: Tally(1, -7)})))
    read = cells(csv_text(rows))
    assert len(read) == len(rows)
    for shown, row in zip(read, rows, strict=True):
        for cell, value in zip(shown, row, strict=True):
            if isinstance(value, str):
                assert cell.removeprefix("'") == value.removeprefix("'")
                assert cell.lstrip(" ")[:1] not in (*"=+-@\t\r\n",)
            else:
                assert cell == ("" if value is None else str(value))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "  =1", "=cmd|' /C calc'!A0"])
def test_a_formula_is_told_as_text(text: str) -> None:
    [[cell, number]] = cells(csv_text([(text, -1)]))
    assert cell == f"'{text}"
    assert number == "-1"


def test_every_row_has_every_column() -> None:
    account = part(findings=[Finding(1, "FORKED", "m")], open_holds=OpenHolds(Tally(), 5, []))
    assert {len(row) for row in account_rows(account)} == {len(CSV_COLUMNS)}


@pytest.mark.parametrize(
    "content", [b"\xff", b"[]", b"{}", b"[" * 100_000, b'{"kind":"hold","amount":"5","counter":"c"}']
)
def test_what_cannot_be_read_is_counted_and_in_no_sum(content: bytes) -> None:
    account = part()
    account.take(StoredEntry(content, "h", "k", b"", 1))
    assert (account.entries, account.unreadable, account.kinds, account.counters) == (1, 1, {}, {})
    totals = Totals()
    totals.add(account)
    assert totals_json(totals)["sound"] is False


@pytest.mark.parametrize(
    "account",
    [
        part(findings=[Finding(1, "HASH_MISMATCH", "m")]),
        part(closing=Balance(5)),
        part(counters={"c": Tally(1, 1)}),
    ],
)
def test_what_does_not_add_up_is_not_sound(account: AccountAudit) -> None:
    totals = Totals()
    totals.add(part(opening=Balance(4), closing=Balance(3), counters={"c": Tally(1, 1)}))
    assert totals.sound
    totals.add(account)
    assert not totals.sound
