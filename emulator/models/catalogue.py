"""The offline models and what each can do."""

from dataclasses import dataclass
from typing import Any, Literal

from emulator.models.errors import ModelError

Ability = Literal["chat", "embeddings", "images"]

_CREATED_S = 1_735_689_600  # 2025-01-01: a model's age never changes


@dataclass(frozen=True, slots=True)
class OfflineModel:
    """`context_window` counts the tokens of prompt and answer together."""

    id: str
    ability: Ability
    context_window: int

    def as_json(self) -> dict[str, Any]:
        """As GET /v1/models lists it; `context_window` is an extra that OpenAI does not have."""
        return {
            "id": self.id,
            "object": "model",
            "created": _CREATED_S,
            "owned_by": "embedded-firebase",
            "context_window": self.context_window,
        }


MODELS = {
    model.id: model
    for model in (
        OfflineModel("concierge-offline-small", "chat", 32_768),
        OfflineModel("concierge-offline-large", "chat", 131_072),
        OfflineModel("concierge-offline-embed", "embeddings", 8_192),
        OfflineModel("concierge-offline-image", "images", 4_096),
    )
}


def find(model_id: Any, ability: Ability | None = None) -> OfflineModel:
    """The model of that name. Raises ModelError 404 if there is none, 400 if it cannot do what is asked."""
    if not isinstance(model_id, str) or not model_id:
        raise ModelError("you must provide a model parameter", param="model")
    model = MODELS.get(model_id)
    if model is None:
        message = f"The model `{model_id}` does not exist. The offline server has: {', '.join(MODELS)}."
        raise ModelError(message, status=404, param="model", code="model_not_found")
    if ability is not None and model.ability != ability:
        raise ModelError(f"The model `{model_id}` cannot be used for {ability}.", param="model")
    return model
