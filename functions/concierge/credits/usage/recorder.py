"""Counts the end of a request in the very commit that resolves its hold: once, whatever crashes or is repeated.

A resolution happens once under its operation id, and the increments go with it or not at all. One merge of one document
that only this person's requests write, and no reads. The day is that of the resolution (UTC), as its entry has it: the
hold's own day may lie before midnight, and in a month that has been reported.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from google.cloud import firestore

from concierge.credits.usage.cells import FIELDS, month_of
from concierge.credits.usage.repository import usage_reference
from concierge.ledger.appender import Appended, Beside
from concierge.ledger.repository import Write
from concierge.ledger.reservations import API_RUN

Status = Literal["done", "cancelled", "failed", "expired"]

UNKNOWN_MODEL = "unknown"
# The only kind there was when holds did not say what they are for.
_KIND_BEFORE = "chat"
_RESERVED_NAME = re.compile(r"__.*__", re.DOTALL)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class End:
    """How a request ended, as far as the ledger does not know it. `model` is the one that answered, None if none did;
    tokens and images count only if they are charged for."""

    status: Status
    model: str | None = None
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    images: int = 0


class UsageRecorder:
    """`client` is a Firestore client, of which no more than references is used."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client

    def beside(self, end: End) -> Beside:
        """For the resolution of a request's hold: its counters. Reservations of the API are no requests."""

        def writes(appended: Appended) -> Sequence[Write]:
            counters = counters_of(appended, end)
            if counters is None:
                return ()
            kind, model, counted = counters
            increments = {name: firestore.Increment(amount) for name, amount in counted.items()}
            document = {
                "days": {f"{appended.at:%d}": {kind: {model: increments}}},
                "changedAt": firestore.SERVER_TIMESTAMP,
            }
            reference = usage_reference(self._client, appended.uid, month_of(appended.at))
            return (Write.merge(reference, document),)

        return writes


def counters_of(appended: Appended, end: End) -> tuple[str, str, dict[str, int]] | None:
    """(kind, model, counters) of one resolution, None if it is not that of a request. What expired while it was being
    settled counts as expired."""
    hold = appended.hold
    if hold is None or hold.run_id == API_RUN:
        return None
    kind, asked = (hold.work.kind, hold.work.model) if hold.work is not None else (_KIND_BEFORE, None)
    counted = dict.fromkeys(FIELDS, 0)
    counted["requests"] = 1
    counted["expired" if appended.movement.kind == "expire" else end.status] = 1
    counted["durationMs"] = max(0, (appended.at - hold.placed_at) // _MILLISECOND)
    if appended.movement.kind == "capture":
        counted["costMicrocredits"] = appended.movement.amount
        counted["inputTokens"] = end.input_tokens
        counted["cachedInputTokens"] = end.cached_input_tokens
        counted["outputTokens"] = end.output_tokens
        counted["images"] = end.images
    model = field_name(end.model or asked or UNKNOWN_MODEL)
    return field_name(kind), model, {name: amount for name, amount in counted.items() if amount}


def field_name(name: str) -> str:
    """A name as Firestore takes it for a field: those of the form __x__ are its own."""
    return f"~{name}" if _RESERVED_NAME.fullmatch(name) else name
