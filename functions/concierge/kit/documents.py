"""Thousands of Firestore documents at once, as the protocol's own messages.

The client library wraps each document that it reads in objects which take about three times as long to make as the
document takes to come. For what reads thousands in one go, this reads them without; one document at a time is read with
the library as everywhere else. The calls are the library's own, with its retries, so it needs names of it that are not
public; tests/kit/test_documents.py tells when they change.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.cloud import firestore
from google.cloud.firestore_v1.types import (
    BatchGetDocumentsRequest,
    BatchGetDocumentsResponse,
    RunQueryRequest,
    RunQueryResponse,
)


@dataclass(frozen=True, slots=True)
class RawDocument:
    """A document that exists: its id, its fields as messages of type `google.firestore.v1.Value` by name, and its
    update time as a `google.protobuf.Timestamp`, which preconditions take."""

    id: str
    fields: Any
    update_time: Any


def stream_query(client: firestore.Client, query: Any, read_time: datetime | None = None) -> Iterator[RawDocument]:
    """What a query on a collection at the root finds, in its order; as of a moment of the last hour, if one is
    given."""
    request = RunQueryRequest(
        parent=f"{client._database_string}/documents", structured_query=query._to_protobuf(), read_time=read_time
    )
    for response in client._firestore_api.run_query(request=request, metadata=client._rpc_metadata):
        message = RunQueryResponse.pb(response)
        if message.HasField("document"):
            yield _raw(message.document)


def get_documents(
    client: firestore.Client, references: Sequence[Any], read_time: datetime | None = None
) -> Iterator[RawDocument]:
    """Those of these documents that exist, in any order; as of a moment of the last hour, if one is given."""
    names = [f"{client._database_string}/documents/{reference.path}" for reference in references]
    request = BatchGetDocumentsRequest(database=client._database_string, documents=names, read_time=read_time)
    for response in client._firestore_api.batch_get_documents(request=request, metadata=client._rpc_metadata):
        message = BatchGetDocumentsResponse.pb(response)
        if message.HasField("found"):
            yield _raw(message.found)


def _raw(document: Any) -> RawDocument:
    return RawDocument(document.name.rpartition("/")[2], document.fields, document.update_time)
