"""The fault points of the code under test, and who makes instances die at each.

Every seed of the ledger's simulation aims at one of LEDGER_POINTS, in turns; every journey at one of JOURNEY_POINTS.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

FUNCTIONS = Path(__file__).resolve().parent.parent.parent / "functions" / "concierge"

_APPEND_POINTS = ("commit.before", "commit.after", "hold.after", "capture.before", "capture.after")
_CHECKPOINT_POINTS = (
    "checkpoint.uploaded",
    "checkpoint.decided",
    "checkpoint.tiled",
    "checkpoint.recorded",
    "checkpoint.published",
)
LEDGER_POINTS = _APPEND_POINTS + _CHECKPOINT_POINTS
# A seed with checkpoints takes twice as long.
_AIMS = _APPEND_POINTS + _CHECKPOINT_POINTS + _APPEND_POINTS
JOURNEY_POINTS = (
    "generation.after",
    "finish.before",
    "hold.after",
    "capture.before",
    "commit.after",
    "capture.after",
    "commit.before",
)
# Scheduled work and answers over HTTPS: tests of their own crash the functions at each of these.
TESTED_IN = {
    "answer": "flows/test_idempotency.py",
    "usage_rollup": "flows/test_usage.py",
    "low_balance": "flows/test_low_balance.py",
    "validation": "flows/test_validation.py",
    "backup": "flows/test_backup_repair.py",
    "repair": "flows/test_backup_repair.py",
}


def aim_of(seed: int) -> str:
    """The point at which an instance dies in this seed of the ledger's simulation, if it comes there often enough."""
    return _AIMS[seed % len(_AIMS)]


def find_points() -> Iterator[tuple[str, str]]:
    """Every `fault_point` of the sources: its name, and the file in which it is."""
    for path in sorted(FUNCTIONS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and "fault_point" in (
                getattr(node.func, "id", None),
                getattr(node.func, "attr", None),
            ):
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno} computes a fault point's name"
                yield str(node.args[0].value), str(path.relative_to(FUNCTIONS))
