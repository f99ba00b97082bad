"""The embedded Realtime Database: pure state (tree, rules, query, database) beside its protocols (rest, sse)."""

from emulator.rtdb.server import RtdbServer

__all__ = ["RtdbServer"]
