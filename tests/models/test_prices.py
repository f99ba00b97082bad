"""What tokens cost, cached ones among them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concierge.errors import Configuration
from concierge.models.catalogue import Price, load_catalogue

tokens = st.integers(0, 10**6)
prices = st.integers(1, 10**3)


@given(prices, prices, st.none() | prices, tokens, tokens, st.data())
def test_each_token_is_charged_once(
    fresh: int, output: int, cached: int | None, input_tokens: int, output_tokens: int, data: Any
) -> None:
    price = Price(input=fresh, output=output, cached_input=min(cached, fresh) if cached is not None else None)
    of_cache = data.draw(st.integers(0, input_tokens))
    each = fresh if price.cached_input is None else price.cached_input
    cost = price.cost(input_tokens, output_tokens, of_cache)
    assert cost == fresh * (input_tokens - of_cache) + each * of_cache + output * output_tokens
    assert cost <= price.cost(input_tokens, output_tokens), "a hold is sized without a cache"


@pytest.mark.parametrize("cached", [-1, 11, 1.0, True, "1"])
def test_impossible_counts_of_cached_tokens_have_no_price(cached: Any) -> None:
    with pytest.raises(ValueError, match=r"token counts|part of"):
        Price(input=1, output=1, cached_input=1).cost(10, 1, cached)


@pytest.mark.parametrize("cached", [0, -1, 11, 1.5, "3"])
def test_a_cached_price_is_positive_and_not_dearer(tmp_path: Path, cached: Any) -> None:
    model = {
        "id": "m",
        "kind": "chat",
        "context_tokens": 10,
        "output_tokens_max": 10,
        "input_microcredits_per_token": 10,
        "output_microcredits_per_token": 10,
    }
    file = tmp_path / "catalogue.json"
    file.write_text(
        json.dumps({"default_chat_model": "m", "models": [{**model, "cached_input_microcredits_per_token": cached}]})
    )
    with pytest.raises(Configuration, match="cached_input"):
        load_catalogue(file)
    file.write_text(
        json.dumps({"default_chat_model": "m", "models": [{**model, "cached_input_microcredits_per_token": 10}]})
    )
    assert load_catalogue(file).price("m").cached_input == 10
