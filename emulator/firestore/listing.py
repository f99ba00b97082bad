"""ListDocuments: pages of a collection, with the missing parents of subcollections if wanted.

A page token is the cursor behind the last document of the page, so that pages stay whole while documents come and go.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, TypeVar

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from emulator.firestore.documents import StoredDocument
from emulator.firestore.errors import InvalidArgument
from emulator.firestore.names import NAME_PATH, FieldPath, field_path, format_path
from emulator.firestore.protocol import Cursor, Document, ListDocumentsResponse, StructuredQuery
from emulator.firestore.query import Query, compile_query
from emulator.firestore.store import DocumentStore, View

PAGE_SIZE_DEFAULT = 300

Item = TypeVar("Item")


def page(items: Sequence[Item], page_size: int) -> tuple[Sequence[Item], Item | None]:
    """The first page of items, and its last item if there are more behind it. Raises InvalidArgument."""
    if page_size < 0:
        raise InvalidArgument("Page size must be nonnegative.")
    size = page_size or PAGE_SIZE_DEFAULT
    if len(items) <= size:
        return items, None
    return items[:size], items[size - 1]


def list_documents(store: DocumentStore, view: View, request: Any, mask: list[FieldPath] | None) -> Any:
    """Answers a ListDocumentsRequest from a view. Missing documents are always those of the present."""
    structured = collection_query(request.collection_id, request.order_by)
    if request.show_missing and request.order_by:
        raise InvalidArgument("order_by cannot be combined with show_missing.")
    if request.page_token:
        structured.start_at.CopyFrom(_decode_token(request.page_token))
    query = compile_query(request.parent, structured)
    documents = query.run(view)
    if request.show_missing and request.collection_id:
        return _page_with_missing(store, documents, request, mask)
    shown, last = page(documents, request.page_size)
    response = ListDocumentsResponse(documents=[document.masked(mask) for document in shown])
    if last is not None:
        response.next_page_token = _encode_token(query, last)
    return response


def collection_query(collection_id: str, order_by: str = "") -> Any:
    """The query for a whole collection (all collections below the parent, if the id is empty), in an explicit order."""
    structured = StructuredQuery()
    getattr(structured, "from").add(collection_id=collection_id)
    descending = False
    names_itself = False
    for part in filter(None, (part.strip() for part in order_by.split(","))):
        path, _, direction = part.partition(" ")
        if direction.strip().lower() not in ("", "asc", "desc"):
            raise InvalidArgument(f'Invalid order_by "{order_by}".')
        descending = direction.strip().lower() == "desc"
        names_itself = names_itself or field_path(path) == NAME_PATH
        _add_order(structured, path, descending)
    if not names_itself:
        _add_order(structured, "__name__", descending)
    return structured


def _add_order(structured: Any, path: str, descending: bool) -> None:
    order = structured.order_by.add()
    order.field.field_path = path
    order.direction = StructuredQuery.DESCENDING if descending else StructuredQuery.ASCENDING


def _page_with_missing(
    store: DocumentStore, documents: list[StoredDocument], request: Any, mask: list[FieldPath] | None
) -> Any:
    collection = f"{request.parent}/{request.collection_id}"
    found: dict[str, StoredDocument | None] = {document.name.id: document for document in documents}
    after = _decode_token(request.page_token).values[0].reference_value if request.page_token else ""
    for missing_id in store.missing_ids(collection):
        if f"{collection}/{missing_id}" > after:
            found.setdefault(missing_id, None)
    shown, last = page(sorted(found), request.page_size)
    response = ListDocumentsResponse()
    for document_id in shown:
        document = found[document_id]
        if document is None:
            response.documents.append(Document(name=f"{collection}/{document_id}"))
        else:
            response.documents.append(document.masked(mask))
    if last is not None:
        cursor = Cursor()
        cursor.values.add(reference_value=f"{collection}/{last}")
        response.next_page_token = _encode_cursor(cursor)
    return response


def _encode_token(query: Query, last: StoredDocument) -> str:
    cursor = Cursor()
    for order in query.orders:
        value = cursor.values.add()
        if order.path == NAME_PATH:
            value.reference_value = last.name.name
        else:
            found = last.value(order.path)
            assert found is not None, f"a listed document has every field of its order, {format_path(order.path)} too"
            value.CopyFrom(found)
    return _encode_cursor(cursor)


def _encode_cursor(cursor: Any) -> str:
    return base64.urlsafe_b64encode(cursor.SerializeToString()).decode()


def _decode_token(token: str) -> Any:
    try:
        cursor = Cursor.FromString(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, DecodeError) as error:
        raise InvalidArgument("invalid page token") from error
    if not cursor.values:
        raise InvalidArgument("invalid page token")
    return cursor
