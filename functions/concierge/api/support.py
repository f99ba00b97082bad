"""What every route needs: who calls, what they ask, where a page goes on.

Every function here raises a ConciergeError that names the field, before anything is written.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from firebase_admin import exceptions as firebase_exceptions
from flask import g, request
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from concierge.api.context import deps as deps  # routes take it from here, with the rest that they need
from concierge.api.network import caller_network
from concierge.errors import InvalidArgument, PermissionDenied
from concierge.identity.tokens import Caller, require_self_or_admin, verify_caller
from concierge.kit import strict_json
from concierge.kit.logging import log
from concierge.ledger.transfers import Head

BODY_BYTES_MAX = 256 * 1024
CURSOR_CHARACTERS_MAX = 1024
# Auth allows any characters. A user id names documents too, and Firestore keeps some names for itself.
_UID = re.compile(r"(?!\.{1,2}\Z)(?!__.*__\Z)[^/\x00-\x1f\x7f\ud800-\udfff]{1,128}", re.DOTALL)
_DOCUMENT_ID = re.compile(r"(?!\.{1,2}\Z)(?!__.*__\Z)[^/\ud800-\udfff]{1,1500}", re.DOTALL)
_FIELD_CHARACTERS_MAX = 100

ModelType = TypeVar("ModelType", bound=BaseModel)


class Schema(BaseModel):
    """Base of what comes in and goes out: camelCase names, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Subject(Schema):
    """The query of a route that is about one account."""

    uid: str | None = None


def caller() -> Caller:
    """Whoever calls, verified once a request. Raises Unauthenticated, Unavailable."""
    if "caller" not in g:
        g.caller = verify_caller(request.headers.get("Authorization"), deps().firebase_app)
    known: Caller = g.caller
    return known


def subject(uid: str | None) -> str:
    """The account that a call is about: the caller's own, or for administrators any. Raises PermissionDenied."""
    known = caller()
    if uid is None:
        return known.uid
    if not is_uid(uid):
        raise InvalidArgument("uid", "uid: not a user id")
    require_self_or_admin(known, uid)
    return uid


def is_uid(text: str) -> bool:
    """Whether this may be somebody's id."""
    return _UID.fullmatch(text) is not None


def require_admin() -> Caller:
    """Raises PermissionDenied unless the caller is an administrator."""
    known = caller()
    if not known.is_admin:
        raise PermissionDenied("This is for administrators.")
    return known


def check_administrator(body: BaseModel, uid: str) -> None:
    """For `idempotent`, of a route about somebody's account: 403 and 400 before anything is written."""
    require_admin()
    subject(uid)


def query(model: type[ModelType]) -> ModelType:
    """The query string of somebody who is signed in. A parameter may be repeated where the model takes a list. Raises
    Unauthenticated, then InvalidArgument."""
    caller()
    lists = {field.alias or name for name, field in model.model_fields.items() if "tuple" in str(field.annotation)}
    given: dict[str, Any] = {}
    for name, values in request.args.lists():
        if len(values) > 1 and name not in lists:
            raise InvalidArgument(name, f"{name}: given more than once")
        given[name] = values if name in lists else values[0]
    return _validated(model, given)


def body(model: type[ModelType]) -> ModelType:
    """The JSON object of the body; no body at all is an empty object. Raises InvalidArgument, and werkzeug's
    RequestEntityTooLarge and UnsupportedMediaType."""
    raw = request.get_data()
    if len(raw) > BODY_BYTES_MAX:
        raise RequestEntityTooLarge
    if raw and request.mimetype not in ("", "application/json"):
        raise UnsupportedMediaType
    try:
        given = strict_json.parse(raw) if raw else {}
    except ValueError as error:
        raise InvalidArgument("body", f"The body is not JSON: {error}.") from None
    if not isinstance(given, dict):
        raise InvalidArgument("body", "The body is a JSON object.")
    return _validated(model, given)


def encode_cursor(kind: str, value: dict[str, Any]) -> str:
    """Where a page goes on, opaque to clients."""
    text = json.dumps({"kind": kind, **value}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(kind: str, text: str, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What encode_cursor was given; `check` says whether it can be true. Raises InvalidArgument for anything else."""
    try:
        if len(text) > CURSOR_CHARACTERS_MAX or not text.isascii():
            raise ValueError("no cursor of ours is that long")
        value = strict_json.parse(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        sound = isinstance(value, dict) and value.pop("kind", None) == kind and check(value)
    except (ValueError, binascii.Error, KeyError):
        sound = False
    if not sound:
        raise InvalidArgument("cursor", "cursor: not one that a page of this list gave")
    cursor: dict[str, Any] = value
    return cursor


def is_document_id(text: Any) -> bool:
    """Whether a part of a cursor can be what it stands for, the id of a document: others break a query."""
    return isinstance(text, str) and _DOCUMENT_ID.fullmatch(text) is not None


def own_head() -> Head:
    """The caller's account. Somebody who was never seen before is welcomed first: who only calls the API gets the bonus
    as anybody else; without it the account is an empty one. Raises Unavailable."""
    uid = caller().uid
    head = deps().ledger.head(uid)
    if head is None:
        deps().bonus().claim(uid, caller_network())
        head = deps().ledger.head(uid)
    return head or Head()


def show_balance(uid: str, head: Head) -> None:
    """Brings the shown balance up to a head. What Firestore decided stands whether this succeeds or not: the trigger
    on the account shows it too, and the repair after that."""
    try:
        deps().mirror().apply(uid, head)
    except firebase_exceptions.FirebaseError as error:
        log("WARNING", "mirror.not_shown", uid=uid, seq=head.seq, error=error)


def _validated(model: type[ModelType], given: dict[str, Any]) -> ModelType:
    try:
        # By the names that are documented only: otherwise one field could be given twice, under two names.
        return model.model_validate(given, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # Of an unknown field it is the caller's own name, of any length.
        field = ".".join(str(part) for part in first["loc"])[:_FIELD_CHARACTERS_MAX] or "body"
        raise InvalidArgument(field, f"{field}: {first['msg']}") from None
