"""A WSGI server for the functions process: HTTP/1.1 with keep-alive, one thread for each connection.

The platform runs gunicorn with threads. Its arbiter is a second process that would survive `kill -9` of the first, and
werkzeug's development server closes each connection after a pause; a delivery would cost more than the function.
Framing is h11's; this module moves bytes between it, a socket and the application. Source: PEP 3333.
"""

import io
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import h11

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

_HEADERS_BYTES_MAX = 128 * 1024
_READ_BYTES = 64 * 1024


class WsgiServer:
    """Bound at construction to a free loopback port."""

    def __init__(self, application: "WSGIApplication", host: str = "127.0.0.1") -> None:
        self._application = application
        self._socket = socket.create_server((host, 0), backlog=512)
        self.port: int = self._socket.getsockname()[1]

    def serve_forever(self) -> None:
        """Accepts until the process ends."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                # Out of file descriptors, for one: those in use will be given back, so the instance goes on.
                print(f"accept failed: {error}", file=sys.stderr)  # noqa: T201
                time.sleep(0.05)
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            worker = _Connection(self._application, connection, self.port)
            threading.Thread(target=worker.serve, daemon=True).start()


class _Connection:
    """One client's connection: exchanges one after another until either side closes."""

    def __init__(self, application: "WSGIApplication", connection: socket.socket, port: int) -> None:
        self._application = application
        self._socket = connection
        self._port = port
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEADERS_BYTES_MAX)

    def serve(self) -> None:
        with self._socket:
            try:
                while self._exchange():
                    self._http.start_next_cycle()
            except (OSError, h11.RemoteProtocolError):
                # The client went away or talks no HTTP: there is nobody left to tell.
                return
            except Exception:  # noqa: BLE001  the application may raise anything while it streams
                traceback.print_exc()

    def _exchange(self) -> bool:
        """Serves one request; True if the connection can carry another one."""
        request = self.next_event()
        if not isinstance(request, h11.Request):
            return False
        response = _Response(self, request.method)
        chunks: Iterable[bytes] = self._application(self._environ(request), response.start)
        try:
            for chunk in chunks:
                response.write(chunk)
            response.finish()
        finally:
            close: Callable[[], object] | None = getattr(chunks, "close", None)
            if close is not None:
                close()
        if self._http.they_are_waiting_for_100_continue:
            return False
        while self._http.their_state is h11.SEND_BODY:
            self.next_event()
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    def next_event(self) -> Any:
        """The next h11 event, reading from the socket as needed. Raises OSError, h11.RemoteProtocolError."""
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(self._socket.recv(_READ_BYTES))

    def send(self, *events: Any) -> None:
        """Sends events in one write: a head and its body in two would wait for each other's acknowledgement."""
        payload = b"".join(self._http.send(event) or b"" for event in events)
        if payload:
            self._socket.sendall(payload)

    def _environ(self, request: h11.Request) -> "WSGIEnvironment":
        raw_path, _, query = request.target.partition(b"?")
        target = request.target.decode("latin-1")
        environ: WSGIEnvironment = {
            "REQUEST_METHOD": request.method.decode("ascii"),
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(raw_path).decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "RAW_URI": target,
            "REQUEST_URI": target,
            "REMOTE_ADDR": "127.0.0.1",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self._port),
            "SERVER_PROTOCOL": f"HTTP/{request.http_version.decode('ascii')}",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BufferedReader(_Body(self)),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers:
            key = name.decode("latin-1").upper().replace("-", "_")
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                key = f"HTTP_{key}"
            text = value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
        return environ


class _Body(io.RawIOBase):
    """The request's body, read from the socket as the application reads it."""

    def __init__(self, connection: _Connection) -> None:
        super().__init__()
        self._connection = connection
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        while not self._rest:
            if self._ended:
                return 0
            event = self._connection.next_event()
            if isinstance(event, h11.Data):
                self._rest = bytes(event.data)
            else:
                self._ended = True
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class _Response:
    """The answer of one exchange; its head goes out with the first bytes of the body."""

    def __init__(self, connection: _Connection, method: bytes) -> None:
        self._connection = connection
        self._method = method
        self._head: h11.Response | None = None
        self._sent = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
        """WSGI's start_response: a head that was not sent yet may be replaced, to report an error."""
        if exc_info is not None and self._sent:
            raise exc_info[1].with_traceback(exc_info[2])
        code, _, reason = status.partition(" ")
        self._head = h11.Response(
            status_code=int(code),
            reason=reason.encode("latin-1"),
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        )
        return self.write

    def write(self, chunk: bytes) -> None:
        if chunk:
            self._send(h11.Data(data=chunk))

    def finish(self) -> None:
        self._send(h11.EndOfMessage())

    def _send(self, event: h11.Data | h11.EndOfMessage) -> None:
        assert self._head is not None, "the application answered before start_response"
        bodiless = self._method == b"HEAD" or self._head.status_code in (204, 304)
        events: list[Any] = [] if self._sent else [self._head]
        self._sent = True
        if not (bodiless and isinstance(event, h11.Data)):
            events.append(event)
        self._connection.send(*events)
