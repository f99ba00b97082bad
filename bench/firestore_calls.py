"""What Firestore is asked: an interceptor of the gRPC server that marks each call with what it reads and writes.

Counted as Cloud Firestore bills: one read for each document returned or found missing, at least one for a query; one
write for each write of a commit, whatever it does. https://cloud.google.com/firestore/pricing
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import grpc.aio

Mark = Callable[[str, str], None]

_PREFIX = "/google.firestore.v1.Firestore/"


def documents(method: str, request: Any, responses: Sequence[Any]) -> tuple[int, int]:
    """(documents read, documents written) by one call of the Firestore service."""
    match method:
        case "GetDocument":
            return 1, 0
        case "BatchGetDocuments":
            return sum(response.WhichOneof("result") is not None for response in responses), 0
        case "RunQuery":
            return max(1, sum(response.HasField("document") for response in responses)), 0
        case "ListDocuments":
            return max(1, sum(len(response.documents) for response in responses)), 0
        case "RunAggregationQuery" | "ListCollectionIds":
            return 1, 0
        case "Commit" | "BatchWrite":
            return 0, len(request.writes)
        case "CreateDocument" | "UpdateDocument" | "DeleteDocument":
            return 0, 1
    return 0, 0


def observed_server(server: Callable[..., Any], mark: Mark) -> Callable[..., Any]:
    """grpc.aio.server with the interceptor added."""

    def observed(*arguments: Any, **named: Any) -> Any:
        named["interceptors"] = [*(named.get("interceptors") or ()), _Interceptor(mark)]
        return server(*arguments, **named)

    return observed


class _Interceptor(grpc.aio.ServerInterceptor):
    def __init__(self, mark: Mark) -> None:
        self._mark = mark

    async def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(_PREFIX) or handler.request_streaming:
            return handler
        return self._observed(method.removeprefix(_PREFIX), handler)

    def _observed(self, method: str, handler: Any) -> Any:
        def ended(request: Any, responses: Sequence[Any]) -> None:
            reads, writes = documents(method, request, responses)
            self._mark("firestore.end", f"{method},{reads},{writes}")

        async def unary(request: Any, context: Any) -> Any:
            self._mark("firestore.begin", method)
            answered: list[Any] = []
            try:
                answered.append(await handler.unary_unary(request, context))
                return answered[0]
            finally:
                # A call that fails counts too: it was asked for.
                ended(request, answered)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            self._mark("firestore.begin", method)
            answered: list[Any] = []
            try:
                async for response in handler.unary_stream(request, context):
                    answered.append(response)
                    yield response
            finally:
                ended(request, answered)

        make = (
            grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(
            stream if handler.response_streaming else unary,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
