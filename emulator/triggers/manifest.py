"""What a function declares of itself: the parts of the SDK's endpoint manifest that decide how it is run. Pure.

The shapes are those of `firebase_functions.private.manifest.ManifestEndpoint`, as the worker reports them in JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["event", "https", "callable", "task", "schedule", "blocking"]

# Cloud Run functions end after a minute unless they say otherwise.
TIMEOUT_SECONDS_DEFAULT = 60.0

_TRIGGER_KINDS: tuple[tuple[str, Kind], ...] = (
    ("eventTrigger", "event"),
    ("httpsTrigger", "https"),
    ("callableTrigger", "callable"),
    ("taskQueueTrigger", "task"),
    ("scheduleTrigger", "schedule"),
    ("blockingTrigger", "blocking"),
)


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
class EventTrigger:
    """What an event function listens to."""

    event_type: str
    filters: Mapping[str, str] = field(default_factory=dict)
    path_patterns: Mapping[str, str] = field(default_factory=dict)


def parse(endpoint: Mapping[str, Any]) -> FunctionSpec:
    """Reads one endpoint of the manifest. Raises ValueError for one without a trigger."""
    name = str(endpoint["entryPoint"])
    for key, kind in _TRIGGER_KINDS:
        trigger = endpoint.get(key)
        if trigger is not None:
            return FunctionSpec(
                name=name,
                kind=kind,
                trigger=trigger,
                regions=tuple(endpoint.get("region") or ()),
                timeout_seconds=float(endpoint.get("timeoutSeconds") or TIMEOUT_SECONDS_DEFAULT),
                concurrency=endpoint.get("concurrency"),
            )
    raise ValueError(f"function {name} declares no trigger")


def event_trigger(spec: FunctionSpec) -> EventTrigger:
    """The typed form of an event function's trigger."""
    assert spec.kind == "event"
    return EventTrigger(
        event_type=spec.trigger["eventType"],
        filters=dict(spec.trigger.get("eventFilters") or {}),
        path_patterns=dict(spec.trigger.get("eventFilterPathPatterns") or {}),
    )
