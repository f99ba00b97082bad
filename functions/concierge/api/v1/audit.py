"""The audit of a range of time: of one account for its owner, of any or of all for administrators."""

from typing import Annotated, Any, Literal

from flask import Blueprint, Response, jsonify
from flask.typing import ResponseReturnValue
from pydantic import Field

from concierge.api.parameters import Digits, Moment
from concierge.api.support import Schema, caller, decode_cursor, deps, encode_cursor, is_document_id, query, subject
from concierge.errors import InvalidArgument
from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS
from concierge.kit.timestamps import rfc3339
from concierge.ledger.audit import AuditPage, AuditPlace, Period
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

PAGE_MAX = 100

blueprint = Blueprint("audit", __name__)


class AuditQuery(Schema):
    uid: str | None = None
    from_: Annotated[Moment, Field(alias="from")]
    to: Moment
    format: Literal["json", "csv"] = "json"
    limit: Annotated[Digits, Field(ge=1, le=PAGE_MAX)] = 20
    cursor: str | None = None


@blueprint.get("/credits/audit")
def audit() -> ResponseReturnValue:
    """One page: parts of accounts and the page's totals, which add up over all pages. `limit` is of accounts; a long
    account takes several pages. CSV names the next page in the header X-Next-Cursor."""
    asked = query(AuditQuery)
    known = caller()
    uid = None if asked.uid is None and known.is_admin else subject(asked.uid)
    if asked.from_ > asked.to:
        raise InvalidArgument("from", "from: must not be later than to")
    period = Period(asked.from_, asked.to)
    scope = [rfc3339(asked.from_), rfc3339(asked.to), uid or ""]
    place = _place(asked.cursor, scope)
    page = deps().auditor().page(period, uid, place, limit=asked.limit)
    following = _cursor(page.following, scope) if page.following is not None else None
    if asked.format == "csv":
        return _csv(page, following)
    return jsonify(
        format=AUDIT_FORMAT,
        range=period_json(period),
        accounts=[account_json(part) for part in page.parts],
        totals=totals_json(page.totals),
        next=following,
    )


def _csv(page: AuditPage, following: str | None) -> Response:
    rows = [CSV_COLUMNS, *(row for part in page.parts for row in account_rows(part)), *totals_rows(page.totals)]
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"'}
    if following is not None:
        headers["X-Next-Cursor"] = following
    return Response(csv_text(rows), content_type="text/csv; charset=utf-8; header=present", headers=headers)


def _cursor(place: AuditPlace, scope: list[str]) -> str:
    """It holds the question too: the parts of another range would not add up with these."""
    value = {"after": place.after, "uid": place.uid, "first": place.first, "last": place.last, "scope": scope}
    return encode_cursor("audit", value)


def _place(cursor: str | None, scope: list[str]) -> AuditPlace | None:
    if cursor is None:
        return None

    def check(value: dict[str, Any]) -> bool:
        texts = all(value[name] is None or is_document_id(value[name]) for name in ("after", "uid"))
        # Nobody reads another account than the one that was asked about.
        own = value["uid"] == scope[2] if scope[2] else True
        numbers = all(type(value[name]) is int and 0 <= value[name] < AMOUNT_MAX_MICROCREDITS for name in _NUMBERS)
        return value["scope"] == scope and texts and own and numbers and value["first"] <= value["last"]

    value = decode_cursor("audit", cursor, check)
    return AuditPlace(value["after"], value["uid"], value["first"], value["last"])


_NUMBERS = ("first", "last")
