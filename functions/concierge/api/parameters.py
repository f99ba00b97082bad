"""Query parameters and parts of paths, checked."""

import re
from datetime import datetime
from typing import Annotated, Any

from flask import request
from pydantic import AwareDatetime, BeforeValidator

from concierge.errors import InvalidArgument

NUMBER_MAX = 2**53 - 1
_DIGITS_MAX = 16
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


def whole_number(name: str, text: str, *, minimum: int, maximum: int) -> int:
    """Raises InvalidArgument, naming the field, for anything but digits in the range."""
    if len(text) > _DIGITS_MAX or not text.isascii() or not text.isdigit() or not minimum <= int(text) <= maximum:
        raise InvalidArgument(name, f"{name} is a whole number from {minimum} to {maximum}.")
    return int(text)


def query_number(name: str, *, minimum: int, maximum: int, default: int | None = None) -> int:
    """A parameter of the query; it may be left out if there is a default. Raises InvalidArgument."""
    given = request.args.getlist(name)
    if len(given) > 1:
        raise InvalidArgument(name, f"{name}: given more than once")
    if given:
        return whole_number(name, given[0], minimum=minimum, maximum=maximum)
    if default is None:
        raise InvalidArgument(name, f"{name} is missing.")
    return default


def _digits(value: Any) -> int:
    """A text of the query as a number: pydantic by itself would take ` +5.0_0 ` as well."""
    if not isinstance(value, str) or len(value) > _DIGITS_MAX or not (value.isascii() and value.isdigit()):
        raise ValueError("a whole number in digits is expected")
    return int(value)


def _moment(value: Any) -> datetime:
    """RFC 3339 and nothing else: pydantic by itself would take `2026` for a number of seconds since 1970."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError("a time as in 2026-01-31T23:59:59Z is expected")
    return datetime.fromisoformat(value.upper())


Digits = Annotated[int, BeforeValidator(_digits)]
"""A whole number in a query schema; its range is for the schema to say."""
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
"""A time in a query schema."""
