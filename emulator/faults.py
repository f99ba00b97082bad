"""Faults on demand: what the platform does on a bad day, switched on by tests and chaos runs through the hub.

A service asks `plan.take(target)` where it is about to act and obeys what it gets. Targets in use:

    firestore.<Rpc>      an RPC of Firestore, "firestore.Commit" for one
    rtdb.<METHOD>        a REST call of the Realtime Database
    storage.<METHOD>     a call of Cloud Storage
    trigger.<function>   one delivery of an event to a function
    models.<endpoint>    a call of the offline model server
"""

from dataclasses import dataclass, replace
from typing import Literal

Action = Literal["error", "error_after", "abort", "drop", "duplicate", "delay"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the next `count` uses of `target`, after letting `skip` uses pass.

    error: refused before anything happened. error_after: applied, but the caller is told it failed (a lost answer).
    abort: refused as under contention, which clients meet with other retries than an outage (Firestore only).
    drop: a delivery that never arrives. duplicate: one that arrives twice. delay: one that arrives `delay_ms` late.
    """

    target: str
    action: Action
    count: int = 1
    skip: int = 0
    delay_ms: int = 0


class FaultPlan:
    """The faults still to come, in the order in which they were added."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    @property
    def is_empty(self) -> bool:
        """Whether all of them have been met."""
        return not self._faults

    def take(self, target: str) -> Fault | None:
        """The fault that this use of the target meets, if any; uses it up."""
        for index, fault in enumerate(self._faults):
            if fault.target != target:
                continue
            if fault.skip > 0:
                self._faults[index] = replace(fault, skip=fault.skip - 1)
                return None
            if fault.count <= 1:
                del self._faults[index]
            else:
                self._faults[index] = replace(fault, count=fault.count - 1)
            return fault
        return None
