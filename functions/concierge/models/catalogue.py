"""The model catalogue: ids, limits, prices, fallbacks. Read from catalogue.json, or from MODEL_CATALOGUE_FILE.

Prices are whole microcredits a token. A model without a price, or with the price 0, is never used: unknown is refused,
not free.
"""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from concierge.errors import Configuration, Unpriced
from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS

_BUILT_IN_FILE = Path(__file__).with_name("catalogue.json")

# Prices are strict: a fractional or negative one must not become an amount by rounding.
PricePerToken = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]
PositivePricePerToken = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
Tokens = Annotated[int, Field(strict=True, ge=1, le=100_000_000)]


class Model(BaseModel):
    """One model. `id` is what the provider calls it; `fallbacks` are tried in order when it does not answer.

    Input that the provider had in its cache costs `cached_input_microcredits_per_token`, and as much as any other
    where there is no such price; never more, because holds are sized by the price of any other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, max_length=200)
    kind: Literal["chat"]
    input_microcredits_per_token: PricePerToken | None = None
    output_microcredits_per_token: PricePerToken | None = None
    cached_input_microcredits_per_token: PositivePricePerToken | None = None
    context_tokens: Tokens
    output_tokens_max: Tokens
    fallbacks: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _cached_is_not_dearer(self) -> Self:
        cached, normal = self.cached_input_microcredits_per_token, self.input_microcredits_per_token
        if cached is not None and cached > (normal or 0):
            raise ValueError("cached_input_microcredits_per_token must not exceed input_microcredits_per_token")
        return self


class Price(BaseModel):
    """Microcredits a token, all positive; None is the price of any other input."""

    model_config = ConfigDict(frozen=True)

    input: Annotated[int, Field(strict=True, ge=1)]
    output: Annotated[int, Field(strict=True, ge=1)]
    cached_input: Annotated[int, Field(strict=True, ge=1)] | None = None

    def cost(self, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0) -> int:
        """Microcredits. The cached tokens are a part of the input tokens, and are counted once.

        Raises ValueError unless all counts are whole and not negative, and the cost is in range.
        """
        for tokens in (input_tokens, output_tokens, cached_input_tokens):
            if type(tokens) is not int or tokens < 0:
                raise ValueError("token counts are whole numbers, and not negative")
        if cached_input_tokens > input_tokens:
            raise ValueError("cached tokens are a part of the input tokens")
        cached_price = self.input if self.cached_input is None else self.cached_input
        fresh = self.input * (input_tokens - cached_input_tokens)
        cost = fresh + cached_price * cached_input_tokens + self.output * output_tokens
        if cost > AMOUNT_MAX_MICROCREDITS:
            raise ValueError("the cost exceeds any amount that the ledger can hold")
        return cost


class _CatalogueFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    default_chat_model: str
    models: tuple[Model, ...]


class Catalogue:
    """All models by id."""

    def __init__(self, content: _CatalogueFile) -> None:
        self._models = {model.id: model for model in content.models}
        self.default_chat_model = content.default_chat_model
        for model in content.models:
            for fallback in model.fallbacks:
                if fallback not in self._models:
                    raise ValueError(f"{model.id} falls back on {fallback}, which is not in the catalogue")

    def ids(self) -> list[str]:
        """All ids, in the order of the file: the order of preference where nothing else decides."""
        return list(self._models)

    def model(self, model_id: str) -> Model:
        """Raises Unpriced for a model that the catalogue does not know."""
        model = self._models.get(model_id)
        if model is None:
            raise Unpriced("There is no price for this model.", model=model_id)
        return model

    def price(self, model_id: str) -> Price:
        """Raises Unpriced for an unknown model, and for one without a positive price on both sides."""
        model = self.model(model_id)
        if not model.input_microcredits_per_token or not model.output_microcredits_per_token:
            raise Unpriced("There is no price for this model.", model=model_id)
        return Price(
            input=model.input_microcredits_per_token,
            output=model.output_microcredits_per_token,
            cached_input=model.cached_input_microcredits_per_token,
        )


def load_catalogue(file: Path | None) -> Catalogue:
    """Raises Configuration if the file cannot be read or a value in it is wrong."""
    path = file or _BUILT_IN_FILE
    try:
        return Catalogue(_CatalogueFile.model_validate(json.loads(path.read_text(encoding="utf-8"))))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Configuration("MODEL_CATALOGUE_FILE", f"{place}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise Configuration("MODEL_CATALOGUE_FILE", str(error)) from None
