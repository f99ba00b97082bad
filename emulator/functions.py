"""What the embedded services know of Cloud Functions: which there are, and what delivering to one takes and gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Kind = Literal["event", "https", "callable", "task", "schedule", "blocking"]
Origin = Literal["event", "task", "schedule"]
Result = Literal["ok", "failed", "timeout", "lost", "dropped", "refused", "unavailable", "too_large"]

# Functions end after a minute unless they say otherwise.
TIMEOUT_SECONDS_DEFAULT = 60.0


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One discovered function. `trigger` is the manifest's trigger object of its kind, without nulls."""

    name: str
    kind: Kind
    trigger: Mapping[str, Any]
    regions: tuple[str, ...] = ()
    timeout_seconds: float = TIMEOUT_SECONDS_DEFAULT
    concurrency: int | None = None

    @property
    def retry(self) -> bool:
        """True if a failed event is delivered again; the SDK hard-codes False for RTDB and Firestore."""
        return self.kind == "event" and self.trigger.get("retry") is True

    @property
    def reachable(self) -> bool:
        """True if it answers at the public URL; the platform lets only its own services call the others."""
        return self.kind in ("https", "callable")

    def serves(self, region: str, default_region: str) -> bool:
        return region in (self.regions or (default_region,))


@dataclass(frozen=True, slots=True)
class Message:
    """What is delivered. `event_id` is the same in each redelivery; `attempt` counts from 1."""

    function: str
    origin: Origin
    event_id: str
    headers: Mapping[str, str]
    body: bytes
    attempt: int = 1
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one delivery ended. `status` is the function's HTTP status, None if no answer of it was received.

    failed: it answered, but not with 2xx. lost: its process died, or its answer never arrived. dropped, refused: by a
    fault, before it ran. unavailable: the functions are stopped or did not load. too_large: it was never sent.
    """

    result: Result
    status: int | None = None

    @property
    def ok(self) -> bool:
        return self.result == "ok"


class Functions(Protocol):
    """The functions there are."""

    @property
    def functions(self) -> Mapping[str, FunctionSpec]:
        """By name; those of the latest process that loaded."""

    @property
    def log(self) -> Callable[[str], None]:
        """Takes a line for the log of the functions."""

    def on_ready(self, listener: Callable[[Mapping[str, FunctionSpec]], None]) -> None:
        """Calls the listener each time the functions were loaded, and now if they are."""


class Courier(Protocol):
    """Delivers messages to functions."""

    async def deliver(self, message: Message) -> Outcome:
        """Makes one attempt. Never raises; waits while the functions are starting."""
