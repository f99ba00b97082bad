"""The REST API: HTTP to operations of the databases and back.

Source: "Firebase Database REST API" (methods, parameters, conditional requests, error conditions). Errors are
`{"error": text}`.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from urllib.parse import unquote

from aiohttp import web

from emulator.clock import Clock
from emulator.contracts import Json
from emulator.faults import FaultPlan
from emulator.rtdb import sse
from emulator.rtdb.credentials import ADMIN, NOBODY, Authenticator, Credentials, overridden
from emulator.rtdb.database import Databases, Location, parse_location
from emulator.rtdb.errors import (
    EtagMismatch,
    InternalFault,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RtdbError,
    Unauthorized,
)
from emulator.rtdb.hashing import etag
from emulator.rtdb.query import parse_query
from emulator.rtdb.rules.errors import RulesError
from emulator.rtdb.rules.ruleset import load
from emulator.rtdb.tree import Node, export, export_with_priorities, get, shallow
from emulator.rtdb.values import parse_json

_METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE")
_RULES = "/.settings/rules.json"
_SUFFIX = ".json"
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "ETag",
    "Cache-Control": "no-cache",
}
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, PUT, POST, PATCH, DELETE, OPTIONS",
    "Access-Control-Max-Age": "3600",
}


class _Call:
    """One request, as far as it is understood before the database is asked."""

    def __init__(self, request: web.Request, default_namespace: str) -> None:
        self.request = request
        self.parameters: Mapping[str, str] = request.query
        self.method = _method(request)
        self.namespace = self.parameters.get("ns") or default_namespace
        if not _NAMESPACE.fullmatch(self.namespace):
            raise InvalidRequest("Invalid namespace")
        self.print = self.parameters.get("print")
        if self.print not in (None, "pretty", "silent"):
            raise InvalidRequest("print must be either 'pretty' or 'silent'")

    def location(self) -> Location:
        try:
            path = unquote(self.request.rel_url.raw_path, errors="strict")
        except UnicodeDecodeError as error:
            raise InvalidRequest("Invalid path: Invalid token in path") from error
        if not path.endswith(_SUFFIX):
            raise NotFound("append .json to your request URI to use the REST API")
        return parse_location(path.removesuffix(_SUFFIX))

    def answer(self, value: Json, *, status: int = 200, tag: str | None = None) -> web.Response:
        headers = {**_CORS, "ETag": tag} if tag is not None else _CORS
        if self.print == "silent":
            return web.Response(status=204, headers=headers)
        return _json_response(value, status, headers, pretty=self.print == "pretty")

    def wants_tag(self) -> bool:
        headers = self.request.headers
        return (
            headers.get("X-Firebase-ETag", "").lower() == "true" or "if-match" in headers or "if-none-match" in headers
        )


class RestApi:
    """The handler of every path. `default_namespace` is what a call without `ns` means."""

    def __init__(
        self,
        *,
        databases: Databases,
        authenticator: Authenticator,
        clock: Clock,
        faults: FaultPlan,
        default_namespace: str,
        keep_alive_seconds: float,
    ) -> None:
        self._databases = databases
        self._authenticator = authenticator
        self._clock = clock
        self._faults = faults
        self._default_namespace = default_namespace
        self._keep_alive_seconds = keep_alive_seconds

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            wanted = request.headers.get("Access-Control-Request-Headers", "*")
            return web.Response(status=204, headers={**_CORS, **_PREFLIGHT, "Access-Control-Allow-Headers": wanted})
        try:
            return await self._call(_Call(request, self._default_namespace))
        except EtagMismatch as error:
            headers = {**_CORS, "ETag": etag(error.node)}
            return _json_response(export(error.node), error.status, headers, pretty=False)
        except RtdbError as error:
            return _error_response(error.status, error.message)
        except web.HTTPRequestEntityTooLarge:
            return _error_response(400, "Payload is too large")

    async def _call(self, call: _Call) -> web.StreamResponse:
        if call.request.path == _RULES:
            return await self._rules(call)
        fault = self._faults.take(f"rtdb.{call.method}")
        if fault is not None and fault.action == "delay":
            await asyncio.sleep(fault.delay_ms / 1000)
        if fault is not None and fault.action == "error":
            raise InternalFault("Internal server error.")
        credentials = self._credentials(call)
        location = call.location()
        if call.method == "GET":
            response = await self._get(call, location, credentials)
        else:
            body = b"" if call.method == "DELETE" else await call.request.read()
            response = self._write(call, location, body, credentials)
        if fault is not None and fault.action == "error_after" and not response.prepared:
            raise InternalFault("Internal server error.")
        return response

    def _credentials(self, call: _Call) -> Credentials:
        scheme, _, token = call.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            credentials = self._authenticator.access_token(token.strip())
        elif "access_token" in call.parameters:
            credentials = self._authenticator.access_token(call.parameters["access_token"])
        elif "auth" in call.parameters:
            credentials = self._authenticator.id_token(call.parameters["auth"])
        else:
            return NOBODY
        # Only an administrator may step into somebody's shoes.
        override = call.parameters.get("auth_variable_override")
        if credentials is ADMIN and override is not None:
            try:
                return overridden(json.loads(override))
            except ValueError as error:
                raise Unauthorized("auth_variable_override must be a JSON object or null.") from error
        return credentials

    async def _get(self, call: _Call, location: Location, credentials: Credentials) -> web.StreamResponse:
        query = parse_query(call.parameters)
        is_shallow = call.parameters.get("shallow") == "true"
        if query is not None and is_shallow:
            raise InvalidRequest("Mixing 'shallow' and querying parameters is not supported")
        if "text/event-stream" in call.request.headers.get("Accept", ""):
            if location.is_priority or is_shallow:
                raise InvalidRequest("Only a location or a query can be streamed")
            response = web.StreamResponse(headers={**_CORS, **sse.HEADERS})
            await sse.stream(
                call.request,
                response,
                self._databases,
                self._clock,
                namespace=call.namespace,
                path=location.path,
                query=query,
                credentials=credentials,
                keep_alive_seconds=self._keep_alive_seconds,
            )
            return response
        node = self._databases.read(call.namespace, location.path, credentials, query=query)
        tag = etag(node) if call.wants_tag() else None
        if tag is not None and call.request.headers.get("if-none-match") == tag:
            return web.Response(status=304, headers={**_CORS, "ETag": tag})
        if location.is_priority:
            return call.answer(None if node is None else node.priority, tag=tag)
        if is_shallow:
            return call.answer(shallow(node), tag=tag)
        if call.parameters.get("format") == "export":
            return call.answer(export_with_priorities(node), tag=tag)
        return call.answer(export(node), tag=tag)

    def _write(self, call: _Call, location: Location, body: bytes, credentials: Credentials) -> web.Response:
        if_match = call.request.headers.get("if-match")
        if if_match is not None and call.method not in ("PUT", "DELETE"):
            raise InvalidRequest(f"if-match is not supported for {call.method}")
        if call.method in ("PUT", "DELETE"):
            value = parse_json(body) if call.method == "PUT" else None
            node = self._databases.set(call.namespace, location, value, credentials, if_match=if_match)
            tag = etag(node) if call.wants_tag() else None
            return call.answer(_written(location, node), tag=tag)
        value = parse_json(body)
        if location.is_priority:
            raise InvalidRequest(f"{call.method} of a priority is not supported")
        if call.method == "POST":
            key = self._databases.push(call.namespace, location.path, value, credentials)
            tag = etag(get(self._databases.root(call.namespace), (*location.path, key))) if call.wants_tag() else None
            return call.answer({"name": key}, tag=tag)
        if not isinstance(value, dict):
            raise InvalidRequest(
                "Invalid data; couldn't parse JSON object. Are you sending a JSON object with valid key names?"
            )
        nodes = self._databases.update(call.namespace, location.path, value, credentials)
        return call.answer({text: _written(parse_location(text), node) for text, node in nodes.items()})

    async def _rules(self, call: _Call) -> web.Response:
        """The rules as they were given, for administrators."""
        if self._credentials(call) is not ADMIN:
            raise PermissionDenied()
        if call.method == "GET":
            return web.Response(text=self._databases.rules.text, content_type="application/json", headers=_CORS)
        if call.method != "PUT":
            raise InvalidRequest(f"{call.method} is not supported for rules")
        try:
            self._databases.set_rules(load((await call.request.read()).decode("utf-8")))
        except UnicodeDecodeError as error:
            raise InvalidRequest("The rules are not UTF-8.") from error
        except RulesError as error:
            raise InvalidRequest(str(error)) from error
        return _json_response({"status": "ok"}, 200, _CORS, pretty=False)


def _method(request: web.Request) -> str:
    method = request.method
    if method == "POST":
        override = request.headers.get("X-HTTP-Method-Override") or request.query.get("x-http-method-override")
        method = override.upper() if override else method
    if method not in _METHODS:
        raise InvalidRequest(f"{method} is not supported")
    return method


def _written(location: Location, node: Node | None) -> Json:
    if location.is_priority:
        return None if node is None else node.priority
    return export(node)


def _json_response(value: Json, status: int, headers: Mapping[str, str], *, pretty: bool) -> web.Response:
    if pretty:
        text = json.dumps(value, ensure_ascii=False, indent=2, separators=(",", " : "))
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return web.Response(
        body=text.encode("utf-8"),
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )


def _error_response(status: int, message: str) -> web.Response:
    return _json_response({"error": message}, status, _CORS, pretty=True)
