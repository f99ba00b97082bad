"""A client of Concierge as a web or mobile app would be: Auth, the Realtime Database through its rules, HTTPS.

It speaks the public protocols only, with an ID token, and holds no administrator's credential.
"""

import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

# Any key will do: web API keys identify a project, they are no secrets, and the emulators ignore them.
_WEB_API_KEY = "demo-web-api-key"


class ClientError(Exception):
    """A call that a server refused; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services are, as base URLs without a slash at the end."""

    auth: str
    database: str
    namespace: str
    api: str


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in person."""

    uid: str
    id_token: str
    refresh_token: str


class Client:
    """Not signed in until `sign_up`; safe to use from several threads after that."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        # No proxy and no certificates from the environment: the emulators are on this machine.
        self._http = httpx.Client(timeout=httpx.Timeout(30), trust_env=False)
        self.session: Session | None = None

    def sign_up(self, email: str, password: str) -> Session:
        """Creates a user with e-mail and password."""
        url = f"{self._addresses.auth}/identitytoolkit.googleapis.com/v1/accounts:signUp"
        body = {"email": email, "password": password, "returnSecureToken": True}
        answer = _checked(self._http.post(url, params={"key": _WEB_API_KEY}, json=body))
        self.session = Session(answer["localId"], answer["idToken"], answer["refreshToken"])
        return self.session

    def refresh_id_token(self) -> str:
        """Exchanges the refresh token for a new ID token, which later calls use."""
        assert self.session is not None, "sign up first"
        url = f"{self._addresses.auth}/securetoken.googleapis.com/v1/token"
        form = {"grant_type": "refresh_token", "refresh_token": self.session.refresh_token}
        answer = _checked(self._http.post(url, params={"key": _WEB_API_KEY}, data=form))
        self.session = Session(self.session.uid, answer["id_token"], answer["refresh_token"])
        return self.session.id_token

    def put(self, path: str, value: Any) -> None:
        """Writes through the security rules."""
        _checked(self._http.put(self._database_url(path), params=self._database_parameters(), json=value))

    def read(self, path: str, **query: str) -> Any:
        """The value of a location; `query` as the REST API has it, values in JSON: orderBy='"$key"', startAt='"3"'."""
        parameters = {**self._database_parameters(), **query}
        return _checked(self._http.get(self._database_url(path), params=parameters))

    def listen(self, path: str) -> "Listener":
        """Follows a location by server-sent events."""
        return Listener(self._database_url(path), self._database_parameters())

    def api(self, path: str, **parameters: Any) -> Any:
        """GET below /api/v1 with the ID token."""
        headers = {"Authorization": f"Bearer {self._token()}"}
        return _checked(self._http.get(f"{self._addresses.api}/api/v1{path}", params=parameters, headers=headers))

    def close(self) -> None:
        self._http.close()

    def _token(self) -> str:
        assert self.session is not None, "sign up first"
        return self.session.id_token

    def _database_url(self, path: str) -> str:
        return f"{self._addresses.database}/{path}.json"

    def _database_parameters(self) -> dict[str, str]:
        return {"ns": self._addresses.namespace, "auth": self._token()}


class Listener:
    """The values of one location, each whole, as they change. A thread reads; iterate or call `next`."""

    def __init__(self, url: str, parameters: dict[str, str]) -> None:
        self._values: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._value: Any = None
        self._http = httpx.Client(timeout=httpx.Timeout(30, read=None), trust_env=False)
        self._request = self._http.build_request("GET", url, params=parameters, headers={"Accept": "text/event-stream"})
        self._response = self._http.send(self._request, stream=True)
        if self._response.status_code != 200:
            self._response.read()
            _checked(self._response)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def next(self, timeout_seconds: float) -> Any:
        """The next value. Raises ClientError if none comes in time or the stream has ended."""
        try:
            value = self._values.get(timeout=timeout_seconds)
        except queue.Empty:
            raise ClientError(f"nothing came within {timeout_seconds:g} s") from None
        if isinstance(value, ClientError):
            raise value
        return value

    def values(self, timeout_seconds: float) -> Iterator[Any]:
        while True:
            yield self.next(timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._response.close()
        self._http.close()

    def _read(self) -> None:
        event = ""
        try:
            for line in self._response.iter_lines():
                if line.startswith("event:"):
                    event = line[6:].strip()
                elif line.startswith("data:") and event in ("put", "patch"):
                    self._apply(event, json.loads(line[5:]))
                    self._values.put(json.loads(json.dumps(self._value)))
                elif line.startswith("data:") and event in ("cancel", "auth_revoked"):
                    break
        except (httpx.HTTPError, httpx.StreamError, OSError):
            # Closing the listener ends the read like this; who still waits learns below that nothing more will come.
            self._values.put(ClientError("the stream was cut"))
        self._values.put(ClientError("the stream ended"))

    def _apply(self, event: str, change: dict[str, Any]) -> None:
        segments = [segment for segment in change["path"].split("/") if segment]
        if event == "put":
            self._value = _placed(self._value, segments, change["data"])
            return
        for key, data in change["data"].items():
            self._value = _placed(self._value, [*segments, *(part for part in key.split("/") if part)], data)


def _placed(tree: Any, segments: list[str], data: Any) -> Any:
    """The tree with `data` at a path; arrays become objects, null removes."""
    if not segments:
        return data
    if isinstance(tree, list):
        tree = {str(index): child for index, child in enumerate(tree) if child is not None}
    node = dict(tree) if isinstance(tree, dict) else {}
    child = _placed(node.get(segments[0]), segments[1:], data)
    if child is None:
        node.pop(segments[0], None)
    else:
        node[segments[0]] = child
    return node or None


def numbered(children: Any) -> dict[int, Any]:
    """Children whose keys are numbers, whether they came as an object or as an array."""
    if isinstance(children, list):
        return {index: child for index, child in enumerate(children) if child is not None}
    return {int(key): child for key, child in (children or {}).items()}


def _checked(response: httpx.Response) -> Any:
    if response.is_success:
        return response.json() if response.content else None
    raise ClientError(f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text}")
