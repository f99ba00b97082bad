"""Requests of one key that overlap just so: the decorator around a view that a test holds up, over real documents."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask, g, jsonify
from support.api import forget_lease
from support.backend import Backend
from werkzeug.test import TestResponse

from cli.client import Client
from concierge.api.idempotency import idempotent
from concierge.api.problems import register
from concierge.api.support import Schema
from concierge.identity.tokens import Caller


class Nothing(Schema):
    """No fields."""


class Slow:
    """An application with one route. Its first call waits for `gate`, and then fails if `fails`; each call answers with
    its number."""

    def __init__(self, backend: Backend, client: Client) -> None:
        assert client.session is not None
        self.started, self.gate, self.fails = threading.Event(), threading.Event(), False
        self.key = uuid4().hex
        self._uid, self._calls = client.session.uid, count()
        self._app = Flask("slow")
        self._app.extensions["concierge"] = SimpleNamespace(firestore=lambda: backend.firestore)
        register(self._app)
        self._app.before_request(self._sign_in)
        self._app.post("/act")(idempotent(Nothing)(self._act))

    def call(self) -> TestResponse:
        return self._app.test_client().post("/act", headers={"Idempotency-Key": self.key})

    def _sign_in(self) -> None:
        g.caller = Caller(self._uid, is_admin=False)

    def _act(self, body: Nothing, key: str) -> Any:
        number = next(self._calls)
        if number == 0:
            self.started.set()
            assert self.gate.wait(60)
            if self.fails:
                raise ZeroDivisionError
        return jsonify(number=number)


@pytest.fixture
def client(backend: Backend) -> Client:
    return backend.client()


@pytest.fixture
def slow(backend: Backend, client: Client) -> Iterator[Slow]:
    found = Slow(backend, client)
    yield found
    found.gate.set()


@pytest.mark.acceptance("I04")
def test_while_the_first_one_is_under_way_the_others_are_sent_away(slow: Slow) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slow.call)
        assert slow.started.wait(60)
        others = [slow.call() for _ in range(3)]
        slow.gate.set()
        assert first.result().get_json() == {"number": 0}
    for other in others:
        assert other.status_code == 409
        assert other.get_json()["retryAfterSeconds"] == 1
        assert other.headers["Retry-After"] == "1"
    again = slow.call()
    assert (again.get_json(), again.headers["Idempotency-Replayed"]) == ({"number": 0}, "true")


@pytest.mark.acceptance("I04")
@pytest.mark.parametrize("fails", [False, True])
def test_a_slow_run_leaves_the_record_to_who_took_its_key_over(
    backend: Backend, client: Client, slow: Slow, fails: bool
) -> None:
    slow.fails = fails
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slow.call)
        assert slow.started.wait(60)
        forget_lease(backend, client, slow.key)
        assert slow.call().get_json() == {"number": 1}
        slow.gate.set()
        assert first.result().status_code == (500 if fails else 200)
    again = slow.call()
    assert (again.get_json(), again.headers["Idempotency-Replayed"]) == ({"number": 1}, "true")
