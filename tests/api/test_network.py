"""Whom a call is believed to come from."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from concierge.api.app import create_app
from concierge.api.network import caller_network


def network(trusted_proxies: int, header: str | None) -> str | None:
    app = create_app(cast(Any, SimpleNamespace(settings=SimpleNamespace(trusted_proxies=trusted_proxies))))
    headers = {"X-Forwarded-For": header} if header is not None else {}
    with app.test_request_context(headers=headers, environ_base={"REMOTE_ADDR": "203.0.113.9"}):
        return caller_network()


@pytest.mark.parametrize(
    ("trusted", "header", "seen"),
    [
        (0, None, "203.0.113.9"),
        # A header that nobody vouches for must not hide where the call comes from.
        (0, "198.51.100.1", "203.0.113.9"),
        (1, None, "203.0.113.9"),
        (1, "", "203.0.113.9"),
        (1, " , ", "203.0.113.9"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "10.0.0.1, 198.51.100.1", "198.51.100.1"),
        (2, "10.0.0.1, 198.51.100.1 , 192.0.2.1", "198.51.100.1"),
        # Fewer hops than there are proxies: whose the only one is cannot be told.
        (2, "198.51.100.1", None),
    ],
)
def test_only_what_trusted_proxies_added_is_believed(trusted: int, header: str | None, seen: str | None) -> None:
    assert network(trusted, header) == seen
