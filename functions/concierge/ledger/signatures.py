"""Ed25519 signatures with key ids.

A key's id is the first 8 bytes of SHA-256 of its raw public key, hexadecimal: it cannot be given to another key. To
rotate, deploy a new `LEDGER_SIGNING_KEY` and add the old key's public half to `LEDGER_PUBLIC_KEYS`; old entries go on
verifying under the old key.
"""

import base64
import hashlib
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from concierge.kit.keys import decode_key


def key_id_of(public_key: Ed25519PublicKey) -> str:
    return hashlib.sha256(public_key.public_bytes_raw()).digest()[:8].hex()


class Keyring:
    """The keys under which entries verify, and at most one under which new ones are signed."""

    def __init__(self, signing_key: Ed25519PrivateKey | None, public_keys: Iterable[Ed25519PublicKey]) -> None:
        self._signing_key = signing_key
        known = list(public_keys)
        if signing_key is not None:
            known.append(signing_key.public_key())
        self._public_keys = {key_id_of(key): key for key in known}
        self.signing_key_id = key_id_of(signing_key.public_key()) if signing_key is not None else None

    @classmethod
    def from_text(cls, signing_key: str | None, public_keys: Iterable[str]) -> "Keyring":
        """From base64: the signing key's 32-byte seed and raw public keys. Raises ValueError."""
        private = Ed25519PrivateKey.from_private_bytes(decode_key(signing_key)) if signing_key else None
        return cls(private, [Ed25519PublicKey.from_public_bytes(decode_key(text)) for text in public_keys])

    def sign(self, digest_hex: str) -> tuple[str, bytes]:
        """(key id, signature over the raw digest)."""
        assert self._signing_key is not None and self.signing_key_id is not None, "this keyring only verifies"
        return self.signing_key_id, self._signing_key.sign(bytes.fromhex(digest_hex))

    def knows(self, key_id: str) -> bool:
        return key_id in self._public_keys

    def verifies(self, key_id: str, digest_hex: str, signature: bytes) -> bool:
        """True if the signature is that key's over the digest; False for an unknown key too."""
        public_key = self._public_keys.get(key_id)
        if public_key is None:
            return False
        try:
            public_key.verify(signature, bytes.fromhex(digest_hex))
        except (InvalidSignature, ValueError):
            return False
        return True

    def published(self) -> dict[str, str]:
        """Key id -> raw public key in base64, for anybody who wants to verify."""
        return {
            key_id: base64.b64encode(key.public_bytes_raw()).decode()
            for key_id, key in sorted(self._public_keys.items())
        }
