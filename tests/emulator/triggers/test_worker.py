"""What the functions process makes of HTTP requests and manifests."""

import json
from typing import Any

import cloudevents.exceptions
import pytest
from firebase_functions.options import RESET_VALUE
from firebase_functions.params import BoolParam
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from emulator.triggers import worker
from emulator.triggers.manifest import parse

_ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "//s", "type": "t", "subject": "grüße"}


def event(body: bytes, headers: dict[str, str]) -> Any:
    request = Request(EnvironBuilder(method="POST", data=body, headers=headers).get_environ())
    return worker.cloud_event(request)  # type: ignore[arg-type]


def test_structured_events() -> None:
    headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    parsed = event(json.dumps({**_ATTRIBUTES, "data": {"a": [1]}}).encode(), headers)
    assert (parsed["subject"], parsed.get_data()) == ("grüße", {"a": [1]})
    assert event(json.dumps({**_ATTRIBUTES, "data_base64": "eyJ9"}).encode(), headers).get_data() == b'{"}'


def test_binary_events() -> None:
    headers = {f"ce-{name}": value for name, value in _ATTRIBUTES.items() if name != "subject"}
    assert event(b'{"a": 1}', {**headers, "Content-Type": "application/json"}).get_data() == {"a": 1}
    # Bytes that happen to be JSON stay bytes.
    protobuf = event(b"12", {**headers, "Content-Type": "application/protobuf"})
    assert protobuf.get_data() == b"12" and protobuf["datacontenttype"] == "application/protobuf"


@pytest.mark.parametrize("body", [b"", b"[]", b'"text"', b"{}", b"nonsense"])
def test_what_is_no_event(body: bytes) -> None:
    with pytest.raises((ValueError, cloudevents.exceptions.GenericException)):
        event(body, {"Content-Type": "application/cloudevents+json"})


def test_manifest_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCH", "true")
    value = {"a": RESET_VALUE, "b": [BoolParam("SWITCH")], "c": {"d": None, "e": 0}}
    assert worker.plain(value) == {"b": [True], "c": {"e": 0}}


def test_an_endpoint_without_a_trigger_is_refused() -> None:
    with pytest.raises(ValueError, match="declares no trigger"):
        parse({"entryPoint": "x"})
    spec = parse({"entryPoint": "x", "httpsTrigger": {}, "region": ["europe-west1"], "timeoutSeconds": 540})
    assert spec.serves("europe-west1", "us-central1") and not spec.serves("us-central1", "us-central1")
    assert spec.timeout_seconds == 540
