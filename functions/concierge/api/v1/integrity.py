"""Is the ledger what it should be? For the owner of an account, and what is done about it, for administrators."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from pydantic import Field

from concierge.api.idempotency import idempotent
from concierge.api.parameters import Digits
from concierge.api.support import (
    Schema,
    caller,
    check_administrator,
    decode_cursor,
    deps,
    encode_cursor,
    query,
    require_admin,
    subject,
)
from concierge.errors import NotFound
from concierge.ledger.integrity.repair import Repair
from concierge.ledger.integrity.replay import Damage
from concierge.ledger.json_forms import head_to_json

CHAIN_PAGE_MAX = 5_000
ALERTS_PAGE_MAX = 100
_ALERT_ID = re.compile(r"[0-9a-f]{32}")

blueprint = Blueprint("integrity", __name__)


class ChainQuery(Schema):
    uid: str | None = None
    limit: Annotated[Digits, Field(ge=1, le=CHAIN_PAGE_MAX)] = 1_000
    cursor: Annotated[str, Field(min_length=1)] | None = None


class AlertsQuery(Schema):
    state: Literal["open", "resolved"] = "open"
    limit: Annotated[Digits, Field(ge=1, le=ALERTS_PAGE_MAX)] = 50
    cursor: str | None = None


class Nothing(Schema):
    """No parameters."""


class RepairBody(Schema):
    """Unless `apply`, only what would be done is told."""

    reason: Annotated[str, Field(strict=True, min_length=1, max_length=500)]
    apply: Annotated[bool, Field(strict=True)] = False


@blueprint.get("/credits/validate-chain")
def validate_chain() -> ResponseReturnValue:
    """`{uid, verified, complete, findings: [{uid, seq, code, message}], entries, after, head: {...}, next}`: the next
    part of an account's entries, verified; the account verifies if all parts do and the last one is complete."""
    asked = query(ChainQuery)
    uid = subject(asked.uid)
    page = deps().integrity().verify_page(uid, asked.cursor, asked.limit)
    head = page.head
    return jsonify(
        uid=uid,
        verified=page.verified,
        complete=page.complete,
        findings=[_damage_json(damage) for damage in page.damages],
        entries=page.entries,
        after=page.after,
        head=head_to_json(head),
        next=page.next,
    )


@blueprint.get("/accounts/<uid>/integrity")
def account_report(uid: str) -> ResponseReturnValue:
    """`{uid, quarantined, report, repairs}`, for administrators: what was found wrong last, and who repaired it."""
    require_admin()
    found = deps().integrity().report(subject(uid))
    report = found["report"]
    return jsonify(
        uid=uid,
        quarantined=found["quarantined"],
        report=_json(report) if report is not None else None,
        repairs=[_json(repair) for repair in found["repairs"]],
    )


@blueprint.post("/accounts/<uid>/repair")
@idempotent(RepairBody, check=check_administrator)
def repair(body: RepairBody, key: str, uid: str) -> ResponseReturnValue:
    """Repairs an account, or tells what a repair would do; for administrators."""
    if body.apply:
        outcome = deps().integrity().repair(uid, actor=caller().uid, reason=body.reason)
    else:
        outcome = deps().integrity().plan_repair(uid)
    return jsonify(_repair_json(outcome))


@blueprint.get("/integrity/alerts")
def alerts() -> ResponseReturnValue:
    """`{alerts: [...], next}` in one state, newest first, for administrators."""
    require_admin()
    asked = query(AlertsQuery)
    after = None
    if asked.cursor is not None:
        value = decode_cursor("alerts", asked.cursor, _is_place)
        after = (datetime.fromisoformat(value["at"]), value["id"])
    found = deps().integrity().alerts.listed(asked.state, asked.limit + 1, after)
    page, following = found[: asked.limit], None
    if len(found) > asked.limit:
        following = encode_cursor("alerts", {"at": page[-1]["at"].isoformat(), "id": page[-1]["id"]})
    return jsonify(alerts=[_json(alert) for alert in page], next=following)


def _check_alert(body: Nothing, alert_id: str) -> None:
    require_admin()


@blueprint.post("/integrity/alerts/<alert_id>/resolve")
@idempotent(Nothing, check=_check_alert)
def resolve_alert(body: Nothing, key: str, alert_id: str) -> ResponseReturnValue:
    """Somebody has looked into it; for administrators. It is told again if it happens again."""
    if not _ALERT_ID.fullmatch(alert_id):
        raise NotFound("There is no such alert.")
    return jsonify(_json(deps().integrity().alerts.close(alert_id, by=caller().uid)))


def _repair_json(outcome: Repair) -> dict[str, Any]:
    return {
        "uid": outcome.uid,
        "applied": outcome.applied,
        "repaired": outcome.applied and outcome.repaired,
        "quarantined": outcome.quarantined,
        "findings": [_damage_json(damage) for damage in outcome.before],
        "actions": outcome.actions,
        "remaining": [_damage_json(damage) for damage in outcome.after],
    }


def _damage_json(damage: Damage) -> dict[str, Any]:
    return {"uid": damage.uid, "seq": damage.seq, "code": damage.code, "message": damage.message}


def _json(value: Any) -> Any:
    """A document as JSON: times as text."""
    if isinstance(value, dict):
        return {name: _json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner) for inner in value]
    return value.isoformat(timespec="microseconds").replace("+00:00", "Z") if isinstance(value, datetime) else value


def _is_place(cursor: dict[str, Any]) -> bool:
    return datetime.fromisoformat(cursor["at"]).tzinfo is not None and bool(_ALERT_ID.fullmatch(cursor["id"]))
