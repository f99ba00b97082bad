"""The expression language: what expressions evaluate to, and what must not load."""

import json
from typing import Any

import pytest

from emulator.rtdb.query import parse_query
from emulator.rtdb.rules.errors import RulesError
from emulator.rtdb.rules.ruleset import load
from emulator.rtdb.values import Builder

NOW_MS = 1_700_000_000_000
DATA = {
    "users": {
        "ann": {"name": "Ann", "age": 30, "admin": True, "score": {".value": 1.5, ".priority": "high"}},
        "bob": {"name": "Bob Ünal", "age": 0, "admin": False, "list": [1, 2]},
    },
    "text": "a.b",
    "number": 5,
    "emoji": "😀",
}
AUTH = {
    "uid": "ann",
    "provider": "password",
    "token": {
        "email": "ann@example.org",
        "email_verified": True,
        "level": 3,
        "groups": ["x", "y"],
        "nested": {"k": "v"},
    },
}

TRUE = [
    "true",
    "!false",
    "!(1 > 2)",
    "$uid == 'ann'",
    "$uid === auth.uid",
    "auth.provider == 'password'",
    "auth['uid'] == 'ann'",
    "auth.token.email_verified == true",
    "auth.token['level'] > 2",
    "auth.token.nested.k == 'v'",
    "auth.token.groups[1] == 'y'",
    "auth.token.groups[7] == null",
    "auth.token.missing == null",
    "auth.token.missing.deeper == null",
    "auth.token.email.endsWith('@example.org')",
    "auth.token.email.length == 15",
    "auth != null && auth.uid != null",
    "now == 1700000000000",
    "now - 1000 < now",
    "data.exists()",
    "data.val() != null",
    "data.child('name').val() == 'Ann'",
    "data.child('/name/').val() == \"Ann\"",
    "data.child('nothing').val() == null",
    "data.parent().child('bob/name').val() == 'Bob Ünal'",
    "data.parent().parent().child('number').val() == 5",
    "data.hasChild('name') && !data.hasChild('nothing')",
    "data.hasChildren()",
    "data.hasChildren(['name', 'age'])",
    "!data.hasChildren(['name', 'nothing'])",
    "!data.child('name').hasChildren()",
    "root.child('users').hasChildren([$uid])",
    "root.child('users/' + $uid + '/age').val() == 30",
    "root.child('users').child('bob').child('list').child('1').val() == 2",
    "data.child('age').isNumber() && data.child('name').isString() && data.child('admin').isBoolean()",
    "!data.child('admin').isNumber() && !data.child('age').isString() && !data.isString()",
    "data.child('score').getPriority() == 'high'",
    "data.getPriority() == null",
    "data.child('name').val().length == 3",
    "root.child('emoji').val().length == 2",
    "data.child('age').val() + 1 == 31",
    "data.child('age').val() + 'x' == '30x'",
    "'a' + 1.5 == 'a1.5'",
    "'' + 0.00001 == '0.00001'",
    "'' + 1 / 4 == '0.25'",
    "'' + (4 / 2) == '2'",
    "1 + 2 * 3 == 7",
    "(1 + 2) * 3 == 9",
    "7 - 2 - 1 == 4",
    "7 % 3 == 1",
    "-7 % 3 == -1",
    "10 / 4 == 2.5",
    "1 / 0 != 1 / 0",
    "1e3 == 1000",
    "0.5 + 0.5 == 1",
    "1 == 1.0",
    "data.child('admin').val() != 1",
    "false != 0",
    "'1' != 1",
    "null == null",
    "'a' < 'b'",
    "'B' < 'a'",
    "'😀' < '～'",
    "'' < 'a'",
    "2 < 10",
    "1 <= 1 && 1 >= 1",
    "true || auth.uid.length > 'x'.length",
    "1 > 0 ? true : false",
    "(1 > 2 ? 'x' : 'y') == 'y'",
    "1 > 2 ? false : 2 > 1 ? true : false",
    "true && false || true",
    "true || false && false",
    "'abc'.contains('b')",
    "'abc'.beginsWith('ab') && !'abc'.beginsWith('b')",
    "'abab'.endsWith('ab')",
    "'a-b-c'.replace('-', '+') == 'a+b+c'",
    "'ÄB'.toLowerCase() == 'äb' && 'äb'.toUpperCase() == 'ÄB'",
    "'abc'.matches(/b/)",
    "!'abc'.matches(/^b/)",
    "'abc'.matches(/^ABC$/i)",
    "!'abc\\n'.matches(/^abc$/)",
    "'a\\nb'.matches(/^a\\sb$/)",
    "!'a\\nb'.matches(/a.b/)",
    "'2024-01-02'.matches(/^[0-9]{4}-\\d\\d-\\d{1,2}$/)",
    "'a/b'.matches(/a\\/b/)",
    "'a/b'.matches(/^[/a-b]+$/)",
    "'x]y-z'.matches(/^x[\\]]y[-]z$/)",
    "'ab'.matches(/^(a|b)+$/)",
    "'[a&&b]'.matches(/^[[a&b\\]]+$/)",
    "'ann@example.org'.matches(/^[A-Z0-9._%+-]+@[A-Z0-9.-]+\\.[A-Z]{2,4}$/i)",
    "'it\\'s' == \"it's\"",
    "'\\u0041\\x42' == 'AB'",
    "'a'.length + 1 == 2",
    "data.child($uid + '').exists() == false",
    "root.child(auth.uid).exists() == false",
]

FALSE = [
    "false",
    "auth.uid == 'bob'",
    "auth == null",
    "data.val() == null",
    "data.val() == data.val()",
    "1 / 0 > 0",
    "'a' > 'b'",
    # Type errors make the whole rule false, whatever it says elsewhere.
    "data.child('nothing').val().contains('x') || true",
    "data.child('age').val().contains('3') || true",
    "data.child('name').val() > 3 || true",
    "data.child('nothing').val() > 3 || true",
    "data.child('nothing').val() + 1 > 0 || true",
    "data.child('name').val() - 1 > 0 || true",
    "-data.child('name').val() < 0 || true",
    "data.child('name').val() % 2 == 0 || true",
    "data.val() > 1 || true",
    "data.child(auth.token.missing).exists() || true",
    "data.child(root.child('text').val()).exists() || true",
    "root.parent().exists() || true",
    "data.hasChild(auth.token.missing) || true",
    "data.child('age').val().length > 0 || true",
    "'abc'.contains(auth.token.level) || true",
    "auth.token.level.matches(/3/) || true",
]

REFUSED = [
    "",
    "foo",
    "auth.uid == $other",
    "newData.exists()",
    "data",
    "data.val()",
    "auth.uid",
    "auth.token.admin",
    "'true'",
    "1",
    "null",
    "true true",
    "true &&",
    "&& true",
    "(true",
    "true)",
    "[1]",
    "!1",
    "!auth.token.admin",
    "!data.val()",
    "-'a' == 1",
    "+1 == 1",
    "auth.token.admin && true",
    "true && data.val()",
    "auth || true",
    "data.val() ? true : false",
    "true ? 1 : 2",
    "true ? true",
    "true & true",
    "true | true",
    "a = 1",
    "1 = 1",
    "~1 == 1",
    "1 ** 2 == 1",
    "1 << 2 == 4",
    "typeof data == 'x'",
    "data == null",
    "data != data",
    "root == data",
    "1 < 'a'",
    "true < false",
    "data < 1",
    "data + 1 == 2",
    "null + 1 == 1",
    "true + 1 == 2",
    "'a' - 1 == 0",
    "'a' * 'b' == 0",
    "data.foo()",
    "data.foo == 1",
    "data.val == 1",
    "data.exists",
    "data['val']",
    "data.val().foo == 1",
    "data.val()['a'] == 1",
    "data.numChildren() > 1",
    "data.child('a').hasChildren('b')",
    "data.hasChildren([])",
    "data.hasChildren([1])",
    "data.hasChildren(['a'], ['b'])",
    "data.hasChildren(['a.b'])",
    "data.child().exists()",
    "data.child('a', 'b').exists()",
    "data.child(1).exists()",
    "data.child('a.b').exists()",
    "data.child('a#').exists()",
    "data.exists(1)",
    "data.val(1) == 1",
    "data.parent(1).exists()",
    "data.hasChild()",
    "data.isNumber",
    "now.val() == 1",
    "now.length == 1",
    "now.contains('1')",
    "now() == 1",
    "data()",
    "'a'.foo()",
    "'a'.length() == 1",
    "'a'.contains() ",
    "'a'.contains(1)",
    "'a'.contains('a', 'b')",
    "'a'.replace('a') == ''",
    "'a'.toLowerCase('a') == 'a'",
    "'a'.substring(1) == ''",
    "'a'[0] == 'a'",
    "'a'.matches('a')",
    "'a'.matches(auth.uid)",
    "'a'.matches(/a/g)",
    "'a'.matches(/a/ii)",
    "'a'.matches(/(/)",
    "'a'.matches(/a)/)",
    "'a'.matches(/*/)",
    "'a'.matches(/a**/)",
    "'a'.matches(/a+?/)",
    "'a'.matches(/a++/)",
    "'a'.matches(/a{2,1}/)",
    "'a'.matches(/a{x}/)",
    "'a'.matches(/[/)",
    "'a'.matches(/[]/)",
    "'a'.matches(/[b-a]/)",
    "'a'.matches(/(?:a)/)",
    "'a'.matches(/(?=a)/)",
    "'a'.matches(/(?i)a/)",
    "'a'.matches(/(a)\\1/)",
    "'a'.matches(/\\p/)",
    "'a'.matches(/\\u12/)",
    "'a'.matches(//)",
    "/a/",
    "/a/ == /a/",
    "auth.token.x.matches(/a/) == 'a'.length && 1",
    "'unclosed",
    '"unclosed',
    "1.",
    "1x == 1",
    "01 == 1",
    "0x10 == 16",
    "auth.",
    "auth..uid == 1",
    "auth[data] == 1",
    "auth.uid.contains(data)",
    "#",
    "`a` == 'a'",
    "auth.uid == 'a'; true",
    "query.foo == 1",
    "query == null",
    "query.orderByKey.x",
    "(" * 500 + "true" + ")" * 500,
    "!" * 5000 + "true",
]


def evaluate(expression: str, **options: Any) -> tuple[bool, str | None]:
    """The result of an expression as the .read rule of /users/ann, and the error of its evaluation."""
    rules = load(json.dumps({"rules": {"users": {"$uid": {".read": expression}}}}))
    root = Builder(0).node(DATA, depth=0)
    options = {"auth": AUTH, "now_ms": NOW_MS, "root": root, **options}
    decision = rules.read(("users", "ann"), **options)
    (step,) = decision.steps
    assert step.result == decision.allowed
    return decision.allowed, step.error


@pytest.mark.parametrize("expression", TRUE)
def test_true(expression: str) -> None:
    assert evaluate(expression) == (True, None)


@pytest.mark.parametrize("expression", FALSE)
def test_false(expression: str) -> None:
    allowed, error = evaluate(expression)
    assert not allowed
    assert (error is not None) == expression.endswith("|| true")


@pytest.mark.parametrize("expression", REFUSED)
def test_refused_when_the_rules_load(expression: str) -> None:
    with pytest.raises(RulesError) as caught:
        evaluate(expression)
    assert caught.value.path == "/users/$uid/.read"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("auth == null", True), ("auth.uid == 'ann'", False), ("auth.uid != null", False), ("auth.token.x == null", True)],
)
def test_without_a_user(expression: str, expected: bool) -> None:
    assert evaluate(expression, auth=None) == (expected, None)


FIRST_TEN = "query.orderByKey && query.limitToFirst <= 10"
OWN = "query.orderByChild == 'owner' && query.equalTo == auth.uid"


@pytest.mark.parametrize(
    ("expression", "parameters", "expected"),
    [
        (FIRST_TEN, {"orderBy": '"$key"', "limitToFirst": "10"}, True),
        (FIRST_TEN, {"orderBy": '"$key"', "limitToFirst": "11"}, False),
        (FIRST_TEN, {"orderBy": '"$key"', "limitToLast": "10"}, False),
        (OWN, {"orderBy": '"owner"', "equalTo": '"ann"'}, True),
        (OWN, {"orderBy": '"owner"', "equalTo": '"bob"'}, False),
        (OWN, {"orderBy": '"owner"', "startAt": '"ann"'}, False),
        ("query.orderByValue && query.endAt == 2", {"orderBy": '"$value"', "startAt": "1", "endAt": "2"}, True),
        ("query.orderByPriority && query.limitToLast == 1", {"orderBy": '"$priority"', "limitToLast": "1"}, True),
        ("query.orderByKey", {}, False),
        ("query.orderByChild == null && query.limitToFirst == null", {}, True),
    ],
)
def test_rules_about_queries(expression: str, parameters: dict[str, str], expected: bool) -> None:
    assert evaluate(expression, query=parse_query(parameters))[0] is expected


def test_a_very_long_chain_is_evaluated() -> None:
    assert evaluate(" || ".join([*["false"] * 3000, "true"])) == (True, None)


def test_too_deep_an_expression_is_false_and_no_crash() -> None:
    allowed, error = evaluate("1" + " + 1" * 20_000 + " > 0")
    assert not allowed
    assert error
