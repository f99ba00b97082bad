"""What the API is given; built in wiring.py."""

from dataclasses import dataclass

from firebase_admin import App

from concierge.ledger.service import Ledger


@dataclass(frozen=True, slots=True)
class ApiDeps:
    firebase_app: App
    ledger: Ledger
