"""The Flask application behind the `api` function, with problem+json errors (RFC 9457)."""

from flask import Flask, jsonify
from flask.typing import ResponseReturnValue

from concierge.api.context import ApiDeps
from concierge.api.problems import register
from concierge.api.support import BODY_BYTES_MAX
from concierge.api.v1 import (
    accounts,
    analytics,
    audit,
    balances,
    bonus,
    checkpoints,
    credits,
    integrity,
    ledger,
    reservations,
)

_ROUTES = (ledger, checkpoints, accounts, credits, reservations, analytics, audit, integrity, bonus, balances)


def create_app(deps: ApiDeps) -> Flask:
    """All routes under /api/v1."""
    app = Flask("concierge.api")
    app.extensions["concierge"] = deps
    # One more: of a body that does not say its length, werkzeug reads that much and leaves the rest.
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX + 1
    for routes in _ROUTES:
        app.register_blueprint(routes.blueprint, url_prefix="/api/v1")
    app.add_url_rule("/api/v1/health", view_func=_health)
    register(app)
    return app


def _health() -> ResponseReturnValue:
    return jsonify(status="ok")
