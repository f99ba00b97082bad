"""Idempotency-Key: a POST that is sent again is answered again, and done once.

As draft-ietf-httpapi-idempotency-key-header: the same key with another body is refused with 409, and so is one whose
first request is still under way. The outcome is kept, refusals of the ledger included; what is answered with 400, 401,
403 or 5xx is not an outcome, and may be tried again under its key. Operations take their ids from the key, so even an
instance that dies after the act and before it kept the answer leads to one act only.

Firestore: idempotency/{SHA-256 of uid, NUL and key} {requestHash, state, status, body, claimedAt, expireAt}; a TTL
policy on expireAt deletes them.
"""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any
from uuid import uuid4

from flask import Response, make_response, request
from google.api_core import exceptions as google_exceptions

from concierge import paths
from concierge.api.problems import problem
from concierge.api.support import ModelType, body, caller, deps
from concierge.errors import ConciergeError, Conflict, InvalidArgument, Unavailable
from concierge.kit.canonical import fingerprint

KEY = re.compile(r"[\x21-\x7e]{1,255}")
RETENTION = timedelta(days=1)
LEASE = timedelta(seconds=90)
_KEPT_STATUSES = frozenset({402, 404, 409, 423})

View = Callable[..., Any]


def idempotent(model: type[ModelType]) -> Callable[[View], View]:
    """Wraps a view that is called as `view(body, key, **path)`: the checked body, and 32 hexadecimal digits to make ids
    from, the same whenever the request is sent again."""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(**path: Any) -> Any:
            uid, given = caller().uid, request.headers.get("Idempotency-Key")
            checked = body(model)
            if given is None:
                return view(checked, uuid4().hex, **path)
            if not KEY.fullmatch(given):
                raise InvalidArgument("Idempotency-Key", "Idempotency-Key: 1 to 255 printable ASCII characters")
            digest = hashlib.sha256(f"{uid}\0{given}".encode()).hexdigest()
            request_hash = fingerprint([request.method, request.path, checked.model_dump(mode="json")])
            return _once(digest, request_hash, lambda: view(checked, digest[:32], **path))

        return wrapped

    return decorate


def _once(digest: str, request_hash: str, act: Callable[[], Any]) -> Response:
    reference = deps().firestore().collection(paths.IDEMPOTENCY).document(digest)
    try:
        answered = _claim(reference, request_hash)
        if answered is not None:
            return answered
        response = _outcome(act, reference)
        kept = {"state": "done", "status": response.status_code, "body": response.get_data(as_text=True)}
        reference.update({**kept, "mimetype": response.mimetype})
    except google_exceptions.GoogleAPICallError as error:
        raise Unavailable("The request was not taken. Send it again.") from error
    return response


def _claim(reference: Any, request_hash: str) -> Response | None:
    """None if this request is the one to act. Raises Conflict for a key that is in use."""
    now = datetime.now(UTC)
    claim = {"requestHash": request_hash, "state": "in_flight", "claimedAt": now, "expireAt": now + RETENTION}
    try:
        reference.create(claim)
        return None
    except google_exceptions.AlreadyExists:
        snapshot = reference.get()
    known = snapshot.to_dict()
    if known is None:
        # Given back this very moment, or expired.
        raise _under_way()
    if known["requestHash"] != request_hash:
        raise Conflict("This Idempotency-Key was used for another request.")
    if known["state"] == "done":
        return Response(
            known["body"],
            status=known["status"],
            mimetype=known["mimetype"],
            headers={"Idempotency-Replayed": "true"},
        )
    if now - known["claimedAt"] < LEASE:
        raise _under_way()
    try:
        # Whoever claimed it is dead by now; its act, if it came to that, is met again under the same ids.
        option = deps().firestore().write_option(last_update_time=snapshot.update_time)
        reference.update({"claimedAt": now}, option=option)
    except google_exceptions.FailedPrecondition:
        raise _under_way() from None
    return None


def _outcome(act: Callable[[], Any], reference: Any) -> Response:
    """The answer, if it is one to keep; otherwise the key is given back and the error raised."""
    try:
        response: Response = make_response(act())
        if response.status_code >= 500:
            reference.delete()
    except ConciergeError as error:
        if error.http_status not in _KEPT_STATUSES:
            reference.delete()
            raise
        return problem(error)
    except Exception:
        reference.delete()
        raise
    return response


def _under_way() -> Conflict:
    return Conflict("The first request with this Idempotency-Key is still under way.", retryAfterSeconds=1)
