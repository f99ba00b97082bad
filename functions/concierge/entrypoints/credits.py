"""The welcome bonus, the balance mirror and who follows balances."""

from typing import Any

from concierge import wiring
from concierge.credits import mirror_repair
from concierge.kit.logging import log
from concierge.ledger.repository import head_from_document


def welcome(uid: str) -> None:
    outcome = wiring.bonus().claim(uid, None, remember=True)
    log("INFO", "bonus.claimed", uid=uid, state=outcome.state)


def mirror_account(uid: str, after: Any) -> None:
    """`after` is a DocumentSnapshot, None or without data for a deleted account."""
    document = after.to_dict() if after is not None else None
    if document is not None:
        head = head_from_document(document)
        wiring.mirror().apply(uid, head)
        wiring.low_balance().note(uid, head)


def repair_mirrors() -> None:
    mirror_repair.repair(wiring.mirror(), wiring.change_feed(), wiring.low_balance().note)
