"""The task classifier: what kind of work a request is. Local and pure.

This first version trusts the client's kind, and judges complexity by length alone. The interface is what stays: a
trained classifier takes the place of the body.
"""

from dataclasses import dataclass
from typing import Literal

from concierge.assistant.schemas import Request

Complexity = Literal["simple", "moderate", "complex"]
TaskKind = Literal["chat", "image", "vision", "agent"]

_MODERATE_CHARACTERS = 600
_COMPLEX_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class Classification:
    """`confidence` lies in 0..1; `reasons` are for inspection."""

    kind: TaskKind
    complexity: Complexity
    confidence: float
    reasons: tuple[str, ...]


def classify(request: Request) -> Classification:
    """Never fails: whatever a valid request holds, it has a kind."""
    if request.kind != "auto":
        kind: TaskKind = request.kind
        confidence, reason = 1.0, "kind chosen by the client"
    elif request.attachments:
        kind, confidence, reason = "vision", 0.6, "has attachments"
    else:
        kind, confidence, reason = "chat", 0.5, "text only"
    length = len(request.text)
    complexity: Complexity = "simple"
    if length > _COMPLEX_CHARACTERS:
        complexity = "complex"
    elif length > _MODERATE_CHARACTERS:
        complexity = "moderate"
    return Classification(kind, complexity, confidence, (reason, f"{length} characters"))
