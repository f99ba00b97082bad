"""HTTPS."""

from flask import Request, Response

from concierge import wiring


def answer(request: Request) -> Response:
    app = wiring.api()
    with app.request_context(request.environ):
        return app.full_dispatch_request()
