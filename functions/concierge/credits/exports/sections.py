"""What an export holds beside the ledger's own documents. A feature adds a section by one more (name, callable) pair in
wiring.py."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

from concierge.credits.bonus.repository import BonusRepository
from concierge.credits.exports.service import Section
from concierge.credits.exports.verification import LEAF_SECTION
from concierge.credits.mirror import BalanceMirror
from concierge.kit.timestamps import rfc3339
from concierge.ledger.checkpoints.service import Checkpoints

_DECIDED = ("state", "at", "decidedAt")
_INTERNAL = (*_DECIDED, "points", "reasons", "decidedBy", "note")


def published(checkpoints: Checkpoints) -> Section:
    """`{leaf: {seq, hash, index, checkpoint}, receipts}`: up to which entry the account is in the log, and where the
    receipts of its entries are; null before the first checkpoint."""

    def read(uid: str) -> Any:
        leaf = checkpoints.latest_leaf(uid)
        if leaf is None:
            return None
        shown = {"seq": leaf.seq, "hash": leaf.hash, "index": leaf.index, "checkpoint": leaf.checkpoint}
        return {"leaf": shown, "receipts": f"/api/v1/accounts/{quote(uid, safe='')}/ledger/entries/{{seq}}/receipt"}

    return LEAF_SECTION, read


def mirror(balances: BalanceMirror) -> Section:
    """What the Realtime Database shows as the balance."""
    return "mirror", balances.shown


def bonus_claims(repository: BonusRepository) -> Section:
    """`[{hash, at}]`: the keyed hashes of identities and devices under which the bonus was claimed."""

    def read(uid: str) -> Any:
        return [{"hash": digest, "at": rfc3339(document["at"])} for digest, document in repository.claims_of(uid)]

    return "bonusClaims", read


def bonus_review(repository: BonusRepository, *, internal: bool) -> Section:
    """That a bonus was withheld, and what was decided. Why is internal: it would tell a farm what to change."""
    names = _INTERNAL if internal else _DECIDED

    def read(uid: str) -> Any:
        document = repository.review_reference(uid).get().to_dict()
        if document is None:
            return None
        return {
            name: rfc3339(value) if isinstance(value, datetime) else value
            for name in names
            if (value := document.get(name)) is not None
        }

    return ("bonusReviewInternal" if internal else "bonusReview"), read
