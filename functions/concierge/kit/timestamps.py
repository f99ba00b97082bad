"""Times as text."""

from datetime import UTC, datetime


def rfc3339(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, the rest cut off: `2026-01-31T23:59:59.123Z`. `at` has a zone."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
