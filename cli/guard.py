"""What keeps an operator's command from running is told in one line."""

import sys
from collections.abc import Callable

from google.api_core import exceptions as google_exceptions
from google.auth import exceptions as auth_exceptions

from concierge.errors import ConciergeError


class Misuse(Exception):
    """An option that cannot be used; the message names it."""


def guarded(command: str, run: Callable[[], int]) -> int:
    """Runs a command for its exit code; 2 for whatever kept it from running."""
    try:
        return run()
    except (Misuse, OSError) as error:
        reason = str(error)
    except ConciergeError as error:
        reason = error.message
    except (google_exceptions.GoogleAPICallError, auth_exceptions.GoogleAuthError) as error:
        reason = f"{type(error).__name__}: {error}"[:300]
    print(f"concierge ledger {command}: {reason}", file=sys.stderr)
    return 2
