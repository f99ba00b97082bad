"""Requests and the sweep."""

from typing import Any

from concierge import wiring
from concierge.assistant import flow
from concierge.assistant import sweep as sweeper


def serve_request(uid: str, request_id: str, raw: Any) -> None:
    flow.handle_request(wiring.assistant(), uid, request_id, raw)


def sweep() -> None:
    sweeper.sweep(wiring.assistant())
