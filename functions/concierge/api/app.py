"""The Flask application behind the `api` function, with problem+json errors (RFC 9457)."""

import json

from flask import Flask, Response, jsonify
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from concierge.api.context import ApiDeps
from concierge.api.v1 import ledger
from concierge.errors import ConciergeError, Internal
from concierge.kit.logging import log


def create_app(deps: ApiDeps) -> Flask:
    """All routes under /api/v1."""
    app = Flask("concierge.api")
    app.extensions["concierge"] = deps
    app.register_blueprint(ledger.blueprint, url_prefix="/api/v1")
    app.add_url_rule("/api/v1/health", view_func=_health)
    app.register_error_handler(ConciergeError, _concierge_problem)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(Exception, _unexpected_problem)
    return app


def _health() -> ResponseReturnValue:
    return jsonify(status="ok")


def _problem(status: int, body: dict[str, object]) -> Response:
    return Response(json.dumps({"status": status, **body}), status=status, mimetype="application/problem+json")


def _concierge_problem(error: ConciergeError) -> Response:
    public = error.public()
    return _problem(error.http_status, {"title": public.pop("message"), **public})


def _http_problem(error: HTTPException) -> Response:
    return _problem(error.code or 500, {"title": error.name, "code": error.name.upper().replace(" ", "_")})


def _unexpected_problem(error: Exception) -> Response:
    """Details go to the log only."""
    log("ERROR", "api.crashed", error=error)
    return _concierge_problem(Internal())
