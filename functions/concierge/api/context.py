"""What the API is given; built in wiring.py.

What not every call needs is a function, so that a cold start does not pay for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from firebase_admin import App
from flask import current_app

from concierge.config import Settings
from concierge.credits.bonus.reviews import BonusReviews
from concierge.credits.bonus.service import WelcomeBonus
from concierge.credits.exports.service import AccountExports
from concierge.credits.low_balance.service import LowBalance
from concierge.credits.mirror import BalanceMirror
from concierge.credits.usage.service import Usage
from concierge.ledger.audit import Auditor
from concierge.ledger.checkpoints.service import Checkpoints
from concierge.ledger.integrity.service import Integrity
from concierge.ledger.service import Ledger


@dataclass(frozen=True, slots=True)
class ApiDeps:
    """`estimate` takes a request as a client would write it, and gives the assistant's Estimate of it."""

    firebase_app: App
    settings: Settings
    ledger: Ledger
    checkpoints: Checkpoints
    firestore: Callable[[], Any]
    bonus: Callable[[], WelcomeBonus]
    bonus_reviews: Callable[[], BonusReviews]
    mirror: Callable[[], BalanceMirror]
    exports: Callable[[], AccountExports]
    auditor: Callable[[], Auditor]
    usage: Callable[[], Usage]
    low_balance: Callable[[], LowBalance]
    estimate: Callable[[dict[str, Any]], Any]
    integrity: Callable[[], Integrity]


def deps() -> ApiDeps:
    """Those of the application that serves the current request."""
    found: ApiDeps = current_app.extensions["concierge"]
    return found
