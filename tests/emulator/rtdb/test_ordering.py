"""Order of keys and values, content hashes, push ids. The expected orders and hashes come from the JavaScript SDK."""

import random
import re
from typing import Any

import pytest

from emulator.rtdb.hashing import digest, etag
from emulator.rtdb.ordering import OBJECT_ORDER, key_order, value_order
from emulator.rtdb.push_ids import PushIds
from emulator.rtdb.tree import put
from emulator.rtdb.values import Builder


def test_order_of_keys() -> None:
    ordered = ["-2147483648", "-1", "0", "-0", "1", "01", "00000000000001", "9", "10", "2147483647"]
    ordered += ["-2147483649", "-N", "2147483648", "A1", "Z", "_", "a", "b", "😀", "～"]
    assert sorted(random.Random(1).sample(ordered, len(ordered)), key=key_order) == ordered


def test_order_of_values() -> None:
    ordered = [None, False, True, -1.5, 0, 2, 10, "", "10", "2", "a", "😀", "～"]
    assert sorted(random.Random(1).sample(ordered, len(ordered)), key=value_order) == ordered  # type: ignore[type-var]
    assert all(value_order(value) < OBJECT_ORDER for value in ordered)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, "w28swksk9+tXf5jEdS9R5oSFAv8="),
        (1.5, "4MftviR9Z/2MQCMkjh2RNbvlLJc="),
        (-3, "ALU0PPFYxIX2YFkRwLYyz/rUBY4="),
        (True, "E5z61QM0lN/U2WsOnusszCTkR8M="),
        (False, "aSSNoqcS4oQwJ2xxH20rvpp3zP0="),
        ("hello", "z6sRbrNLwbHX5fdjpvsTtWgXUFc="),
        ("üñ😀", "6BdJTRUmp8Dug4tNWZjkK6R+uw8="),
        ({"a": 1, "b": "x"}, "jRI9dwRS9sb4SWm8uuoN7+xBk4g="),
        ({"a": {".value": 1, ".priority": 2}, "b": {".value": 2, ".priority": 1}}, "/3lk7Vfl5OYG6Kw2SkiPXNeExPw="),
        ({".value": "v", ".priority": "p"}, "R0MIwvHETT8eZK7iUSai21aukVY="),
        ([1, 2, 3], "h6XOC3OcidJlNC1Velmi3gphgQk="),
        ({"10": 1, "9": 2, "a": {"b": True}, ".priority": 3}, "jUEoi6uVZWEiKewz20FMb7BDXas="),
        (None, ""),
    ],
)
def test_hashes_are_those_of_the_sdk(value: Any, expected: str) -> None:
    assert digest(Builder(0).node(value, depth=0)) == expected


def test_etags() -> None:
    builder = Builder(0)
    first = builder.node({"a": {"b": 1}}, depth=0)
    assert etag(None) == "null_etag"
    assert etag(first) == etag(builder.node({"a": {"b": 1}}, depth=0))
    changed = put(first, ("a", "b"), builder.node(2, depth=2))
    assert etag(changed) != etag(first)
    assert etag(put(changed, ("a", "b"), builder.node(1, depth=2))) == etag(first)


def test_push_ids_sort_in_the_order_they_were_made() -> None:
    ids = PushIds()
    made = [
        ids.next(now_ms)
        for now_ms in [1_700_000_000_000] * 70 + [1_700_000_000_001, 1_699_999_999_999, 1_800_000_000_000]
    ]
    assert made == sorted(made, key=key_order)
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[-0-9A-Z_a-z]{20}", key) for key in made)
    assert PushIds().next(1_700_000_000_000)[:8] == made[0][:8]
