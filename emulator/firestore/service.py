"""The RPCs of Firestore over the pure state: requests in, responses out, without grpc.

Unary calls are coroutines that return a message, streaming ones are asynchronous generators of messages; both raise
FirestoreError. Source: google/firestore/v1/firestore.proto.
"""

import secrets
import string
from collections.abc import AsyncIterator
from typing import Any

from emulator.firestore.documents import StoredDocument, set_timestamp, timestamp_us
from emulator.firestore.errors import FirestoreError, InvalidArgument, NotFound
from emulator.firestore.indexes import Indexes
from emulator.firestore.listing import collection_query, list_documents, page
from emulator.firestore.names import (
    FieldPath,
    check_collection_id,
    check_same_root,
    database_root,
    document_name,
    field_path,
    parent_root,
)
from emulator.firestore.protocol import (
    BatchGetDocumentsResponse,
    BatchWriteResponse,
    BeginTransactionResponse,
    CommitResponse,
    Document,
    Empty,
    ListCollectionIdsResponse,
    RunAggregationQueryResponse,
    RunQueryResponse,
    Write,
)
from emulator.firestore.query import compile_aggregation, compile_query
from emulator.firestore.store import DocumentStore, View
from emulator.firestore.transactions import Transaction, Transactions
from emulator.firestore.writes import target_names

_ID_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 20


class FirestoreService:
    """All unary and server-streaming calls."""

    def __init__(self, store: DocumentStore, transactions: Transactions, indexes: Indexes | None = None) -> None:
        self._store = store
        self._transactions = transactions
        self._indexes = indexes

    async def get_document(self, request: Any) -> Any:
        name = document_name(request.name)
        transaction = self._reading_transaction(request, name.root)
        view = await self._view(request, transaction, [name.name])
        document = view.get(name.name)
        if document is None:
            raise NotFound(f'Document "{name.name}" not found.')
        return document.masked(_mask(request))

    async def batch_get_documents(self, request: Any) -> AsyncIterator[Any]:
        root = database_root(request.database)
        names = list(dict.fromkeys(request.documents))
        for name in names:
            document_name(name)
            check_same_root(name, root)
        mask = _mask(request)
        transaction = self._reading_transaction(request, root)
        if request.HasField("new_transaction") and transaction is not None:
            yield BatchGetDocumentsResponse(transaction=transaction.id)
        view = await self._view(request, transaction, names)
        read_us = self._read_us(request, transaction)
        for name in names:
            response = BatchGetDocumentsResponse()
            document = view.get(name)
            if document is None:
                response.missing = name
            else:
                response.found.CopyFrom(document.masked(mask))
            set_timestamp(response.read_time, read_us)
            yield response

    async def begin_transaction(self, request: Any) -> Any:
        options = request.options if request.HasField("options") else None
        transaction = self._transactions.begin(database_root(request.database), options)
        return BeginTransactionResponse(transaction=transaction.id)

    async def rollback(self, request: Any) -> Any:
        database_root(request.database)
        self._transactions.rollback(request.transaction)
        return Empty()

    async def commit(self, request: Any) -> Any:
        root = database_root(request.database)
        transaction = self._transactions.find(root, request.transaction) if request.transaction else None
        result, commit_us = await self._transactions.commit(root, request.writes, transaction)
        response = CommitResponse(write_results=result.results)
        set_timestamp(response.commit_time, commit_us)
        return response

    async def batch_write(self, request: Any) -> Any:
        """Applies each write on its own; the result tells of each whether it was."""
        root = database_root(request.database)
        names = target_names(request.writes, root)
        if len(set(names)) < len(names):
            raise InvalidArgument("the same document cannot be written more than once in a single request")
        response = BatchWriteResponse()
        for write in request.writes:
            status = response.status.add()
            write_result = response.write_results.add()
            try:
                result, _ = await self._transactions.commit(root, [write])
            except FirestoreError as error:
                status.code = error.code
                status.message = error.message
            else:
                write_result.CopyFrom(result.results[0])
        return response

    async def create_document(self, request: Any) -> Any:
        root = parent_root(request.parent)
        check_collection_id(request.collection_id)
        document_id = request.document_id or "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
        write = Write(update=request.document)
        write.update.name = f"{request.parent}/{request.collection_id}/{document_id}"
        write.current_document.exists = False
        return await self._write_one(root, write, _mask(request))

    async def update_document(self, request: Any) -> Any:
        write = Write(update=request.document)
        if request.HasField("update_mask"):
            write.update_mask.CopyFrom(request.update_mask)
        if request.HasField("current_document"):
            write.current_document.CopyFrom(request.current_document)
        return await self._write_one(document_name(request.document.name).root, write, _mask(request))

    async def delete_document(self, request: Any) -> Any:
        write = Write(delete=request.name)
        if request.HasField("current_document"):
            write.current_document.CopyFrom(request.current_document)
        await self._transactions.commit(document_name(request.name).root, [write])
        return Empty()

    async def _write_one(self, root: str, write: Any, mask: list[FieldPath] | None) -> Any:
        await self._transactions.commit(root, [write])
        # Nothing suspends between the commit and here, so that this is the version that was written.
        document = self._store.get(write.update.name)
        return Document() if document is None else document.masked(mask)

    async def list_documents(self, request: Any) -> Any:
        root = parent_root(request.parent)
        if request.collection_id:
            check_collection_id(request.collection_id)
        transaction = self._reading_transaction(request, root)
        if transaction is None:
            return list_documents(self._store, self._snapshot_view(request), request, _mask(request))
        listed = compile_query(request.parent, collection_query(request.collection_id))
        await self._transactions.query(transaction, listed.selection, listed.run)
        view = transaction.snapshot or self._store
        return list_documents(self._store, view, request, _mask(request))

    async def list_collection_ids(self, request: Any) -> Any:
        parent_root(request.parent)
        found = self._store.collection_ids(request.parent)
        if request.page_token:
            found = [collection_id for collection_id in found if collection_id > request.page_token]
        ids, last = page(found, request.page_size)
        return ListCollectionIdsResponse(collection_ids=ids, next_page_token=last or "")

    async def run_query(self, request: Any) -> AsyncIterator[Any]:
        if not request.HasField("structured_query"):
            raise InvalidArgument("query_type is required")
        query = compile_query(request.parent, request.structured_query)
        if self._indexes is not None:
            self._indexes.check(query, request.structured_query)
        transaction = self._reading_transaction(request, parent_root(request.parent))
        if request.HasField("new_transaction") and transaction is not None:
            yield RunQueryResponse(transaction=transaction.id)
        if transaction is None:
            documents = query.run(self._snapshot_view(request))
        else:
            documents = await self._transactions.query(transaction, query.selection, query.run)
        read_us = self._read_us(request, transaction)
        last = len(documents) - 1
        for position, document in enumerate(documents):
            response = RunQueryResponse(document=document.masked(query.projection))
            set_timestamp(response.read_time, read_us)
            if position == last:
                response.done = True
            yield response
        if not documents:
            response = RunQueryResponse(done=True)
            set_timestamp(response.read_time, read_us)
            yield response

    async def run_aggregation_query(self, request: Any) -> AsyncIterator[Any]:
        if not request.HasField("structured_aggregation_query"):
            raise InvalidArgument("query_type is required")
        query = compile_aggregation(request.parent, request.structured_aggregation_query)
        if self._indexes is not None:
            self._indexes.check(query.query, request.structured_aggregation_query.structured_query)
        transaction = self._reading_transaction(request, parent_root(request.parent))
        if request.HasField("new_transaction") and transaction is not None:
            yield RunAggregationQueryResponse(transaction=transaction.id)
        documents: list[StoredDocument]
        if transaction is None:
            documents = query.documents(self._snapshot_view(request))
        else:
            documents = await self._transactions.query(transaction, query.query.selection, query.documents)
        response = RunAggregationQueryResponse()
        query.fill(documents, response.result.aggregate_fields)
        set_timestamp(response.read_time, self._read_us(request, transaction))
        yield response

    def _reading_transaction(self, request: Any, root: str) -> Transaction | None:
        """The transaction in which a request reads: one that is open, one begun for it, or none."""
        match request.WhichOneof("consistency_selector"):
            case "transaction":
                return self._transactions.find(root, request.transaction) if request.transaction else None
            case "new_transaction":
                return self._transactions.begin(root, request.new_transaction)
            case _:
                return None

    async def _view(self, request: Any, transaction: Transaction | None, names: list[str]) -> View:
        if transaction is None:
            return self._snapshot_view(request)
        return await self._transactions.read(transaction, names)

    def _snapshot_view(self, request: Any) -> View:
        if request.WhichOneof("consistency_selector") == "read_time":
            return self._store.snapshot(timestamp_us(request.read_time))
        return self._store

    def _read_us(self, request: Any, transaction: Transaction | None) -> int:
        if request.WhichOneof("consistency_selector") == "read_time":
            return timestamp_us(request.read_time)
        return self._transactions.read_us(transaction)


def _mask(request: Any) -> list[FieldPath] | None:
    """The field paths of the mask of a request, None for whole documents."""
    if not request.HasField("mask"):
        return None
    return [field_path(path) for path in request.mask.field_paths]
