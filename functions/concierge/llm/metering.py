"""What every call of a model provider is for, and who pays for it. A literal table: a purpose that is not in it cannot
be called for.

metered   within a hold of the person whose request it serves; its tokens are captured
free      ours to bear, on purpose
"""

from collections.abc import Mapping
from typing import Literal

Purpose = Literal["answer", "model-list"]
Policy = Literal["metered", "free"]

POLICIES: Mapping[str, Policy] = {
    # The answer to a request, in all of its attempts: what is charged is the one that the person got.
    "answer": "metered",
    # What the provider offers, asked by the command line. It takes no tokens.
    "model-list": "free",
}


class UndeclaredPurpose(Exception):
    """A programmer's error: a call that nobody has decided who pays for."""


def policy_of(purpose: str) -> Policy:
    """Raises UndeclaredPurpose."""
    if purpose not in POLICIES:
        raise UndeclaredPurpose(f"no policy says who pays for calls for {purpose!r}")
    return POLICIES[purpose]
