"""Keys as text: 32 raw bytes in base64."""

import base64
import binascii

KEY_BYTES = 32


def decode_key(text: str) -> bytes:
    """The 32 raw bytes of a base64 key. Raises ValueError, without the key in the message."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("a key is 32 bytes in base64") from error
    if len(raw) != KEY_BYTES:
        raise ValueError(f"a key is 32 bytes in base64, not {len(raw)} bytes")
    return raw
