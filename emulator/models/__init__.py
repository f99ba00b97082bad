"""The offline model server: an OpenAI-compatible server that needs no network, no key and no model."""

from emulator.models.server import ModelServer

__all__ = ["ModelServer"]
