"""Usage of all accounts."""

from concierge import wiring


def roll_up() -> None:
    wiring.usage_rollup().run()
