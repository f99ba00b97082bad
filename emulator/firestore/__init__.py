"""Cloud Firestore over gRPC: pure state (values, store, writes, queries, transactions) beside the protocol (server)."""

from emulator.firestore.server import FirestoreServer

__all__ = ["FirestoreServer"]
