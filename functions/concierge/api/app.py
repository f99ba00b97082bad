"""The Flask application behind the `api` function, with problem+json errors (RFC 9457)."""

from flask import Flask, jsonify
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from concierge.api.context import ApiDeps
from concierge.api.problems import http_problem, problem, unexpected_problem
from concierge.api.v1 import bonus, checkpoints, credits, integrity, ledger
from concierge.errors import ConciergeError

BODY_BYTES_MAX = 256 * 1024


def create_app(deps: ApiDeps) -> Flask:
    """All routes under /api/v1."""
    app = Flask("concierge.api")
    app.extensions["concierge"] = deps
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
    for routes in (ledger, checkpoints, credits, bonus, integrity):
        app.register_blueprint(routes.blueprint, url_prefix="/api/v1")
    app.add_url_rule("/api/v1/health", view_func=_health)
    app.register_error_handler(ConciergeError, problem)
    app.register_error_handler(HTTPException, http_problem)
    app.register_error_handler(Exception, unexpected_problem)
    return app


def _health() -> ResponseReturnValue:
    return jsonify(status="ok")
