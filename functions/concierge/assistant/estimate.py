"""What a request would cost, before it is sent. Pure: it decides as the journey does, and holds nothing."""

from dataclasses import dataclass
from typing import Any

from concierge.assistant.classify import classify
from concierge.assistant.route import route
from concierge.assistant.schemas import parse_request
from concierge.config import Settings
from concierge.models.catalogue import Catalogue

# Four bytes a token, the usual rule of thumb; and half the ceiling is what an answer takes when nothing is known of it.
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """Amounts in microcredits. `hold_amount` is what would be held, `hold_minimum` what must be available; an answer
    costs between `lowest` and `highest`, whichever of the models gives it, and is expected to cost `expected`."""

    model: str
    route: str
    kind: str
    complexity: str
    input_tokens_max: int
    output_tokens_max: int
    hold_amount: int
    hold_minimum: int
    lowest: int
    expected: int
    highest: int
    reasons: tuple[str, ...]


def estimate(settings: Settings, catalogue: Catalogue, default_model: str, raw: dict[str, Any]) -> Estimate:
    """`raw` is a request as a client would write it, without `createdAt`. Raises InvalidArgument, Unpriced."""
    request = parse_request("estimate", {**raw, "conversationId": "estimate", "createdAt": 0})
    classification = classify(request)
    decision = route(
        request,
        classification,
        catalogue,
        default_model=default_model,
        default_output_tokens=settings.max_output_tokens,
        minimum_output_tokens=settings.min_output_tokens,
        reservation_max=settings.max_reservation_microcredits,
    )
    first = decision.candidates[0]
    sent = sum(len(message["content"].encode()) for message in decision.messages)
    input_tokens = max(1, -(-sent // _BYTES_PER_TOKEN))
    ceiling = decision.output_tokens_within(decision.hold_amount)
    # No tokenizer is known here, and a fallback may be the cheaper model: only the shortest exchange is certain.
    lowest = min(candidate.price.cost(1, 1) for candidate in decision.candidates)
    return Estimate(
        model=first.model,
        route=decision.route,
        kind=classification.kind,
        complexity=classification.complexity,
        input_tokens_max=decision.input_tokens_max,
        output_tokens_max=ceiling,
        hold_amount=decision.hold_amount,
        hold_minimum=decision.hold_minimum,
        lowest=min(lowest, decision.hold_amount),
        expected=min(first.price.cost(input_tokens, max(1, ceiling // 2)), decision.hold_amount),
        highest=decision.hold_amount,
        reasons=decision.reasons,
    )
