"""Errors as problem+json (RFC 9457), with the codes of errors.py and no internals."""

import json

from flask import Response
from werkzeug.exceptions import HTTPException

from concierge.errors import ConciergeError, Internal
from concierge.kit.logging import log


def problem(error: ConciergeError) -> Response:
    """What the caller is told."""
    public = error.public()
    response = _response(error.http_status, {"title": public.pop("message"), **public})
    if "retryAfterSeconds" in public:
        response.headers["Retry-After"] = str(public["retryAfterSeconds"])
    return response


def http_problem(error: HTTPException) -> Response:
    return _response(error.code or 500, {"title": error.name, "code": error.name.upper().replace(" ", "_")})


def unexpected_problem(error: Exception) -> Response:
    """Details go to the log only."""
    log("ERROR", "api.crashed", error=error)
    return problem(Internal())


def _response(status: int, content: dict[str, object]) -> Response:
    return Response(json.dumps({"status": status, **content}), status=status, mimetype="application/problem+json")
