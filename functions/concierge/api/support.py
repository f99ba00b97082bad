"""What every route needs: who calls, what they ask, where a page goes on.

Every function here raises a ConciergeError that names the field, before anything is written.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from flask import current_app, g, request
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from concierge.api.context import ApiDeps
from concierge.errors import InvalidArgument, PermissionDenied
from concierge.identity.tokens import Caller, require_self_or_admin, verify_caller

CURSOR_CHARACTERS_MAX = 1024
UID_CHARACTERS_MAX = 128
_RESERVED_ID = re.compile(r"\.\.?|__.*__")

ModelType = TypeVar("ModelType", bound=BaseModel)


class Schema(BaseModel):
    """Base of what comes in and goes out: camelCase names, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Subject(Schema):
    """The query of a route that is about one account."""

    uid: str | None = None


def deps() -> ApiDeps:
    found: ApiDeps = current_app.extensions["concierge"]
    return found


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
    if not uid or len(uid) > UID_CHARACTERS_MAX or "/" in uid:
        raise InvalidArgument("uid", "uid: not a user id")
    require_self_or_admin(known, uid)
    return uid


def require_admin() -> Caller:
    """Raises PermissionDenied unless the caller is an administrator."""
    known = caller()
    if not known.is_admin:
        raise PermissionDenied("This is for administrators.")
    return known


def query(model: type[ModelType]) -> ModelType:
    """The query string. A parameter may be repeated where the model takes a list. Raises InvalidArgument."""
    lists = {field.alias or name for name, field in model.model_fields.items() if "tuple" in str(field.annotation)}
    given: dict[str, Any] = {}
    for name, values in request.args.lists():
        if len(values) > 1 and name not in lists:
            raise InvalidArgument(name, f"{name}: given more than once")
        given[name] = values if name in lists else values[0]
    return _validated(model, given)


def body(model: type[ModelType]) -> ModelType:
    """The JSON object of the body; no body at all is an empty object. Raises InvalidArgument."""
    raw = request.get_data()
    try:
        given = json.loads(raw, parse_constant=_no_constant) if raw else {}
    except (ValueError, RecursionError):
        raise InvalidArgument("body", "The body is not JSON.") from None
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
        value = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        sound = isinstance(value, dict) and value.pop("kind", None) == kind and check(value)
    except (ValueError, binascii.Error, RecursionError, KeyError, TypeError):
        sound = False
    if not sound:
        raise InvalidArgument("cursor", "cursor: not one that a page of this list gave")
    cursor: dict[str, Any] = value
    return cursor


def is_document_id(text: Any) -> bool:
    """Whether a part of a cursor can be what it stands for, the id of a document: others break a query."""
    return isinstance(text, str) and bool(text) and "/" not in text and not _RESERVED_ID.fullmatch(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _validated(model: type[ModelType], given: dict[str, Any]) -> ModelType:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        raise InvalidArgument(field, f"{field}: {first['msg']}") from None
