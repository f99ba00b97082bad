"""Structured logs: one JSON object a line on standard error, as Cloud Logging reads them.

Message bodies, tokens and keys are never logged; ids and codes are.
"""

import json
import sys
import traceback
from datetime import UTC, datetime
from typing import Any


def log(severity: str, event: str, *, error: BaseException | None = None, **fields: Any) -> None:
    """Writes one line. `severity` is Cloud Logging's (INFO, WARNING, ERROR, CRITICAL); `event` is `noun.verb`."""
    record: dict[str, Any] = {
        "severity": severity,
        "event": event,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **fields,
    }
    if error is not None:
        record["error"] = type(error).__name__
        record["stack"] = "".join(traceback.format_exception(error))[-4000:]
    sys.stderr.write(json.dumps(record, default=str) + "\n")
    sys.stderr.flush()
