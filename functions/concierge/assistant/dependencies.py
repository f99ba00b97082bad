"""What the journey is given; built in wiring.py."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from concierge.assistant.repository import Responses
from concierge.config import Settings
from concierge.credits.bonus.service import WelcomeBonus
from concierge.credits.mirror import BalanceMirror
from concierge.credits.usage.recorder import UsageRecorder
from concierge.ledger.service import Ledger
from concierge.llm.openai_compatible import OpenAICompatibleProvider
from concierge.models.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class AssistantDeps:
    """`provider` is a function, so that the provider's package loads while the hold is placed. `beside` runs what need
    not be waited for in line."""

    settings: Settings
    ledger: Ledger
    bonus: WelcomeBonus
    mirror: BalanceMirror
    usage: UsageRecorder
    responses: Responses
    catalogue: Catalogue
    provider: Callable[[], OpenAICompatibleProvider]
    beside: Executor
    default_model: str
    now_ms: Callable[[], int]
