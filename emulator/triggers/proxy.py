"""Passes an HTTP request to a function and its answer back, both as streams, unchanged."""

from aiohttp import web
from multidict import CIMultiDict, MultiMapping

from emulator.triggers.host import FunctionLost, FunctionsHost, FunctionsUnavailable, FunctionTimeout

# RFC 9110, 7.6.1: these speak of one connection, and each side frames its own messages.
_HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade", "expect"),
    )
)


async def proxy(request: web.Request, host: FunctionsHost, function: str, path: str) -> web.StreamResponse:
    """Answers with what the function answers at `path` (raw: encoded, with its query).

    Where there is no answer: 503 if the functions are down or died, 504 after the function's time limit.
    """
    headers = _end_to_end(request.headers)
    peer = request.remote or "127.0.0.1"
    headers["X-Forwarded-For"] = f"{headers['X-Forwarded-For']}, {peer}" if "X-Forwarded-For" in headers else peer
    headers.setdefault("X-Forwarded-Proto", request.scheme)
    headers.setdefault("X-Forwarded-Host", request.host)
    body = request.content if request.body_exists else None
    response: web.StreamResponse | None = None
    try:
        async with host.open(function, method=request.method, path=path, headers=headers, body=body) as answer:
            response = web.StreamResponse(
                status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers)
            )
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
    except (FunctionLost, FunctionsUnavailable, FunctionTimeout) as error:
        if response is None:
            status = 504 if isinstance(error, FunctionTimeout) else 503
            return web.Response(status=status, text=f"{error}\n")
        # The head is sent: only a cut connection can still say that the answer is not complete.
        if request.transport is not None:
            request.transport.abort()
        return response


def _end_to_end(headers: MultiMapping[str]) -> CIMultiDict[str]:
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        if name.lower() not in _HOP_BY_HOP:
            kept.add(name, value)
    return kept
