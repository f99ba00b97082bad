"""The router: a pure function from what is known of a request to how it is served.

This first version knows one route, the quick response. It sizes the ceiling, lists the models to try, and says what
the hold must cover; later versions decide between more.
"""

from dataclasses import dataclass
from typing import Literal

from concierge.assistant.classify import Classification
from concierge.assistant.schemas import Request
from concierge.errors import InvalidArgument
from concierge.models.catalogue import Catalogue, Price

# What a chat template may add around each message; generous, and cheap at input prices.
_TOKENS_AROUND_MESSAGE = 16
_SYSTEM_PROMPT = "You are Concierge, a helpful assistant. Answer in the language of the question."


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer, and what it charges."""

    model: str
    price: Price


@dataclass(frozen=True, slots=True)
class Decision:
    """How the request is served. Amounts in microcredits, sizes in tokens.

    `input_tokens_max` is an upper bound: a byte-level tokenizer never makes more tokens than there are bytes. The hold
    is sized by the dearest candidate, so whichever answers is covered.
    """

    route: Literal["quick"]
    kind: str
    candidates: tuple[Candidate, ...]
    messages: tuple[dict[str, str], ...]
    input_tokens_max: int
    output_tokens_max: int
    hold_amount: int
    hold_minimum: int
    temperature: float | None
    reasons: tuple[str, ...]

    def output_tokens_within(self, held: int) -> int:
        """The output ceiling that `held` microcredits cover; at least 1 for any hold of `hold_minimum` or more."""
        return min(
            (
                self.output_tokens_max,
                *(
                    (held - candidate.price.input * self.input_tokens_max) // candidate.price.output
                    for candidate in self.candidates
                ),
            )
        )


def route(
    request: Request,
    classification: Classification,
    catalogue: Catalogue,
    *,
    default_model: str,
    default_output_tokens: int,
    minimum_output_tokens: int,
    reservation_max: int,
) -> Decision:
    """Raises InvalidArgument for what no route serves, Unpriced for a model without a known price."""
    if classification.kind != "chat":
        raise InvalidArgument("kind", f"Requests of kind {classification.kind} are not served yet.")
    if request.attachments:
        raise InvalidArgument("attachments", "A chat takes no attachments.")
    model = catalogue.model(request.options.model or default_model)
    candidates = tuple(Candidate(model_id, catalogue.price(model_id)) for model_id in (model.id, *model.fallbacks))
    messages = (
        {"role": "system", "content": _SYSTEM_PROMPT},
        {"role": "user", "content": request.text},
    )
    input_tokens_max = sum(len(message["content"].encode()) + _TOKENS_AROUND_MESSAGE for message in messages)
    used = tuple(catalogue.model(candidate.model) for candidate in candidates)
    room = min(each.context_tokens for each in used) - input_tokens_max
    wanted = request.options.max_tokens or default_output_tokens
    output_tokens_max = min(wanted, room, *(each.output_tokens_max for each in used))
    if output_tokens_max < 1:
        raise InvalidArgument("text", f"The text is too long for {model.id}.")
    hold_minimum = _worst_cost(candidates, input_tokens_max, min(minimum_output_tokens, output_tokens_max))
    if hold_minimum > reservation_max:
        raise InvalidArgument("text", "The request would cost more than a single request may.")
    hold_amount = min(_worst_cost(candidates, input_tokens_max, output_tokens_max), reservation_max)
    reasons = (*classification.reasons, f"{classification.complexity}, answered at once by {model.id}")
    return Decision(
        route="quick",
        kind=classification.kind,
        candidates=candidates,
        messages=messages,
        input_tokens_max=input_tokens_max,
        output_tokens_max=output_tokens_max,
        hold_amount=hold_amount,
        hold_minimum=hold_minimum,
        temperature=request.options.temperature,
        reasons=reasons,
    )


def _worst_cost(candidates: tuple[Candidate, ...], input_tokens: int, output_tokens: int) -> int:
    return max(candidate.price.cost(input_tokens, output_tokens) for candidate in candidates)
