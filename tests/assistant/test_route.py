"""Routing and pricing: what is held covers what can be spent, and unknown prices are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concierge.assistant.classify import classify
from concierge.assistant.route import Decision, route
from concierge.assistant.schemas import parse_request
from concierge.errors import Configuration, InvalidArgument, Unpriced
from concierge.models.catalogue import Catalogue, load_catalogue

MODEL = {"kind": "chat", "context_tokens": 100_000, "output_tokens_max": 2_000}


def catalogue_of(tmp_path: Path, *models: dict[str, Any]) -> Catalogue:
    file = tmp_path / "catalogue.json"
    file.write_text(json.dumps({"default_chat_model": "m", "models": [{**MODEL, **model} for model in models]}))
    return load_catalogue(file)


def priced(model_id: str, input_price: Any = 10, output_price: Any = 40, **more: Any) -> dict[str, Any]:
    prices = {"input_microcredits_per_token": input_price, "output_microcredits_per_token": output_price}
    return {"id": model_id, **prices, **more}


def decide(catalogue: Catalogue, text: str = "Hello", reservation_max: int = 10**9, **changes: Any) -> Decision:
    raw = {"kind": "chat", "conversationId": "c", "text": text, "createdAt": 1, **changes}
    request = parse_request("r", raw)
    return route(
        request,
        classify(request),
        catalogue,
        default_model="m",
        default_output_tokens=1_000,
        minimum_output_tokens=64,
        reservation_max=reservation_max,
    )


@given(text=st.text(min_size=1).filter(str.strip), max_tokens=st.integers(1, 5_000), share=st.integers(0, 10**6))
def test_no_answer_within_the_ceiling_costs_more_than_its_hold(text: str, max_tokens: int, share: int) -> None:
    catalogue = load_catalogue(None)
    raw = {"kind": "chat", "conversationId": "c", "text": text, "createdAt": 1, "options": {"maxTokens": max_tokens}}
    request = parse_request("r", raw)
    decision = route(
        request,
        classify(request),
        catalogue,
        default_model="gpt-4o",
        default_output_tokens=1_000,
        minimum_output_tokens=64,
        reservation_max=10**12,
    )
    held = decision.hold_minimum + share % (decision.hold_amount - decision.hold_minimum + 1)
    ceiling = decision.output_tokens_within(held)
    assert 1 <= ceiling <= max_tokens
    for candidate in decision.candidates:
        # A tokenizer that makes one token of each byte is the worst there can be.
        assert candidate.price.cost(decision.input_tokens_max, ceiling) <= held
    assert decision.input_tokens_max >= len(text.encode())


@pytest.mark.parametrize(
    "model", [priced("m", None, None), priced("m", 0, 0), priced("m", 10, 0), priced("m", 0, 10), priced("other")]
)
def test_a_model_without_a_full_price_is_refused(tmp_path: Path, model: dict[str, Any]) -> None:
    with pytest.raises(Unpriced):
        decide(catalogue_of(tmp_path, model))


def test_an_unpriced_fallback_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(Unpriced):
        decide(catalogue_of(tmp_path, priced("m", fallbacks=["free"]), priced("free", 0, 0)))


@pytest.mark.parametrize("price", [-1, 0.5, "10", True])
def test_a_price_is_a_whole_number(tmp_path: Path, price: Any) -> None:
    with pytest.raises(Configuration, match="MODEL_CATALOGUE_FILE"):
        catalogue_of(tmp_path, priced("m", price))


def test_the_hold_covers_the_dearest_candidate(tmp_path: Path) -> None:
    catalogue = catalogue_of(tmp_path, priced("m", fallbacks=["dear"]), priced("dear", 100, 400))
    decision = decide(catalogue)
    assert decision.hold_amount == decision.candidates[1].price.cost(decision.input_tokens_max, 1_000)


def test_limits_bound_the_ceiling(tmp_path: Path) -> None:
    catalogue = catalogue_of(tmp_path, priced("m"))
    assert decide(catalogue).output_tokens_max == 1_000
    assert decide(catalogue, options={"maxTokens": 5_000}).output_tokens_max == 2_000
    assert decide(catalogue, reservation_max=30_000).hold_amount == 30_000


def test_what_no_route_serves_is_refused_with_its_field(tmp_path: Path) -> None:
    catalogue = catalogue_of(tmp_path, priced("m"))
    for changes, field in (
        ({"kind": "image"}, "kind"),
        ({"attachments": [{"path": "a", "contentType": "b"}]}, "attachments"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            decide(catalogue, **changes)
        assert caught.value.field == field
    with pytest.raises(InvalidArgument) as caught:
        decide(catalogue, text="x" * 30_000, reservation_max=1_000)
    assert caught.value.field == "text"


@pytest.mark.parametrize("tokens", [-1, 1.5, True, "5", None])
def test_token_counts_are_whole_and_not_negative(tokens: Any) -> None:
    price = load_catalogue(None).price("gpt-4o")
    with pytest.raises(ValueError):
        price.cost(tokens, 1)
    with pytest.raises(ValueError):
        price.cost(1, tokens)
