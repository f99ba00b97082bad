"""Keys for pushed children: 20 characters that sort in the order in which they were made.

Source: "The 2^120 ways to ensure unique identifiers", Firebase blog: 48 bits of milliseconds, then 72 random bits,
6 bits for each character, in an alphabet whose order is that of ASCII. Within one millisecond the random part counts
up.
"""

import secrets

_ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_RANDOM_BITS = 72


class PushIds:
    def __init__(self) -> None:
        self._last_ms = -1
        self._random = 0

    def next(self, now_ms: int) -> str:
        """A new key, greater than all keys made before."""
        if now_ms > self._last_ms:
            self._last_ms = now_ms
            # One bit stays free, so that counting up cannot overflow into the time.
            self._random = secrets.randbits(_RANDOM_BITS - 1)
        else:
            self._random += 1
        return _encode(self._last_ms, 8) + _encode(self._random, 12)


def _encode(number: int, length: int) -> str:
    characters: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, 64)
        characters.append(_ALPHABET[digit])
    return "".join(reversed(characters))
