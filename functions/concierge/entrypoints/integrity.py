"""The validation of the ledger, and its backup."""

from concierge import wiring


def validate() -> None:
    wiring.integrity().validate()


def backup() -> None:
    wiring.integrity().backups.run()
