"""The welcome bonus: granted once to an account, which this opens."""

from dataclasses import dataclass

from concierge.ledger.service import Ledger, Posting

WELCOME_OP_ID = "welcome-bonus"
COUNTER_BONUS = "expense:bonus"


@dataclass(frozen=True, slots=True)
class WelcomeBonus:
    """`amount` in microcredits; 0 switches the bonus off, and accounts then open with their first purchase."""

    ledger: Ledger
    amount: int

    def open_account(self, uid: str) -> Posting | None:
        """Grants the bonus unless the account has had it; however many callers there are, one grant comes of it.

        None if the bonus is switched off. Raises Unavailable.
        """
        if self.amount == 0:
            return None
        existing = self.ledger.outcome(uid, WELCOME_OP_ID)
        if existing is not None:
            # The amount may have been changed by a deploy since; the account keeps what it was given.
            return Posting(existing, replayed=True)
        return self.ledger.credit(uid, op_id=WELCOME_OP_ID, kind="grant", amount=self.amount, counter=COUNTER_BONUS)
