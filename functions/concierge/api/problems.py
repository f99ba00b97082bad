"""Errors as problem+json (RFC 9457), with the codes of errors.py and no internals."""

import json

from firebase_admin import exceptions as firebase_exceptions
from flask import Flask, Response
from google.api_core import exceptions as google_exceptions
from werkzeug.exceptions import HTTPException

from concierge.errors import ConciergeError, Internal, Unavailable
from concierge.kit.logging import log

# What a database answers that is down, overloaded or too slow. Anything else that it refuses is a bug of ours.
PASSING = (
    google_exceptions.Aborted,
    google_exceptions.ServerError,
    google_exceptions.TooManyRequests,
    google_exceptions.RetryError,
    firebase_exceptions.AbortedError,
    firebase_exceptions.DeadlineExceededError,
    firebase_exceptions.InternalError,
    firebase_exceptions.ResourceExhaustedError,
    firebase_exceptions.UnavailableError,
)
# What HTTP itself has to say with an error: RFC 9110 asks for Allow with 405, and Retry-After with some.
_KEPT_HEADERS = ("Allow", "Retry-After")


def register(app: Flask) -> None:
    """Every error of an app leaves it as a problem."""
    app.register_error_handler(ConciergeError, problem)
    app.register_error_handler(HTTPException, http_problem)
    for passing in PASSING:
        app.register_error_handler(passing, unavailable_problem)
    app.register_error_handler(Exception, unexpected_problem)


def problem(error: ConciergeError) -> Response:
    """What the caller is told."""
    public = error.public()
    response = _response(error.http_status, {"title": public.pop("message"), **public})
    if "retryAfterSeconds" in public:
        response.headers["Retry-After"] = str(public["retryAfterSeconds"])
    if error.http_status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def http_problem(error: HTTPException) -> Response:
    response = _response(error.code or 500, {"title": error.name, "code": error.name.upper().replace(" ", "_")})
    given = error.get_response().headers
    response.headers.update({name: given[name] for name in _KEPT_HEADERS if name in given})
    return response


def unavailable_problem(error: Exception) -> Response:
    """A database does not answer; which one, and how, is for the log."""
    log("ERROR", "api.unavailable", error=error)
    return problem(Unavailable("A service that this needs does not answer at the moment."))


def unexpected_problem(error: Exception) -> Response:
    """Details go to the log only."""
    log("ERROR", "api.crashed", error=error)
    return problem(Internal())


def _response(status: int, content: dict[str, object]) -> Response:
    return Response(json.dumps({"status": status, **content}), status=status, mimetype="application/problem+json")
