"""Marks: when which step began and ended, in every process of a traced stack.

The processes append lines `nanoseconds process thread name value` to one file; the nanoseconds are of
time.monotonic_ns(), which all processes of a machine share on Linux and macOS. Public functions are wrapped when their
modules are loaded, so the product knows nothing of it; a function that has been renamed leaves no mark, and
`bench.trace` then joins its step to the next one.
"""

import importlib.machinery
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from types import ModuleType
from typing import Any

_COROUTINE = 0x80  # CO_COROUTINE of inspect, which is not loaded for one number

Describe = Callable[..., str]


class Marker:
    """Appends marks to a file. One write for each line, so that lines of different processes never mix."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._process = os.getpid()

    def __call__(self, name: str, value: str = "") -> None:
        line = f"{time.monotonic_ns()} {self._process} {threading.get_ident()} {name} {value}\n"
        os.write(self._descriptor, line.encode())


def _changed_paths(_: Any, change: Any) -> str:
    """The paths that a commit of the Realtime Database changed."""
    return ",".join("/".join(path) for path in change.paths)


def _function_called(_: Any, message: Any) -> str:
    return str(message.function)


# module -> (function, name of its marks, what to note of its arguments)
HOOKS: Mapping[str, Sequence[tuple[str, str, Describe | None]]] = {
    "emulator.triggers.dispatch": [("Dispatcher.on_rtdb_change", "rtdb.commit", _changed_paths)],
    "emulator.triggers.deliveries": [("Deliveries.deliver", "delivery", _function_called)],
    "emulator.triggers.host": [("FunctionsHost.start", "functions.start", None)],
    # The functions process builds one of these as soon as it has read a delivery.
    "cloudevents.http.event": [("CloudEvent.__init__", "function.event", None)],
    "concierge.assistant.flow": [
        ("handle_request", "request", None),
        ("generate", "generation", None),
    ],
    "concierge.assistant.repository": [
        ("Responses.write", "response.write", None),
        ("Responses.is_cancelled", "cancellation.look", None),
    ],
    "concierge.assistant.token_writer": [("TokenWriter.add", "token", None)],
    "concierge.ledger.service": [("Ledger.place_hold", "hold", None)],
    "concierge.llm.openai_compatible": [("OpenAICompatibleProvider.stream_chat", "provider.call", None)],
}
_GRPC = "grpc"


def install(path: str) -> None:
    """Wraps the functions of HOOKS, and counts what Firestore is asked, in this process."""
    sys.meta_path.insert(0, _Finder(Marker(path)))


def wrapped(function: Callable[..., Any], marker: Marker, name: str, describe: Describe | None) -> Callable[..., Any]:
    """The function with a mark before and after; a coroutine function gets the one before only."""
    is_coroutine = bool(function.__code__.co_flags & _COROUTINE)

    @wraps(function)
    def marked(*arguments: Any, **named: Any) -> Any:
        marker(f"{name}.begin", describe(*arguments, **named) if describe is not None else "")
        try:
            return function(*arguments, **named)
        finally:
            if not is_coroutine:
                marker(f"{name}.end")

    return marked


class _Finder:
    """Finds the modules of HOOKS as usual, and has their functions wrapped once they are loaded."""

    def __init__(self, marker: Marker) -> None:
        self._marker = marker

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != _GRPC and name not in HOOKS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            self._hook(name, module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _hook(self, name: str, module: Any) -> None:
        if name == _GRPC:
            from bench.firestore_calls import observed_server

            module.aio.server = observed_server(module.aio.server, self._marker)
            return
        for function, mark, describe in HOOKS[name]:
            owner_name, _, attribute = function.rpartition(".")
            owner = getattr(module, owner_name, None) if owner_name else module
            original = getattr(owner, attribute, None)
            if original is not None:
                setattr(owner, attribute, wrapped(original, self._marker, mark, describe))
