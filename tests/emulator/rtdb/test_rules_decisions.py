"""What the rules decide about reads and writes, and how they explain it."""

import json
from typing import Any

import pytest

from emulator.rtdb.rules.decision import Decision
from emulator.rtdb.rules.ruleset import Ruleset, load
from emulator.rtdb.tree import put
from emulator.rtdb.values import Builder, parse_path

ANN = {"uid": "ann"}


def rules_of(rules: Any) -> Ruleset:
    return load(json.dumps({"rules": rules}))


def read(rules: Any, path: str, data: Any = None, auth: Any = None) -> Decision:
    return rules_of(rules).read(parse_path(path), root=Builder(0).node(data, depth=0), auth=auth, now_ms=0)


def write(rules: Any, data: Any, changes: dict[str, Any], auth: Any = None, now_ms: int = 0) -> Decision:
    """One operation that writes all of `changes` at once."""
    builder = Builder(now_ms)
    before = after = builder.node(data, depth=0)
    for path, value in changes.items():
        after = put(after, parse_path(path), builder.node(value, depth=0))
    paths = [parse_path(path) for path in changes]
    return rules_of(rules).write(paths, before=before, after=after, auth=auth, now_ms=now_ms)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", False),
        ("/a", False),
        ("/a/open", True),
        ("/a/open/below", True),
        ("/a/open/shut", True),
        ("/a/other", False),
    ],
)
def test_a_grant_covers_what_is_below_and_nothing_else(path: str, allowed: bool) -> None:
    rules = {"a": {"open": {".read": True, ".write": True, "shut": {".read": False, ".write": False}}}}
    assert read(rules, path).allowed is allowed
    assert write(rules, None, {path: 1}).allowed is allowed


def test_a_named_child_wins_over_the_wildcard() -> None:
    rules = {"$any": {".read": True}, "secret": {"deep": {".read": True}}}
    assert read(rules, "/x").allowed
    assert read(rules, "/x/deep").allowed
    assert not read(rules, "/secret").allowed
    assert read(rules, "/secret/deep").allowed


def test_wildcards_hold_the_keys_of_the_path() -> None:
    rules = {"$a": {"x": {"$b": {".read": "$a == 'one' && $b == 'two'"}}}}
    assert read(rules, "/one/x/two").allowed
    assert read(rules, "/one/x/two/three").allowed
    assert not read(rules, "/two/x/one").allowed


def test_data_is_the_location_of_the_rule_and_root_the_whole() -> None:
    rules = {"a": {".read": "data.child('b').val() == 1 && root.child('a/b').val() == 1"}}
    assert read(rules, "/a/b/c", {"a": {"b": 1}}).allowed
    assert not read(rules, "/a/b/c", {"a": {"b": 2}}).allowed


def test_a_write_sees_what_was_and_what_will_be() -> None:
    rules = {"n": {".write": "newData.val() == data.val() + 1 && root.child('n').val() == data.val()"}}
    assert write(rules, {"n": 1}, {"n": 2}).allowed
    assert not write(rules, {"n": 1}, {"n": 3}).allowed
    create_only = {"$id": {".write": "!data.exists()"}}
    assert write(create_only, None, {"x": 1}).allowed
    assert not write(create_only, {"x": 1}, {"x": 2}).allowed
    assert not write(create_only, {"x": {"a": 1}}, {"x/b": 2}).allowed


def test_newdata_at_an_ancestor_has_the_write_merged_in() -> None:
    rules = {".write": True, "w": {".validate": "newData.hasChildren(['color', 'size'])"}}
    assert not write(rules, None, {"w/size": 1}).allowed
    assert write(rules, {"w": {"color": "red"}}, {"w/size": 1}).allowed
    assert write(rules, None, {"w": {"size": 1, "color": "red"}}).allowed


def test_every_validate_on_the_way_and_below_must_hold() -> None:
    rules = {
        ".write": True,
        ".validate": "newData.child('frozen').val() == null",
        "a": {"$x": {".validate": "newData.hasChild('n')", "n": {".validate": "newData.isNumber()"}}},
    }
    assert write(rules, None, {"a": {"p": {"n": 1}, "q": {"n": 2}}}).allowed
    assert not write(rules, None, {"a": {"p": {"n": 1}, "q": {"n": "2"}}}).allowed
    assert not write(rules, None, {"a": {"p": {"n": 1}, "q": {"m": 2}}}).allowed
    assert not write(rules, {"frozen": True}, {"a/p": {"n": 1}}).allowed
    assert not write(rules, None, {"a/p/n": "1"}).allowed
    assert not write(rules, None, {"/": {"a": {"p": {"n": "1"}}}}).allowed


def test_a_validate_does_not_grant() -> None:
    assert not write({"a": {".validate": True}}, None, {"a": 1}).allowed


def test_other_children_are_refused_by_a_wildcard_that_is_false() -> None:
    rules = {".write": True, "a": {"known": {".validate": "newData.isString()"}, "$other": {".validate": False}}}
    assert write(rules, None, {"a": {"known": "x"}}).allowed
    assert not write(rules, None, {"a": {"known": "x", "more": 1}}).allowed
    assert not write(rules, None, {"a/more": 1}).allowed
    assert write(rules, {"a": {"more": 1}}, {"a/more": None}).allowed


def test_a_removal_is_validated_only_where_something_remains() -> None:
    rules = {"w": {".write": True, ".validate": "newData.hasChildren(['color'])", "color": {".validate": False}}}
    data = {"w": {"color": "red", "size": 1}}
    assert write(rules, data, {"w": None}).allowed
    assert not write(rules, data, {"w/color": None}).allowed
    assert write(rules, {"w": {"color": "red"}}, {"w/color": None}).allowed
    assert write(rules, data, {"w/size": None}).allowed


def test_a_removal_still_needs_a_write_rule() -> None:
    rules = {"w": {".write": "newData.exists()"}}
    assert not write(rules, {"w": 1}, {"w": None}).allowed
    assert write(rules, {"w": 1}, {"w": 2}).allowed


def test_each_path_of_an_update_is_judged_against_the_merged_data() -> None:
    rules = {
        "posts": {"$id": {".write": "newData.parent().parent().child('index').hasChild($id)"}},
        "index": {"$id": {".write": "newData.parent().parent().child('posts').hasChild($id)"}},
    }
    assert write(rules, None, {"posts/p": 1, "index/p": True}).allowed
    assert not write(rules, None, {"posts/p": 1}).allowed
    assert not write(rules, None, {"posts/p": 1, "index/q": True}).allowed
    assert not write(rules, None, {"posts/p": 1, "index/p": True, "elsewhere": 1}).allowed
    # root is what was: an update cannot fulfil a condition on the past.
    assert not write({"a": {".write": "root.hasChild('b')"}, "b": {".write": True}}, None, {"a": 1, "b": 1}).allowed


def test_each_path_of_an_update_is_validated() -> None:
    rules = {".write": True, "$k": {".validate": "newData.isNumber()"}}
    assert write(rules, None, {"a": 1, "b": 2}).allowed
    refused = write(rules, None, {"a": 1, "b": "2"})
    assert not refused.allowed
    assert refused.path == ("b",)


def test_the_timestamp_of_the_server_is_now() -> None:
    rules = {"at": {".write": True, ".validate": "newData.val() == now"}}
    assert write(rules, None, {"at": {".sv": "timestamp"}}, now_ms=77).allowed
    assert not write(rules, None, {"at": 76}, now_ms=77).allowed


def test_a_decision_explains_itself() -> None:
    rules = {
        ".write": "auth.uid == 'root'",
        "users": {"$uid": {".write": "auth.uid == $uid", "age": {".validate": "newData.val() > 17"}}},
    }
    allowed = write(rules, None, {"users/ann": {"age": 18}}, ANN)
    assert allowed.decisive is not None
    assert (allowed.decisive.kind, allowed.decisive.rule_path) == (".write", "/users/$uid")
    assert [step.result for step in allowed.steps] == [False, True, True]

    invalid = write(rules, None, {"users/ann": {"age": "x"}}, ANN)
    assert invalid.decisive is not None
    assert invalid.decisive.kind == ".validate"
    assert invalid.decisive.location == ("users", "ann", "age")
    assert invalid.decisive.error is not None

    denied = write(rules, None, {"users/bob": 1}, ANN)
    assert denied.decisive is None
    assert denied.explain().splitlines() == [
        "write of /users/bob denied: no .write rule on the way to this location is true",
        """  .write of / at /: "auth.uid == 'root'" is false""",
        '  .write of /users/$uid at /users/bob: "auth.uid == $uid" is false',
    ]
    assert "decided by .read of /a" in read({"a": {".read": True}}, "/a/b").explain()
