"""What the rules say about one operation, and why."""

import json
from dataclasses import dataclass
from typing import Literal

from emulator.contracts import RtdbPath

RuleKind = Literal[".read", ".write", ".validate"]


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was evaluated. `rule_path` is as written ("/users/$uid"), `location` as requested ("/users/ann").

    `error` says why an expression could not be evaluated, which counts as false. `depends_on_data` is true if the same
    question may be answered differently after another commit.
    """

    kind: RuleKind
    rule_path: str
    location: RtdbPath
    expression: str
    result: bool
    error: str | None = None
    depends_on_data: bool = False

    def __str__(self) -> str:
        outcome = "true" if self.result else f"false ({self.error})" if self.error else "false"
        rule = f"{self.kind} of {self.rule_path or '/'}"
        return f"{rule} at {path_text(self.location)}: {json.dumps(self.expression)} is {outcome}"


@dataclass(frozen=True, slots=True)
class Decision:
    """`path` is the location that was refused, or the first one of an operation that was allowed.

    `decisive` is the rule that decided: the one that granted, or the .validate that refused; None if nothing granted.
    """

    operation: Literal["read", "write"]
    path: RtdbPath
    allowed: bool
    decisive: Step | None
    steps: tuple[Step, ...]

    def explain(self) -> str:
        """Lines for a person: the outcome, why, and every rule that was evaluated on the way."""
        outcome = "allowed" if self.allowed else "denied"
        if self.decisive is not None:
            why = f"decided by {self.decisive}"
        else:
            why = f"no .{self.operation} rule on the way to this location is true"
        return "\n".join(
            [f"{self.operation} of {path_text(self.path)} {outcome}: {why}", *(f"  {step}" for step in self.steps)]
        )


def path_text(path: RtdbPath) -> str:
    return "/" + "/".join(path)
