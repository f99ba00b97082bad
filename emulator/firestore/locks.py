"""Exclusive locks with fair queues, and the detection of deadlocks. Pure but for the futures that waiters sleep on.

A lock goes to the most senior waiter: seniority is the order in which transactions began, and a retried transaction
keeps the place of its first attempt, so that everybody gets there in the end. When waiters wait for each other in a
circle, the youngest of them that can go on without its locks loses them at once. All calls belong to one event loop.
"""

import asyncio
from bisect import insort
from collections.abc import Iterable
from enum import Enum
from typing import Final


class Outcome(Enum):
    GRANTED = "granted"
    LOST = "lost"
    """The owner lost its locks to a more senior one, or gave them up itself, while it was waiting."""
    TIMEOUT = "timeout"


class Owner:
    """Whoever holds locks or waits for them."""

    def __init__(self, seniority: int) -> None:
        self.seniority: Final = seniority
        self.held: set[str] = set()
        self.waits: list[Wait] = []
        self.generation = 0
        """Grows whenever all locks are released."""

    @property
    def can_lose(self) -> bool:
        """True if lose() may be called to resolve a deadlock."""
        return False

    def lose(self) -> None:
        """Has to release all locks of this owner."""
        raise AssertionError("this owner cannot lose its locks")


class Wait:
    """One place in the queue for one lock."""

    __slots__ = ("future", "key", "owner")

    def __init__(self, owner: Owner, key: str, future: "asyncio.Future[Outcome]") -> None:
        self.owner = owner
        self.key = key
        self.future = future


class LockTable:
    """All locks. There is a queue for a key only while somebody holds it."""

    def __init__(self) -> None:
        self._holders: dict[str, Owner] = {}
        self._queues: dict[str, list[Wait]] = {}

    def waiting(self) -> int:
        """How many places in all queues are taken."""
        return sum(map(len, self._queues.values()))

    def is_held(self, key: str) -> bool:
        return key in self._holders

    def is_blocked(self, owner: Owner, key: str) -> bool:
        """True if somebody else holds the lock."""
        holder = self._holders.get(key)
        return holder is not None and holder is not owner

    async def acquire(self, owner: Owner, keys: Iterable[str], timeout_s: float) -> Outcome:
        """Takes the locks one after the other; those already taken are kept whatever the outcome, unless it is LOST.

        Runs to its end without suspending as long as every lock is free.
        """
        generation = owner.generation
        deadline: float | None = None
        for key in keys:
            holder = self._holders.get(key)
            if holder is None:
                self._grant(owner, key)
            elif holder is not owner:
                if deadline is None:
                    deadline = asyncio.get_running_loop().time() + timeout_s
                outcome = await self._wait(owner, key, deadline)
                if owner.generation != generation:
                    return Outcome.LOST
                if outcome is not Outcome.GRANTED:
                    return outcome
        return Outcome.GRANTED

    def release_all(self, owner: Owner) -> None:
        """Gives up every lock and every place in a queue."""
        owner.generation += 1
        for wait in owner.waits:
            self._queues[wait.key].remove(wait)
            wait.future.set_result(Outcome.LOST)
        owner.waits.clear()
        held = sorted(owner.held)
        owner.held.clear()
        for key in held:
            self._hand_over(key)

    def _grant(self, owner: Owner, key: str) -> None:
        self._holders[key] = owner
        owner.held.add(key)

    def _hand_over(self, key: str) -> None:
        queue = self._queues.get(key)
        if not queue:
            self._queues.pop(key, None)
            del self._holders[key]
            return
        wait = queue.pop(0)
        wait.owner.waits.remove(wait)
        self._grant(wait.owner, key)
        wait.future.set_result(Outcome.GRANTED)

    async def _wait(self, owner: Owner, key: str, deadline: float) -> Outcome:
        loop = asyncio.get_running_loop()
        wait = Wait(owner, key, loop.create_future())
        insort(self._queues.setdefault(key, []), wait, key=lambda place: place.owner.seniority)
        owner.waits.append(wait)
        timer = loop.call_at(deadline, self._leave, wait, Outcome.TIMEOUT)
        self._break_deadlocks(owner)
        try:
            return await wait.future
        finally:
            timer.cancel()
            if wait in owner.waits:
                # Only a cancelled task comes here while it still has its place.
                self._leave(wait, Outcome.LOST)

    def _leave(self, wait: Wait, outcome: Outcome) -> None:
        if wait not in wait.owner.waits:
            return
        self._queues[wait.key].remove(wait)
        wait.owner.waits.remove(wait)
        if not wait.future.done():
            wait.future.set_result(outcome)

    def _break_deadlocks(self, owner: Owner) -> None:
        # Only the new place in a queue can have closed a circle, so that every circle goes through its owner.
        while circle := self._find_circle(owner):
            losers = [member for member in circle if member.can_lose]
            if not losers:
                return
            max(losers, key=lambda member: member.seniority).lose()

    def _find_circle(self, start: Owner) -> list[Owner]:
        """The owners on a way of waiting from an owner back to itself; empty if there is none."""
        came_from: dict[Owner, Owner] = {}
        seen_places: dict[str, int] = {}
        pending = [start]
        while pending:
            owner = pending.pop()
            for wait in owner.waits:
                for ahead in self._ahead_of(wait, seen_places):
                    if ahead is start:
                        circle = [owner]
                        while owner is not start:
                            owner = came_from[owner]
                            circle.append(owner)
                        return circle
                    if ahead not in came_from:
                        came_from[ahead] = owner
                        pending.append(ahead)
        return []

    def _ahead_of(self, wait: Wait, seen_places: dict[str, int]) -> list[Owner]:
        """Whom a waiter waits for: the holder and those before it in the queue, each told once for each queue."""
        queue = self._queues[wait.key]
        place = queue.index(wait)
        first = seen_places.get(wait.key)
        owners = [self._holders[wait.key]] if first is None else []
        first = first or 0
        owners += [other.owner for other in queue[first:place]]
        seen_places[wait.key] = max(first, place)
        return [owner for owner in owners if owner is not wait.owner]
