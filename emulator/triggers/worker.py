"""The functions process: loads main.py once, as the platform does, and runs its functions on threads.

    python -m emulator.triggers.worker --source functions --project demo-concierge --region us-central1

It reports once, as one JSON line on standard output, `{"port", "pid", "functions": [endpoint, ...]}`, and then serves
`/{function}/{path}` on that loopback port: CloudEvents to event functions, anything else to the others. What the
functions print goes to standard error. It ends when its standard input ends, so that it never outlives its parent.
Its environment is its parent's business. Nothing of the emulator but the WSGI server is loaded here.
"""

import argparse
import base64
import dataclasses
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import cloudevents.exceptions
from cloudevents.http import CloudEvent, from_http
from firebase_functions.options import RESET_VALUE
from firebase_functions.params import Expression
from firebase_functions.private import serving
from flask import Flask, Request, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule

from emulator.triggers.wsgi import WsgiServer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_ENVIRON_FUNCTION = "concierge.function"
_STRUCTURED = "application/cloudevents+json"
_REPORTED = (
    "entryPoint",
    "region",
    "timeoutSeconds",
    "concurrency",
    "maxInstances",
    "httpsTrigger",
    "callableTrigger",
    "eventTrigger",
    "scheduleTrigger",
    "taskQueueTrigger",
    "blockingTrigger",
)


def plain(value: Any) -> Any:
    """JSON of a manifest value: parameters take their values from the environment, and a reset is a null."""
    if isinstance(value, Expression):
        return plain(value.value)
    if value is RESET_VALUE or value == RESET_VALUE:
        return None
    if isinstance(value, Mapping):
        return {key: item for key, raw in value.items() if (item := plain(raw)) is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def endpoint(function: Any) -> dict[str, Any]:
    """The reported part of a function's `__firebase_endpoint__`."""
    manifest = function.__firebase_endpoint__
    known = {field.name for field in dataclasses.fields(manifest)}
    values = {name: plain(getattr(manifest, name)) for name in _REPORTED if name in known}
    return {name: value for name, value in values.items() if value is not None}


def cloud_event(incoming: Request) -> CloudEvent:
    """The event of a request in structured or binary mode.

    Raises ValueError or cloudevents.exceptions.GenericException if there is none.
    """
    body = incoming.get_data()
    if (incoming.content_type or "").startswith(_STRUCTURED):
        # Built without the SDK's parser, which encodes and decodes the data twice more and guesses at bytes.
        attributes = json.loads(body)
        if not isinstance(attributes, dict):
            raise ValueError("an event is a JSON object")
        data = attributes.pop("data", None)
        if (encoded := attributes.pop("data_base64", None)) is not None:
            data = base64.b64decode(encoded)
        return CloudEvent(attributes, data)
    content_type = incoming.mimetype
    is_json = content_type == "application/json" or content_type.endswith("+json")
    return from_http(dict(incoming.headers.items()), body, json.loads if is_json else bytes)


def _run_event(function: Callable[[CloudEvent], object], incoming: Request) -> ResponseReturnValue:
    try:
        event = cloud_event(incoming)
    except (ValueError, cloudevents.exceptions.GenericException) as error:
        return f"not a CloudEvent: {error}", 400
    try:
        function(event)
    except Exception:  # noqa: BLE001  a handler may raise anything; the instance goes on, as on the platform
        traceback.print_exc()
        return "the event handler failed", 500
    return "OK"


def application(functions: Mapping[str, Callable[[Any], Any]]) -> "WSGIApplication":
    """The WSGI application for all functions; a function sees the path after its own name, as in production."""
    app = Flask("functions_worker", static_folder=None)

    def run(path: str) -> ResponseReturnValue:
        function = functions.get(request.environ[_ENVIRON_FUNCTION])
        if function is None:
            raise NotFound
        incoming: Request = request._get_current_object()  # type: ignore[attr-defined]
        if function.__firebase_endpoint__.eventTrigger is not None:  # type: ignore[attr-defined]
            return _run_event(function, incoming)
        return cast("ResponseReturnValue", function(incoming))

    # Rules without methods match all methods, OPTIONS too, which Flask would otherwise answer itself.
    app.url_map.add(Rule("/", defaults={"path": ""}, endpoint="run"))
    app.url_map.add(Rule("/<path:path>", endpoint="run"))
    app.view_functions["run"] = run

    def enter(environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
        name, slash, rest = environ["PATH_INFO"].removeprefix("/").partition("/")
        environ[_ENVIRON_FUNCTION] = name
        environ["PATH_INFO"] = slash + rest or "/"
        return app.wsgi_app(environ, start_response)

    return enter


def _end_with_parent(descriptor: int) -> None:
    """The parent holds the other end of standard input; the pipe ends when the parent does, however it dies."""
    while os.read(descriptor, 4096):
        continue
    os._exit(0)


def _claim_streams() -> tuple[TextIO, int]:
    """Takes standard output and input for the parent, and leaves functions standard error and an empty input."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    cast("Any", sys.stdout).reconfigure(line_buffering=True)
    lifeline = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return report, lifeline


def main() -> None:
    parser = argparse.ArgumentParser(description="runs the Cloud Functions of a folder")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--project", required=True)
    parser.add_argument("--region", default="us-central1")
    arguments = parser.parse_args()
    report, lifeline = _claim_streams()
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    for name in ("GCLOUD_PROJECT", "GOOGLE_CLOUD_PROJECT"):
        os.environ.setdefault(name, arguments.project)
    os.environ.setdefault("FUNCTION_REGION", arguments.region)
    os.chdir(arguments.source)
    functions = serving.get_functions()
    server = WsgiServer(application(functions))
    endpoints = [endpoint(function) for function in functions.values()]
    with report:
        report.write(json.dumps({"port": server.port, "pid": os.getpid(), "functions": endpoints}) + "\n")
    server.serve_forever()


if __name__ == "__main__":
    main()
