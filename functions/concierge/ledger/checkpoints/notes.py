"""Signed notes and checkpoints: https://c2sp.org/signed-note and https://c2sp.org/tlog-checkpoint.

    note        = text, an empty line, one line `— <key name> base64(key hash || signature)` for each signature
    key hash    = the first 4 bytes of SHA-256(key name || 0x0A || 0x01 || public key), 0x01 being Ed25519
    vkey        = <key name>+<key hash, hexadecimal>+base64(0x01 || public key)
    checkpoint  = <origin>\\n<tree size>\\nbase64(root)\\n, the text of a note

Any witness or monitor of transparency logs reads these.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from concierge.kit.keys import decode_key
from concierge.ledger.checkpoints.merkle import HASH_BYTES

NOTE_BYTES_MAX = 1_000_000
SIGNATURES_MAX = 100
_ED25519 = b"\x01"
_KEY_HASH_BYTES = 4
_NAME = re.compile(r"[^\s+]+")
_SIGNATURE_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_VKEY = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class NoteError(ValueError):
    """A note, a checkpoint or a vkey that is malformed or not signed as it must be. The message says which."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key under which notes verify."""

    name: str
    public_key: Ed25519PublicKey

    @classmethod
    def from_vkey(cls, text: str) -> Self:
        """Raises NoteError unless it is the vkey of an Ed25519 key, its hash included."""
        matched = _VKEY.fullmatch(text)
        if matched is None:
            raise NoteError("a vkey is <name>+<hash>+<key>")
        name, key_hash, encoded = matched.groups()
        raw = _decode(encoded)
        if raw[:1] != _ED25519 or len(raw) != 1 + HASH_BYTES:
            raise NoteError("the vkey holds no Ed25519 key")
        verifier = cls(name, Ed25519PublicKey.from_public_bytes(raw[1:]))
        if verifier.key_hash.hex() != key_hash:
            raise NoteError("the vkey's hash is not that of its key")
        return verifier

    @classmethod
    def from_key(cls, name: str, public_key: str) -> Self:
        """From a raw public key in base64. Raises ValueError."""
        return cls(checked_name(name), Ed25519PublicKey.from_public_bytes(decode_key(public_key)))

    @property
    def key_hash(self) -> bytes:
        raw = self.public_key.public_bytes_raw()
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + raw).digest()[:_KEY_HASH_BYTES]

    @property
    def vkey(self) -> str:
        encoded = base64.b64encode(_ED25519 + self.public_key.public_bytes_raw()).decode()
        return f"{self.name}+{self.key_hash.hex()}+{encoded}"

    def verifies(self, text: str, signature: bytes) -> bool:
        try:
            self.public_key.verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class Signer:
    """A key that signs notes under a name."""

    def __init__(self, name: str, signing_key: str) -> None:
        """`signing_key` is the 32-byte seed in base64. Raises ValueError."""
        self._key = Ed25519PrivateKey.from_private_bytes(decode_key(signing_key))
        self.verifier = Verifier(checked_name(name), self._key.public_key())

    def sign(self, text: str) -> str:
        """The note. Signing the same text again gives the same note: Ed25519 is deterministic."""
        _check_text(text)
        encoded = base64.b64encode(self.verifier.key_hash + self._key.sign(text.encode())).decode()
        return f"{text}\n— {self.verifier.name} {encoded}\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree at one size: which log's, how many leaves, and their root (32 raw bytes)."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the text of a note; lines after the third are extensions, and ignored. Raises NoteError."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
            raise NoteError("a checkpoint has three lines")
        if not _SIZE.fullmatch(lines[1]):
            raise NoteError("the size of a checkpoint is a whole number")
        root = _decode(lines[2])
        if len(root) != HASH_BYTES:
            raise NoteError(f"the root of a checkpoint has {HASH_BYTES} bytes")
        return cls(lines[0], int(lines[1]), root)


def checked_name(name: str) -> str:
    """Raises ValueError for what cannot name a key: empty, or with spaces or a plus."""
    if not _NAME.fullmatch(name):
        raise ValueError("the name of a key is not empty and has no spaces and no plus")
    return name


def open_note(note: str, verifiers: Iterable[Verifier]) -> tuple[str, list[Verifier]]:
    """The text of a note, and who of these signed it, one at least.

    Signatures of others are ignored. Raises NoteError for a malformed note, a wrong signature under the name and hash
    of one of these keys, or none of theirs.
    """
    if len(note.encode(errors="surrogatepass")) > NOTE_BYTES_MAX:
        raise NoteError("the note is too long")
    text, separator, block = note.rpartition("\n\n")
    text += "\n"
    if not separator or not block.endswith("\n"):
        raise NoteError("a note is text, an empty line and signatures")
    _check_text(text)
    known = {(verifier.name, verifier.key_hash): verifier for verifier in verifiers}
    lines = block[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise NoteError("the note has too many signatures")
    signed_by: dict[bytes, Verifier] = {}
    for line in lines:
        matched = _SIGNATURE_LINE.fullmatch(line)
        if matched is None:
            raise NoteError("a signature of the note is malformed")
        raw = _decode(matched[2])
        verifier = known.get((matched[1], raw[:_KEY_HASH_BYTES]))
        if verifier is None:
            continue
        if not verifier.verifies(text, raw[_KEY_HASH_BYTES:]):
            raise NoteError(f"the note is not signed by {verifier.name}, although it says so")
        signed_by[verifier.key_hash] = verifier
    if not signed_by:
        raise NoteError("the note is not signed by any of the known keys")
    return text, list(signed_by.values())


def _check_text(text: str) -> None:
    if not text.endswith("\n") or any(character < " " and character != "\n" for character in text):
        raise NoteError("the text of a note ends its last line and holds no control characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NoteError("the text of a note is UTF-8") from error


def _decode(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise NoteError("base64 is malformed") from error
