"""Canonical JSON (RFC 8785) and the fingerprints made from it."""

import hashlib
from typing import Any

import rfc8785


def canonical_bytes(value: Any) -> bytes:
    """The one byte form of a JSON value. Raises ValueError for what JSON cannot hold (NaN, integers over 2**53)."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise ValueError(str(error)) from error


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical form, hexadecimal: equal if and only if the values are."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()
