"""Anomalies: what the rules allow, and somebody should look at. Pure.

    LARGE_CREDIT        a grant, purchase, refund or adjustment above a size
    MANY_ADJUSTMENTS    more adjustments of one account in a day than anybody should need
    MANY_CREDITS        more grants and refunds to one account in a day than anybody should get
    DEBT                a clawback left the account below zero
    UNUSUAL_BURN        the account spent a multiple of what it usually spends in a day
    HOLD_OVERDUE        a hold is open long after its time: the sweeper does not run, or does not reach it

What is remembered of an account are a few numbers: {day, adjustments, credits, burnt, usual, days}; `usual` is a moving
average of the days on which it spent something, in microcredits. Each count is told once a day, by the entry that went
beyond its threshold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from concierge.ledger.transfers import COUNTER_FREEZE, COUNTER_UNFREEZE

_LEARNING_DAYS = 3
"""So many days with spending make a habit."""
_MEMORY = 0.2
"""The weight of the newest day in the average."""
_GIFTS = frozenset({"grant", "refund"})
_CREDITS = _GIFTS | {"purchase", "adjust"}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Amounts in microcredits, counts in a day (UTC)."""

    credit_max: int
    adjustments_max: int
    credits_max: int
    burn_factor: int
    burn_min: int


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One of them, at one entry."""

    seq: int
    code: str
    message: str


def observe(
    habits: Mapping[str, Any], entries: Iterable[Mapping[str, Any]], thresholds: Thresholds
) -> tuple[dict[str, Any], list[Anomaly]]:
    """What is remembered after these entries, and what is unusual about them. `entries` are the fields of verified
    entries, in their order."""
    memory = {"day": "", "adjustments": 0, "credits": 0, "burnt": 0, "usual": 0, "days": 0, **habits}
    found: list[Anomaly] = []
    debt_before = bool(memory.get("debt", False))
    for fields in entries:
        day = str(fields["at"])[:10]
        if day > memory["day"]:
            _turn(memory, day)
        found += _of_entry(memory, fields, thresholds)
        in_debt = fields["postedAfter"] < 0
        if in_debt and not debt_before:
            found.append(
                Anomaly(fields["seq"], "DEBT", f"the account is {-fields['postedAfter']} microcredits in debt")
            )
        debt_before = in_debt
    memory["debt"] = debt_before
    return memory, found


def _turn(memory: dict[str, Any], day: str) -> None:
    """Another day begins."""
    if memory["burnt"]:
        weight = _MEMORY if memory["days"] else 1.0
        memory["usual"] = int(memory["usual"] + weight * (memory["burnt"] - memory["usual"]))
        memory["days"] += 1
    memory.update(day=day, adjustments=0, credits=0, burnt=0)


def _of_entry(memory: dict[str, Any], fields: Mapping[str, Any], thresholds: Thresholds) -> list[Anomaly]:
    kind, amount, seq = fields["kind"], fields["amount"], fields["seq"]
    found: list[Anomaly] = []
    if kind in _CREDITS and abs(amount) > thresholds.credit_max:
        found.append(Anomaly(seq, "LARGE_CREDIT", f"a {kind} of {amount} microcredits against {fields['counter']}"))
    if kind == "adjust" and fields["counter"] not in (COUNTER_FREEZE, COUNTER_UNFREEZE):
        memory["adjustments"] += 1
        if memory["adjustments"] == thresholds.adjustments_max + 1:
            found.append(Anomaly(seq, "MANY_ADJUSTMENTS", f"{memory['adjustments']} adjustments on {memory['day']}"))
    if kind in _GIFTS:
        memory["credits"] += 1
        if memory["credits"] == thresholds.credits_max + 1:
            found.append(Anomaly(seq, "MANY_CREDITS", f"{memory['credits']} grants and refunds on {memory['day']}"))
    if kind == "capture":
        limit = max(thresholds.burn_min, thresholds.burn_factor * memory["usual"])
        before, memory["burnt"] = memory["burnt"], memory["burnt"] + amount
        if memory["days"] >= _LEARNING_DAYS and before <= limit < memory["burnt"]:
            message = f"{memory['burnt']} microcredits on {memory['day']}, usually {memory['usual']} a day"
            found.append(Anomaly(seq, "UNUSUAL_BURN", message))
    return found
