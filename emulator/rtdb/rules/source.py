"""The file that rules are written in: JSON with comments, read with the position of every value."""

import json
import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from emulator.contracts import Json
from emulator.rtdb.rules.errors import RulesError

_SPACE_AND_COMMENTS = re.compile(r"(?:[ \t\r\n\ufeff]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_NESTING_MAX = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and where it is: `offset` of its first character, `key_offset` of its key. Objects hold entries."""

    value: Json
    offset: int
    key_offset: int


class SourceText:
    """The text of a rules file, for turning offsets into lines."""

    def __init__(self, text: str) -> None:
        self.text = text

    def error(self, message: str, offset: int, path: str = "") -> RulesError:
        line = self.text.count("\n", 0, offset) + 1
        column = offset - self.text.rfind("\n", 0, offset)
        return RulesError(message, path=path, line=line, column=column)

    def expression_offset(self, entry: Entry, at: int) -> int:
        """The offset in the file of character `at` of a string value; its beginning if escapes blur the place."""
        start = entry.offset + 1
        plain = self.text.startswith(entry.value[:at], start)
        return start + at if plain else entry.offset

    def parse(self) -> dict[str, Entry]:
        """The object at the top. Raises RulesError."""
        entry, end = _Parser(self).value(0, "", 0)
        end = _Parser(self).skip(end, "")
        if end != len(self.text):
            raise self.error("Expected the end of the rules.", end)
        if not isinstance(entry.value, dict):
            raise self.error("Expected an object.", entry.offset)
        return entry.value


class _Parser:
    def __init__(self, source: SourceText) -> None:
        self._source = source
        self._text = source.text
        # Production accepts line breaks within the string of an expression, so strict is off.
        self._decoder = json.JSONDecoder(strict=False)

    def skip(self, at: int, path: str) -> int:
        match = _SPACE_AND_COMMENTS.match(self._text, at)
        end = match.end() if match else at
        if self._text.startswith("/*", end):
            self._fail("This comment is never closed.", end, path)
        return end

    def value(self, at: int, path: str, nesting: int, key_offset: int = 0) -> tuple[Entry, int]:
        at = self.skip(at, path)
        if nesting > _NESTING_MAX:
            self._fail("The rules are nested too deeply.", at, path)
        if self._text.startswith("{", at):
            members, end = self._object(at, path, nesting)
            return Entry(members, at, key_offset), end
        if self._text.startswith("[", at):
            items, end = self._array(at, path, nesting)
            return Entry(items, at, key_offset), end
        try:
            decoded, end = self._decoder.raw_decode(self._text, at)
        except (ValueError, RecursionError):
            self._fail("Expected an object, an array, a string or a literal.", at, path)
        return Entry(decoded, at, key_offset), end

    def _object(self, at: int, path: str, nesting: int) -> tuple[dict[str, Entry], int]:
        members: dict[str, Entry] = {}
        at = self.skip(at + 1, path)
        if self._text.startswith("}", at):
            return members, at + 1
        while True:
            at = self.skip(at, path)
            key_offset = at
            if not self._text.startswith('"', at):
                self._fail("Expected a key in double quotes.", at, path)
            key, at = self._key(at, path)
            if key in members:
                self._fail(f"The key '{key}' appears twice.", key_offset, path)
            at = self.skip(at, path)
            if not self._text.startswith(":", at):
                self._fail("Expected ':'.", at, path)
            # The root key "rules" is not part of any path that people think in.
            inner = path if nesting == 0 else f"{path}/{key}"
            members[key], at = self.value(at + 1, inner, nesting + 1, key_offset)
            at, done = self._separator(at, path, "}")
            if done:
                return members, at

    def _array(self, at: int, path: str, nesting: int) -> tuple[list[Json], int]:
        items: list[Json] = []
        at = self.skip(at + 1, path)
        if self._text.startswith("]", at):
            return items, at + 1
        while True:
            entry, at = self.value(at, path, nesting + 1)
            items.append(entry.value)
            at, done = self._separator(at, path, "]")
            if done:
                return items, at

    def _key(self, at: int, path: str) -> tuple[str, int]:
        try:
            key, end = self._decoder.raw_decode(self._text, at)
        except ValueError:
            self._fail("This key is never closed.", at, path)
        assert isinstance(key, str)
        return key, end

    def _separator(self, at: int, path: str, closing: Literal["}", "]"]) -> tuple[int, bool]:
        at = self.skip(at, path)
        if self._text.startswith(closing, at):
            return at + 1, True
        if not self._text.startswith(",", at):
            self._fail(f"Expected ',' or '{closing}'.", at, path)
        return at + 1, False

    def _fail(self, message: str, at: int, path: str) -> NoReturn:
        raise self._source.error(message, at, path)
