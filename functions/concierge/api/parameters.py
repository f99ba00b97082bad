"""Query parameters and parts of paths, checked."""

from flask import request

from concierge.errors import InvalidArgument

NUMBER_MAX = 2**53
_DIGITS_MAX = 16


def whole_number(name: str, text: str, *, minimum: int, maximum: int) -> int:
    """Raises InvalidArgument, naming the field, for anything but digits in the range."""
    if len(text) > _DIGITS_MAX or not text.isascii() or not text.isdigit() or not minimum <= int(text) <= maximum:
        raise InvalidArgument(name, f"{name} is a whole number from {minimum} to {maximum}.")
    return int(text)


def query_number(name: str, *, minimum: int, maximum: int, default: int | None = None) -> int:
    """A parameter of the query; it may be left out if there is a default. Raises InvalidArgument."""
    text = request.args.get(name)
    if text is not None:
        return whole_number(name, text, minimum=minimum, maximum=maximum)
    if default is None:
        raise InvalidArgument(name, f"{name} is missing.")
    return default
