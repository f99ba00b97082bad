"""The embedded Firebase Authentication: accounts, signed ID tokens, Google's REST API for clients and admins."""

from emulator.auth.rest import AuthServer
from emulator.auth.tokens import TokenAuthority

__all__ = ["AuthServer", "TokenAuthority"]
