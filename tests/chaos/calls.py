"""What was sent and what was answered: all that the auditor knows beside the stored documents."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

POSTINGS = ("credit", "clawback", "adjust", "freeze", "unfreeze", "transfer")
HOLD_ACTIONS = ("hold", "extend", "take_over", "capture", "release", "expire")

Said = Literal["done", "refused", "conflict", "expired", "missing", "invalid", "unanswered", "crashed"]
"""done: with values. refused: not covered, which is stored. conflict, expired, missing, invalid: typed errors.
unanswered: Unavailable; it may have happened, or not. crashed: nobody was left to answer; the same."""


@dataclass(frozen=True, slots=True)
class Answer:
    said: Said
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = {key: value for key, value in self.values.items() if key not in ("hash", "hashes")}
        if "expires_at" in shown:
            shown["expires_at"] = shown["expires_at"].isoformat(timespec="milliseconds")
        return self.said + (f" {shown}" if shown else "")


@dataclass(frozen=True, slots=True)
class Seen:
    """The stored documents at the moment when a call was sent, or ended: each account's last entry, and the hold's
    state, fence and expiresAt if it is about a hold that exists."""

    seqs: Mapping[str, int]
    hold: Mapping[str, Any] | None


@dataclass(slots=True)
class Call:
    """One operation sent once. The same operation sent again is another call with the same id.

    `now_min` and `now_max` are the times that the instance's clock showed while it ran. `rpcs` are the calls of
    Firestore that it made, `late` those of them that are still on their way.
    """

    number: int
    instance: str
    action: str
    accounts: tuple[str, ...]
    id: str
    body: Mapping[str, Any]
    before: Seen
    now_min: datetime
    now_max: datetime
    after: Seen | None = None
    answer: Answer | None = None
    rpcs: int = 0
    late: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def uid(self) -> str:
        """The account; of a transfer, the paying one."""
        return self.accounts[0]

    @property
    def is_over(self) -> bool:
        """True once nothing of it can happen any more."""
        return self.answer is not None and self.late == 0

    @property
    def request(self) -> tuple[Any, ...]:
        """What has to be the same for this to be the same operation again."""
        if self.action == "hold":
            return ("hold", self.accounts, self.id, self.body["request_hash"])
        return (self.action, self.accounts, self.id, *sorted((key, repr(value)) for key, value in self.body.items()))

    @property
    def is_open_ended(self) -> bool:
        """True if it may have happened although nobody said so."""
        return self.answer is None or self.answer.said in ("unanswered", "crashed")

    def covers(self, uid: str, seq: int) -> bool:
        """Whether an entry of this number may have been written by this call."""
        return self.before.seqs[uid] < seq and (self.after is None or not self.is_over or seq <= self.after.seqs[uid])

    def __str__(self) -> str:
        told = ", ".join(f"{key}={value}" for key, value in self.body.items())
        faults = f" [{', '.join(self.faults)}]" if self.faults else ""
        where = "->".join(self.accounts)
        return f"#{self.number} {self.instance}: {self.action} {where}/{self.id} ({told}){faults} = {self.answer}"
