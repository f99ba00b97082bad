"""A model provider that does what a test tells it to, over real HTTP, and counts what it was asked.

The behaviour is chosen by a marker in the user's message, so that tests can share one server.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_SILENCE_SECONDS_MAX = 60


@dataclass
class Behaviour:
    """What happens on a call. Failures of `statuses` come first, one a call; then the answer.

    `silence` keeps the server from answering at all until it is set; `gate` holds an answer before its piece `gate_at`.
    """

    tokens: list[str] = field(default_factory=lambda: ["Hello", ", ", "world", "."])
    statuses: list[int] = field(default_factory=list)
    usage: Any = "counted"
    silence: threading.Event | None = None
    gate: threading.Event | None = None
    gate_at: int = 0
    die_after: int | None = None
    token_seconds: float = 0.0
    body: bytes | None = None
    finish: bool = True
    ignores_ceiling: bool = False
    models_failing: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Seen:
    """One call as it came: `purpose` is what it says it is for, `text` its last message."""

    method: str
    path: str
    purpose: str | None
    text: str = ""
    model: str = ""


class ScriptedProvider:
    """The server and its record. `seen` has every call of any kind, in order. `calls[marker]` counts requests,
    `answers` completed ones, `aborted` cut ones; `peers[marker]` are the ports that requests came from."""

    def __init__(self) -> None:
        self._behaviours: dict[str, Behaviour] = {}
        self._lock = threading.Lock()
        self.offers = ["scripted"]
        self.seen: list[Seen] = []
        self.calls: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.aborted: Counter[str] = Counter()
        self.requests: dict[str, list[dict[str, Any]]] = {}
        self.peers: dict[str, list[int]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def on(self, marker: str, behaviour: Behaviour) -> Behaviour:
        self._behaviours[marker] = behaviour
        return behaviour

    def find(self, text: str) -> tuple[str, Behaviour]:
        for marker, behaviour in self._behaviours.items():
            if marker in text:
                return marker, behaviour
        return "", Behaviour()

    def record(self, counter: Counter[str], marker: str) -> None:
        with self._lock:
            counter[marker] += 1

    @contextmanager
    def running(self) -> Iterator["ScriptedProvider"]:
        self._thread.start()
        try:
            yield self
        finally:
            for behaviour in self._behaviours.values():
                for event in (behaviour.gate, behaviour.silence):
                    if event is not None:
                        event.set()
            self._server.shutdown()
            self._server.server_close()


def _handler(provider: ScriptedProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            """Quiet: the record is in the counters."""

        def do_GET(self) -> None:
            provider.seen.append(Seen("GET", self.path, self.headers.get("X-Concierge-Purpose")))
            data = [{"id": model, "object": "model"} for model in provider.offers]
            self._json(200, {"object": "list", "data": data})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = request["messages"][-1]["content"]
            purpose = self.headers.get("X-Concierge-Purpose")
            provider.seen.append(Seen("POST", self.path, purpose, text, request["model"]))
            marker, behaviour = provider.find(text)
            provider.record(provider.calls, marker)
            provider.requests.setdefault(marker, []).append(request)
            provider.peers.setdefault(marker, []).append(self.client_address[1])
            if behaviour.silence is not None:
                behaviour.silence.wait(_SILENCE_SECONDS_MAX)
            if request["model"] in behaviour.models_failing:
                self._json(503, {"error": {"message": "secret detail: this model is down"}})
            elif behaviour.statuses:
                self._json(behaviour.statuses.pop(0), {"error": {"message": "secret detail: scripted failure"}})
            elif behaviour.body is not None:
                self._raw(behaviour.body)
            else:
                try:
                    self._stream(request, marker, behaviour)
                except OSError:
                    provider.record(provider.aborted, marker)
                    self.close_connection = True

        def _stream(self, request: dict[str, Any], marker: str, behaviour: Behaviour) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            tokens = behaviour.tokens if behaviour.ignores_ceiling else behaviour.tokens[: request["max_tokens"]]
            base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": request["model"]}
            for index, token in enumerate(tokens):
                if behaviour.die_after == index:
                    self.close_connection = True
                    self.connection.close()
                    return
                if behaviour.gate is not None and behaviour.gate_at == index:
                    self._wait_at(behaviour.gate)
                if behaviour.token_seconds:
                    time.sleep(behaviour.token_seconds)
                self._event({**base, "choices": [{"index": 0, "delta": {"content": token}, "finish_reason": None}]})
            if behaviour.finish:
                self._event({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            if behaviour.usage is not None:
                self._event({**base, "choices": [], "usage": self._usage(behaviour)})
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")
            provider.record(provider.answers, marker)

        def _wait_at(self, gate: threading.Event) -> None:
            """Waits like a slow model: with comments, which is how a server notices that its client has gone."""
            while not gate.wait(0.02):
                self._chunk(b": thinking\n\n")

        def _usage(self, behaviour: Behaviour) -> Any:
            if behaviour.usage != "counted":
                return behaviour.usage
            return {
                "prompt_tokens": 20,
                "completion_tokens": len(behaviour.tokens),
                "total_tokens": 20 + len(behaviour.tokens),
            }

        def _event(self, data: Any) -> None:
            self._chunk(f"data: {json.dumps(data)}\n\n".encode())

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        def _json(self, status: int, body: Any) -> None:
            self._raw(json.dumps(body).encode(), status, "application/json")

        def _raw(self, body: bytes, status: int = 200, content_type: str = "text/event-stream") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
