"""Idempotency-Key: a POST that is sent again is answered again, and done once.

As draft-ietf-httpapi-idempotency-key-header: the same key with another body is refused with 409, and so is one whose
first request is still under way. The outcome is kept, refusals of the ledger included; what is answered with 400, 401,
403 or 5xx is not an outcome, and may be tried again under its key. Operations take their ids from the key, so even an
instance that dies after the act and before it kept the answer leads to one act only.

Firestore: idempotency/{SHA-256 of uid, NUL and key} {requestHash, state, status, body, mimetype, claimedAt,
claimedBy, expireAt}; a TTL policy on expireAt deletes them.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
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
from concierge.kit.faults import fault_point
from concierge.kit.logging import log

KEY = re.compile(r"[\x21-\x7e]{1,255}")
RETENTION = timedelta(days=1)
LEASE = timedelta(seconds=90)
"""After so long the first request of a key is dead for sure: no function that answers HTTPS may run longer."""
_KEPT_STATUSES = frozenset({402, 404, 409, 423})

View = Callable[..., Any]


def idempotent(model: type[ModelType], *, check: View | None = None) -> Callable[[View], View]:
    """Wraps a view that is called as `view(body, key, **path)`: the checked body, and 32 hexadecimal digits to make ids
    from, the same whenever the request is sent again.

    `check(body, **path)` raises what depends on the request and the caller's role alone (400, 403): nothing is written
    for a request that it refuses.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(**path: Any) -> Any:
            uid, given = caller().uid, request.headers.get("Idempotency-Key")
            if given is not None and not KEY.fullmatch(given):
                raise InvalidArgument("Idempotency-Key", "Idempotency-Key: 1 to 255 printable ASCII characters")
            checked = body(model)
            if check is not None:
                check(checked, **path)
            if given is None:
                return view(checked, uuid4().hex, **path)
            digest = hashlib.sha256(f"{uid}\0{given}".encode()).hexdigest()
            # Without defaults: a field that a later version adds must not make another body of an old one.
            content = checked.model_dump(mode="json", exclude_defaults=True)
            request_hash = fingerprint([request.method, request.path, content])
            return _once(digest, request_hash, lambda: view(checked, digest[:32], **path))

        return wrapped

    return decorate


@dataclass(slots=True)
class _Claim:
    """The right to act under a key. `update_time` is that of the record as this request wrote it: all that it does
    with the record is on the condition that nobody has taken the key over."""

    reference: Any
    update_time: Any

    def keep(self, response: Response) -> None:
        """Keeps an outcome. The act is done by then and its answer is true: it is given whether this succeeds or
        not. Who asks again then meets the act again, once the lease is over."""
        kept = {"state": "done", "status": response.status_code, "body": response.get_data(as_text=True)}
        try:
            self.reference.update({**kept, "mimetype": response.mimetype}, option=self._unchanged())
        except google_exceptions.GoogleAPIError as error:
            log("WARNING", "idempotency.not_kept", status=response.status_code, error=error)

    def give_back(self) -> None:
        """The key may be used again at once; if this fails, when the lease is over."""
        try:
            self.reference.delete(option=self._unchanged())
        except google_exceptions.GoogleAPIError as error:
            log("WARNING", "idempotency.not_given_back", error=error)

    def _unchanged(self) -> Any:
        return deps().firestore().write_option(last_update_time=self.update_time)


def _once(digest: str, request_hash: str, act: Callable[[], Any]) -> Response:
    reference = deps().firestore().collection(paths.IDEMPOTENCY).document(digest)
    try:
        claimed = _claim(reference, request_hash)
    except google_exceptions.GoogleAPIError as error:
        raise Unavailable("The request was not taken. Send it again.") from error
    if isinstance(claimed, Response):
        return claimed
    try:
        response: Response = make_response(act())
    except ConciergeError as error:
        if error.http_status not in _KEPT_STATUSES:
            claimed.give_back()
            raise
        response = problem(error)
    except Exception:
        claimed.give_back()
        raise
    fault_point("answer.before")
    claimed.keep(response)
    return response


def _claim(reference: Any, request_hash: str) -> _Claim | Response:
    """The right to act, or the answer that was given before. Raises Conflict for a key that is in use."""
    now, token = datetime.now(UTC), uuid4().hex
    mine = {"claimedAt": now, "claimedBy": token}
    claim = {"requestHash": request_hash, "state": "in_flight", "expireAt": now + RETENTION, **mine}
    try:
        return _Claim(reference, reference.create(claim).update_time)
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
    if known["claimedBy"] != token and now - known["claimedAt"] >= LEASE:
        # Whoever claimed it is dead by now; its act, if it came to that, is met again under the same ids.
        try:
            option = deps().firestore().write_option(last_update_time=snapshot.update_time)
            return _Claim(reference, reference.update(mine, option=option).update_time)
        except (google_exceptions.FailedPrecondition, google_exceptions.NotFound):
            snapshot = reference.get()
    # The client library writes again when an answer was lost, and then meets the claim of its own.
    if (snapshot.to_dict() or {}).get("claimedBy") == token:
        return _Claim(reference, snapshot.update_time)
    raise _under_way()


def _under_way() -> Conflict:
    return Conflict("The first request with this Idempotency-Key is still under way.", retryAfterSeconds=1)
