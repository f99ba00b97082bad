"""The rules file itself: comments, structure, and where an error is."""

import json
from typing import Any

import pytest

from emulator.rtdb.rules.errors import RulesError
from emulator.rtdb.rules.ruleset import LOCKED, load


def test_comments_line_breaks_and_booleans_are_taken() -> None:
    rules = load(
        """
    // The rules of a test. {
    {
      /* "rules": { */
      "rules": { // here
        ".read": true,
        "a": {
          ".write": "auth != null
                     && auth.uid == 'a'", /* after */
          ".indexOn": ["x", "y/z", ".value"],
          "b//c": "nothing" // not reached
        }
      }
    }
    """.replace('"b//c": "nothing" // not reached', '".validate": "newData.val() != \'//\'"')
    )
    assert rules.read(("a",), root=None, auth=None, now_ms=0).allowed
    assert rules.has_index(("a",), "x")
    assert rules.has_index(("a",), "y/z")
    assert rules.has_index(("a",), ".value")
    assert not rules.has_index(("a",), "y")
    assert not rules.has_index(("a", "b"), "x")
    assert not rules.has_index((), "x")


def test_the_locked_rules_lock() -> None:
    assert not load(LOCKED).read((), root=None, auth={"uid": "a"}, now_ms=0).allowed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expected"),
        ("[]", "Expected an object"),
        ("{}", "'rules'"),
        ('{"rules": {}, "more": {}}', "'rules'"),
        ('{"rules": true}', "must be an object"),
        ('{"rules": null}', "must be an object"),
        ('{"rules": {}', "Expected ',' or '}'"),
        ('{"rules": {}} x', "Expected the end"),
        ('{"rules": {} /* open', "never closed"),
        ('{"rules": {".read": true,}}', "Expected a key"),
        ("{'rules': {}}", "Expected a key"),
        ('{"rules" {}}', "Expected ':'"),
        ('{"rules": {"a": {}, "a": {}}}', "twice"),
        ('{"rules": {".read": 1}}', "string or a boolean"),
        ('{"rules": {".read": null}}', "string or a boolean"),
        ('{"rules": {".read": {}}}', "string or a boolean"),
        ('{"rules": {".reed": true}}', "Unknown kind of rule"),
        ('{"rules": {".Write": true}}', "Unknown kind of rule"),
        ('{"rules": {".value": true}}', "Unknown kind of rule"),
        ('{"rules": {"a": "true"}}', "must be an object"),
        ('{"rules": {"a": true}}', "must be an object"),
        ('{"rules": {"a/b": {}}}', "Invalid key"),
        ('{"rules": {"a.b": {}}}', "Invalid key"),
        ('{"rules": {"": {}}}', "Invalid key"),
        ('{"rules": {"$a": {}, "$b": {}}}', "two wildcards"),
        ('{"rules": {"$a": {"$a": {}}}}', "already used"),
        ('{"rules": {"$": {}}}', "Invalid wildcard"),
        ('{"rules": {"$a-b": {}}}', "Invalid wildcard"),
        ('{"rules": {".indexOn": 1}}', ".indexOn"),
        ('{"rules": {".indexOn": ["a", 1]}}', ".indexOn"),
        ('{"rules": {".indexOn": "a.b"}}', "Invalid path"),
        ('{"rules": {".indexOn": ""}}', "Invalid path"),
        ('{"rules": {".read": "newData.exists()"}}', "Unknown variable 'newData'"),
        ('{"rules": {".write": "query.orderByKey"}}', "Unknown variable 'query'"),
        ('{"rules": {"$a": {}, "b": {".read": "$a == \'x\'"}}}', "Unknown variable '$a'"),
        ('{"rules": ' + '{"a":' * 1000 + "{}" + "}" * 1001, "nested too deeply"),
        ('{"rules": {".indexOn": ' + "[" * 1000 + "]" * 1000 + "}}", "nested too deeply"),
    ],
)
def test_what_must_not_load(text: str, message: str) -> None:
    with pytest.raises(RulesError) as caught:
        load(text)
    assert message in caught.value.message


@pytest.mark.parametrize(
    "text", ['{"rules": {".read": "auth.uid == \\"x\\"}}', '{"rules": {"a": tru}}', '{"rules": {"a']
)
def test_broken_json_must_not_load(text: str) -> None:
    with pytest.raises(RulesError):
        load(text)


def test_an_error_names_its_place() -> None:
    text = '{"rules": {\n "users": {\n  "$uid": {\n\n   ".read": "auth.uid == $uid && foo"\n}}}}'
    with pytest.raises(RulesError) as caught:
        load(text)
    error = caught.value
    assert (error.path, error.line) == ("/users/$uid/.read", 5)
    assert text.splitlines()[error.line - 1][error.column - 1 :].startswith("foo")
    assert str(error) == f"Line 5, column {error.column}, at /users/$uid/.read: Unknown variable 'foo'."


def test_an_error_after_escapes_points_at_its_rule() -> None:
    rule = json.dumps('auth.uid == "a" && foo')
    with pytest.raises(RulesError) as caught:
        load(f'{{"rules": {{\n".read": {rule}}}}}')
    assert (caught.value.line, caught.value.column) == (2, len('".read": ') + 1)


@pytest.mark.parametrize("value", [True, "true"])
def test_a_literal_boolean_is_a_rule(value: Any) -> None:
    assert load(json.dumps({"rules": {".read": value}})).read((), root=None, auth=None, now_ms=0).allowed
