"""Clients of Cloud Storage of which nothing is left open."""

import gc
import threading
import warnings

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from support.waiting import PATIENCE_SECONDS

# The library looks at buckets in threads of its own (_bucket_metadata_cache.py), named after what they do.
_LOOKING = ("(_fetch_background)", "(_verify_existence_background)")


def open_client(project: str) -> storage.Client:
    """A client with its session, which two threads that come first would make twice; STORAGE_EMULATOR_HOST says
    where."""
    client = storage.Client(project=project, credentials=AnonymousCredentials())
    assert client._http is not None
    return client


def close_client(client: storage.Client) -> None:
    """A closed client leaves its connections to the garbage collector, which warns of them; so they are collected here,
    rather than in whichever test comes next."""
    for thread in threading.enumerate():
        if thread.name.endswith(_LOOKING):
            thread.join(PATIENCE_SECONDS)
    client.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
