"""Where a call comes from, as far as it can be believed."""

from flask import request

from concierge.api.context import deps


def caller_network() -> str | None:
    """The caller's address, None if it cannot be told.

    Google's front end appends the address that it saw to X-Forwarded-For; everything to the left of what trusted
    proxies appended is the client's own invention.
    https://cloud.google.com/functions/docs/reference/headers
    """
    trusted = deps().settings.trusted_proxies
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    if trusted == 0 or not hops:
        # Nobody stands in between who would have said more; what the header says then is the client's invention.
        return request.remote_addr
    return hops[-trusted] if len(hops) >= trusted else None
