"""Checkpoints of the ledger."""

from concierge import wiring


def publish() -> None:
    wiring.checkpoint_publisher().run()
