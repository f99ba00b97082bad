"""The welcome bonus and the balance mirror."""

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
        wiring.mirror().apply(uid, head_from_document(document))


def repair_mirrors() -> None:
    mirror_repair.repair(wiring.mirror(), wiring.change_feed())
