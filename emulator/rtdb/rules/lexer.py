"""Tokens of an expression."""

import re
from dataclasses import dataclass
from typing import Literal

from emulator.rtdb.rules.errors import ExpressionError

TokenKind = Literal["number", "string", "name", "regex", "operator", "end"]

_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)
_STRING = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_REGEX = re.compile(r"/((?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)/([A-Za-z]*)")
_OPERATOR = re.compile(r"===|!==|==|!=|<=|>=|&&|\|\||[-+*/%<>!?:()\[\],.]")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is the operator or the name; `value` that of a literal; `flags` those of a regex."""

    kind: TokenKind
    text: str
    offset: int
    value: str | int | float | None = None
    flags: str = ""


def tokens(text: str) -> list[Token]:
    """The tokens of an expression, the last of kind "end". Raises ExpressionError."""
    found: list[Token] = []
    at = 0
    while True:
        space = _SPACE.match(text, at)
        at = space.end() if space else at
        if at == len(text):
            found.append(Token("end", "", at))
            return found
        token, at = _next(text, at, found[-1] if found else None)
        found.append(token)


def _next(text: str, at: int, previous: Token | None) -> tuple[Token, int]:
    if match := _NUMBER.match(text, at):
        if match.end() < len(text) and _NAME.match(text, match.end()):
            raise ExpressionError("Invalid number.", at)
        number = match.group()
        value = int(number) if number.isdigit() else float(number)
        return Token("number", number, at, value), match.end()
    if match := _NAME.match(text, at):
        return Token("name", match.group(), at), match.end()
    if match := _STRING.match(text, at):
        return Token("string", match.group(), at, _unescape(match.group()[1:-1])), match.end()
    # A slash divides where an operand has just ended, and begins a regular expression everywhere else.
    divides = previous is not None and (
        previous.kind in ("number", "string", "name") or (previous.kind == "operator" and previous.text in (")", "]"))
    )
    if text[at] == "/" and not divides:
        if match := _REGEX.match(text, at):
            return Token("regex", match.group(), at, match.group(1), match.group(2)), match.end()
        raise ExpressionError("Invalid regular expression.", at)
    if match := _OPERATOR.match(text, at):
        return Token("operator", match.group(), at), match.end()
    if text[at] in "'\"":
        raise ExpressionError("This string is never closed.", at)
    raise ExpressionError(f"Unexpected character {text[at]!r}.", at)


def _unescape(body: str) -> str:
    def replace(match: re.Match[str]) -> str:
        escape = match.group(1)
        if len(escape) > 1:
            return chr(int(escape[1:], 16))
        return _ESCAPED.get(escape, escape)

    return _ESCAPE.sub(replace, body) if "\\" in body else body
