"""The Firestore server: the service behind grpc.aio, for clients that have FIRESTORE_EMULATOR_HOST set.

No generated code: a generic handler maps method names to the service, with the message classes of `protocol`. Callers
have to send `authorization: Bearer owner`, as the server libraries do with an emulator; the rules of this project deny
Firestore to everybody else.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from emulator.clock import Clock
from emulator.contracts import FirestoreChange, FirestoreListener
from emulator.faults import Fault, FaultPlan
from emulator.firestore.errors import Aborted, FirestoreError, PermissionDenied, Unavailable
from emulator.firestore.indexes import Indexes
from emulator.firestore.listen import ListenStream
from emulator.firestore.protocol import message_class
from emulator.firestore.service import FirestoreService
from emulator.firestore.store import Change, DocumentStore
from emulator.firestore.transactions import LOCK_TIMEOUT_S, Transactions
from emulator.persistence import Store

REQUEST_BYTES_MAX = 10 * 1024 * 1024
EXPIRY_CHECK_MS = 1000

_SERVICE = "/google.firestore.v1.Firestore/"
_STATUS = {status.value[0]: status for status in grpc.StatusCode}
_OPTIONS = [
    # A second server on the same port has to fail, not to share it.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX + 64 * 1024),
    ("grpc.max_send_message_length", -1),
]

# grpc's own class takes parameters in its stubs only.
Handlers = dict[str, Any]
Unary = Callable[[Any], Awaitable[Any]]
Streaming = Callable[[Any], AsyncIterator[Any]]


class FirestoreServer:
    """Cloud Firestore on one port. `listeners` are told of every changed document in the order of the commits."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        store: Store | None = None,
        faults: FaultPlan | None = None,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        indexes: Indexes | None = None,
    ) -> None:
        """With `indexes`, queries that production would refuse for want of an index are refused."""
        self._clock = clock or Clock()
        self._faults = faults or FaultPlan()
        self.documents = DocumentStore(self._clock, store or Store(None))
        """The documents, to be read: `documents.get(name)` and `documents.documents()`."""
        self.transactions = Transactions(self.documents, self._clock, lock_timeout_s)
        self.listeners: list[FirestoreListener] = []
        self.documents.watchers.append(self._publish)
        self._silent = False
        self._handlers = self._make_handlers(FirestoreService(self.documents, self.transactions, indexes))
        self._server: grpc.aio.Server | None = None
        self._expiry: asyncio.Task[None] | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Binds and serves until stop(). Returns the port. Raises OSError if it is taken."""
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((_Router(self._handlers),))
        try:
            bound = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {host}:{port}") from error
        await server.start()
        self._server = server
        self._expiry = asyncio.create_task(self._expire_transactions())
        return bound

    async def stop(self) -> None:
        """Cuts all streams and stops at once; what was committed is kept by the store."""
        if self._expiry is not None:
            self._expiry.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._expiry
            self._expiry = None
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        self.transactions.close_all()

    def clear(self, project: str) -> int:
        """Removes every document of a project and ends its transactions. Listeners are not told, open Listen streams
        are. Returns the number of documents."""
        self.transactions.close_all(project)
        self._silent = True
        try:
            return len(self.documents.clear(project))
        finally:
            self._silent = False

    def _publish(self, changes: list[Change], commit_us: int) -> None:
        if self._silent:
            return
        for change in changes:
            published = FirestoreChange(
                name=change.name,
                before=None if change.before is None else change.before.message,
                after=None if change.after is None else change.after.message,
                at_ms=commit_us // 1000,
            )
            for listener in tuple(self.listeners):
                listener(published)

    async def _expire_transactions(self) -> None:
        while True:
            await self._clock.wait_until(self._clock.now_ms() + EXPIRY_CHECK_MS)
            self.transactions.expire()

    def _make_handlers(self, service: FirestoreService) -> Handlers:
        unary: dict[str, Unary] = {
            "GetDocument": service.get_document,
            "ListDocuments": service.list_documents,
            "CreateDocument": service.create_document,
            "UpdateDocument": service.update_document,
            "DeleteDocument": service.delete_document,
            "BeginTransaction": service.begin_transaction,
            "Commit": service.commit,
            "Rollback": service.rollback,
            "ListCollectionIds": service.list_collection_ids,
            "BatchWrite": service.batch_write,
        }
        streaming: dict[str, Streaming] = {
            "BatchGetDocuments": service.batch_get_documents,
            "RunQuery": service.run_query,
            "RunAggregationQuery": service.run_aggregation_query,
        }
        handlers: Handlers = {}
        for name, call in unary.items():
            handlers[name] = grpc.unary_unary_rpc_method_handler(
                self._serve_unary(name, call),
                request_deserializer=message_class(f"{name}Request").FromString,
                response_serializer=_serialize,
            )
        for name, stream in streaming.items():
            handlers[name] = grpc.unary_stream_rpc_method_handler(
                self._serve_stream(name, stream),
                request_deserializer=message_class(f"{name}Request").FromString,
                response_serializer=_serialize,
            )
        handlers["Listen"] = grpc.stream_stream_rpc_method_handler(
            self._listen,
            request_deserializer=message_class("ListenRequest").FromString,
            response_serializer=_serialize,
        )
        return {_SERVICE + name: handler for name, handler in handlers.items()}

    def _serve_unary(self, name: str, call: Unary) -> Callable[[Any, Any], Awaitable[Any]]:
        target = f"firestore.{name}"

        async def serve(request: Any, context: Any) -> Any:
            try:
                fault = await self._meet_fault(target, getattr(request, "transaction", b""))
                response = await call(request)
                _lose_answer(fault)
            except FirestoreError as error:
                await context.abort(_STATUS[error.code], error.message)
            return response

        return serve

    def _serve_stream(self, name: str, stream: Streaming) -> Callable[[Any, Any], AsyncIterator[Any]]:
        target = f"firestore.{name}"

        async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                fault = await self._meet_fault(target)
                async for response in stream(request):
                    if fault is None or fault.action != "error_after":
                        yield response
                _lose_answer(fault)
            except FirestoreError as error:
                await context.abort(_STATUS[error.code], error.message)

        return serve

    async def _listen(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        stream = ListenStream(self.documents)
        failure: list[FirestoreError] = []

        async def read_requests() -> None:
            try:
                async for request in requests:
                    stream.handle(request)
            except FirestoreError as error:
                failure.append(error)
            finally:
                stream.end()

        stream.open()
        reader: asyncio.Task[None] | None = None
        try:
            await self._meet_fault("firestore.Listen")
            reader = asyncio.create_task(read_requests())
            async for response in stream.responses():
                yield response
            if failure:
                raise failure[0]
        except FirestoreError as error:
            await context.abort(_STATUS[error.code], error.message)
        finally:
            stream.close()
            if reader is not None:
                reader.cancel()

    async def _meet_fault(self, target: str, transaction_id: bytes = b"") -> Fault | None:
        """Obeys the fault that is planned for this call, as far as it comes before it. Raises Unavailable, Aborted."""
        fault = self._faults.take(target)
        if fault is None:
            return None
        if fault.action == "error":
            raise Unavailable(f"{target} is unavailable: a planned fault.")
        if fault.action == "abort":
            # A transaction that is aborted is over: it must not stand in the way of its own retry.
            if transaction_id:
                self.transactions.rollback(transaction_id)
            raise Aborted(f"{target} met contention: a planned fault.")
        if fault.action == "delay":
            await asyncio.sleep(fault.delay_ms / 1000)
        return fault


class _Router(grpc.GenericRpcHandler):
    """Finds the handler of a method; unknown methods are UNIMPLEMENTED, callers other than the admin are refused."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._refusals = {name: _refusal(handler) for name, handler in handlers.items()}

    def service(self, handler_call_details: Any) -> Any:
        for key, value in handler_call_details.invocation_metadata:
            if key == "authorization" and value == "Bearer owner":
                return self._handlers.get(handler_call_details.method)
        return self._refusals.get(handler_call_details.method)


def _refusal(handler: Any) -> Any:
    """A handler of the same kind that refuses whatever it is asked."""
    error = PermissionDenied("Missing or insufficient permissions.")

    async def refuse(_: Any, context: Any) -> Any:
        await context.abort(_STATUS[error.code], error.message)

    async def refuse_stream(_: Any, context: Any) -> AsyncIterator[Any]:
        await context.abort(_STATUS[error.code], error.message)
        yield

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse_stream)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse_stream)
    return grpc.unary_unary_rpc_method_handler(refuse)


def _serialize(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized


def _lose_answer(fault: Fault | None) -> None:
    """Raises Unavailable if the call has to look failed although it was done."""
    if fault is not None and fault.action == "error_after":
        raise Unavailable(f"The answer of {fault.target} is lost: a planned fault.")
