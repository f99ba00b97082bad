"""Regular expressions of the rules language, translated to Python's.

The language has sets, groups, alternation, the quantifiers ? * + {n} {n,} {n,m} and the anchors ^ and $, and no
lookaround, back reference, lazy quantifier or `(?`. What it does not have is refused, because Python would understand
it and production would not load it.
"""

import re

from emulator.rtdb.rules.errors import ExpressionError

_CLASSES = "dDwWsS"
_CONTROL = {"t": "\\t", "n": "\\n", "r": "\\r", "f": "\\f", "v": "\\v", "b": "\\b", "B": "\\B"}
_QUANTIFIER = re.compile(r"[*+?]|\{[0-9]{1,4}(?:,(?:[0-9]{1,4})?)?\}", re.ASCII)
_DOT = "[^\\n\\r\u2028\u2029]"


def translate(body: str, flags: str, offset: int) -> re.Pattern[str]:
    """Compiles the text between the slashes; only the flag `i` exists. Raises ExpressionError."""
    if flags not in ("", "i"):
        raise ExpressionError(f"Unknown regular expression flags '{flags}'.", offset)
    try:
        return re.compile(_Translator(body, offset).run(), re.ASCII | (re.IGNORECASE if flags else 0))
    except (re.error, OverflowError, RecursionError) as error:
        raise ExpressionError(f"Invalid regular expression: {error}.", offset) from error


class _Translator:
    def __init__(self, body: str, offset: int) -> None:
        self._body = body
        self._offset = offset
        self._at = 0

    def run(self) -> str:
        out: list[str] = []
        repeatable = False
        while self._at < len(self._body):
            if match := _QUANTIFIER.match(self._body, self._at):
                if not repeatable:
                    raise self._failure("there is nothing to repeat here")
                out.append(match.group())
                self._at = match.end()
                repeatable = False  # "a+?", "a++" and "a**" do not exist
                continue
            character = self._body[self._at]
            repeatable = character not in "^$(|"
            out.append(self._one(character))
        return "".join(out)

    def _one(self, character: str) -> str:
        if character == "\\":
            return self._escape()
        if character == "[":
            return self._set()
        self._at += 1
        if character == "(" and self._body.startswith("?", self._at):
            raise self._failure("groups like (?...) are not supported")
        if character == ".":
            return _DOT
        if character == "$":
            return "\\Z"  # Python's $ also matches before a last line break
        if character == "^" or character in "()|":
            return character
        if character in "{}]":
            raise self._failure(f"'{character}' must be escaped")
        return re.escape(character)

    def _escape(self, *, in_set: bool = False) -> str:
        following = self._body[self._at + 1 : self._at + 2]
        self._at += 2
        if following and following in _CLASSES:
            return f"\\{following}"
        if following in _CONTROL and not (in_set and following in "bB"):
            return _CONTROL[following]
        if following and following in "ux":
            digits = 4 if following == "u" else 2
            code = self._body[self._at : self._at + digits]
            if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", code):
                raise self._failure(f"\\{following} needs {digits} hexadecimal digits")
            self._at += digits
            return re.escape(chr(int(code, 16)))
        if not following or following.isalnum():
            raise self._failure(f"unknown escape \\{following}")
        return re.escape(following)

    def _set(self) -> str:
        out = ["["]
        self._at += 1
        if self._body.startswith("^", self._at):
            out.append("^")
            self._at += 1
        empty = True
        while self._at < len(self._body):
            character = self._body[self._at]
            if character == "]":
                if empty:
                    raise self._failure("an empty set matches nothing")
                self._at += 1
                return "".join([*out, "]"])
            empty = False
            if character == "\\":
                out.append(self._escape(in_set=True))
                continue
            self._at += 1
            # A hyphen between two characters makes a range; everything else stands for itself.
            out.append("-" if character == "-" else re.escape(character))
        raise self._failure("this set is never closed")

    def _failure(self, message: str) -> ExpressionError:
        return ExpressionError(f"Invalid regular expression: {message}.", self._offset)
