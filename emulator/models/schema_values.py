"""Values that fit a JSON schema, made from a request's text where it has something to offer, else from a seed."""

import math
import re
from random import Random
from typing import Any

from emulator.models.errors import ModelError

_DEPTH_MAX = 12
_TEXT_LENGTH_MAX = 200
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|`([^`]+)`")
_FORMATS = {
    "date-time": "2030-01-01T00:00:00Z",
    "date": "2030-01-01",
    "time": "00:00:00Z",
    "email": "offline@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class SchemaValues:
    """Makes values for one request: each number and each quotation of its text is used once, in order.

    Understands type, enum, const, default, format, lengths and bounds, properties, items, prefixItems, anyOf, oneOf,
    allOf and local references. A `pattern` is not understood: such strings may not match.
    """

    def __init__(self, text: str, random: Random) -> None:
        self._text = text
        self._random = random
        self._numbers = [float(number) for number in _NUMBER.findall(text)]
        self._quotations = [next(filter(None, groups)) for groups in _QUOTED.findall(text)]
        self._root: dict[str, Any] = {}

    def value(self, schema: Any) -> Any:
        """A JSON value of this schema. Raises ModelError if the schema is not one."""
        self._root = schema if isinstance(schema, dict) else {}
        try:
            return self._value(schema, 0)
        except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ModelError(f"Invalid JSON schema: {error}", code="invalid_schema") from error

    def _value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > _DEPTH_MAX:
            return None
        if "$ref" in schema:
            return self._value(self._resolve(str(schema["$ref"])), depth + 1)
        for name in ("const", "default"):
            if name in schema:
                return schema[name]
        if schema.get("enum"):
            return self._choice(schema["enum"])
        for name in ("anyOf", "oneOf"):
            if schema.get(name):
                options = [option for option in schema[name] if option != {"type": "null"}]
                return self._value(self._random.choice(options or schema[name]), depth + 1)
        if schema.get("allOf"):
            return self._value(self._merged(schema), depth + 1)
        return self._typed(schema, depth)

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in ("integer", "number"):
            return self._number(schema, whole=kind == "integer")
        if kind == "boolean":
            return self._random.random() < 0.5
        return None if kind == "null" else self._string(schema)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return {}
        required = schema.get("required", ())
        # Recursive schemas end here: deep down only what must be there is made.
        wanted = [name for name in properties if depth < _DEPTH_MAX // 2 or name in required]
        return {name: self._value(properties[name], depth + 1) for name in wanted}

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        values = [self._value(item, depth + 1) for item in schema.get("prefixItems", ())]
        least = int(schema.get("minItems", 0 if depth >= _DEPTH_MAX // 2 else 1))
        most = int(schema.get("maxItems", max(least, len(values))))
        while len(values) < min(least, most):
            values.append(self._value(schema.get("items", {"type": "string"}), depth + 1))
        return values

    def _number(self, schema: dict[str, Any], *, whole: bool) -> int | float:
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is None and schema.get("exclusiveMinimum") is not None:
            low = schema["exclusiveMinimum"] + 1
        if high is None and schema.get("exclusiveMaximum") is not None:
            high = schema["exclusiveMaximum"] - 1
        number = self._numbers.pop(0) if self._numbers else float(self._random.randint(1, 9))
        if high is not None:
            number = min(number, float(high))
        if low is not None:
            number = max(number, float(low))
        step = schema.get("multipleOf", 1 if whole else None)
        if step is not None:
            number = math.floor(number / step) * step
            if low is not None and number < low:
                number += step
        return int(number) if whole else number

    def _string(self, schema: dict[str, Any]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self._quotations.pop(0) if self._quotations else " ".join(self._text.split())
        most = schema.get("maxLength")
        text = text[: _TEXT_LENGTH_MAX if most is None else int(most)]
        return text.ljust(int(schema.get("minLength", 0)), ".")

    def _choice(self, values: list[Any]) -> Any:
        """The first value that the text names, else any."""
        lowered = self._text.lower()
        named = [value for value in values if isinstance(value, str) and value.lower() in lowered]
        return named[0] if named else self._random.choice(values)

    def _merged(self, schema: dict[str, Any]) -> dict[str, Any]:
        merged = {name: value for name, value in schema.items() if name != "allOf"}
        for part in schema["allOf"]:
            resolved = self._resolve(str(part["$ref"])) if "$ref" in part else part
            properties = {**merged.get("properties", {}), **resolved.get("properties", {})}
            required = [*merged.get("required", ()), *resolved.get("required", ())]
            merged |= resolved
            if properties:
                merged |= {"properties": properties, "required": required}
        return merged

    def _resolve(self, reference: str) -> Any:
        """The target of a local JSON pointer; an empty schema if there is none."""
        target: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            target = target.get(key, {}) if isinstance(target, dict) else {}
        return target
