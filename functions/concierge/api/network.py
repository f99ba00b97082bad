"""Where a call comes from, as far as it can be believed."""

from flask import request

from concierge.api.support import deps


def caller_network() -> str | None:
    """The caller's address, None if it cannot be told.

    Google's front end appends the address that it saw to X-Forwarded-For; everything to the left of what trusted
    proxies appended is the client's own invention.
    https://cloud.google.com/functions/docs/reference/headers
    """
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    trusted = deps().settings.trusted_proxies
    if len(hops) >= trusted > 0:
        return hops[-trusted]
    return request.remote_addr if not hops else None
