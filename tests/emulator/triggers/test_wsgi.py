"""The functions process's own HTTP server, byte by byte."""

import http.client
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

from emulator.triggers.wsgi import WsgiServer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

closed = threading.Event()


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/stream":

        def parts() -> Iterator[bytes]:
            try:
                while True:
                    yield b"x" * 10_000
            finally:
                closed.set()

        start_response("200 OK", [])
        return parts()
    if environ["PATH_INFO"] == "/unread":
        start_response("413 Too Large", [("Content-Length", "2")])
        return [b"no"]
    body = environ["wsgi.input"].read()
    answer = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {environ['QUERY_STRING']} ".encode() + body
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


@pytest.fixture(scope="module")
def port() -> int:
    server = WsgiServer(application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.port


def test_one_connection_carries_many_requests(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for body in (b"one", b"", b"x" * 200_000):
        connection.request("POST", "/a%20b?c=%64", body)
        before = connection.sock
        assert connection.getresponse().read() == b"POST /a b c=%64 " + body
        assert connection.sock is before and before is not None
    connection.request("POST", "/unread", b"x" * 500_000)
    refused = connection.getresponse()
    assert (refused.status, refused.read()) == (413, b"no")
    connection.request("POST", "/after", iter([b"chu", b"nks"]), encode_chunked=True)
    assert connection.getresponse().read() == b"POST /after  chunks"
    connection.request("HEAD", "/head")
    head = connection.getresponse()
    assert (head.headers["Content-Length"], head.read()) == ("12", b"")
    connection.request("GET", "/last")
    assert connection.getresponse().read() == b"GET /last  "
    connection.close()


def test_a_client_that_waits_for_100_continue(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 100")
        client.sendall(b"body")
        assert client.recv(1000).endswith(b"POST /x  body")


def test_a_stream_ends_when_nobody_reads_it(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(1000)
    assert closed.wait(60)


def test_nonsense_closes_the_connection(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"\x00\x01 nonsense\r\n\r\n")
        assert client.recv(1000) == b""
