"""Cloud Storage over its JSON API: pure state (objects) beside the protocol (rest, uploads, server)."""

from emulator.storage.server import StorageServer

__all__ = ["StorageServer"]
