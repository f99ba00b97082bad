"""What a function declares of itself: the parts of the SDK's endpoint manifest that decide how it is run. Pure.

The shapes are those of `firebase_functions.private.manifest.ManifestEndpoint`, as the worker reports them in JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.functions import TIMEOUT_SECONDS_DEFAULT, FunctionSpec, Kind

_TRIGGER_KINDS: tuple[tuple[str, Kind], ...] = (
    ("eventTrigger", "event"),
    ("httpsTrigger", "https"),
    ("callableTrigger", "callable"),
    ("taskQueueTrigger", "task"),
    ("scheduleTrigger", "schedule"),
    ("blockingTrigger", "blocking"),
)


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
