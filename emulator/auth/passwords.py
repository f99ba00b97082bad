"""Password hashes: our own (standard scrypt, at a cost for tests) and those that can be imported from other systems.

Algorithm names are those of the Identity Toolkit's `hashAlgorithm`. SCRYPT is Firebase's own variant, described in
https://github.com/firebase/scrypt: the password's scrypt key encrypts the project's signer key with AES-256-CTR.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from emulator.auth.errors import AuthError, Fields

PASSWORD_LENGTH_MIN = 6
_SALT_LENGTH_BYTES = 16
# A hash takes about 2 ms: a secret for a development machine, not one worth an attacker's month.
_OWN_PARAMETERS = {"cpuMemCost": 1024, "blockSize": 8, "parallelization": 1, "dkLen": 32}
_SCRYPT_MEMORY_BYTES_MAX = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A salted hash and how it was made. `parameters` has the field names of the Identity Toolkit's batchCreate."""

    algorithm: str
    digest: bytes
    salt: bytes
    parameters: dict[str, Any]

    def matches(self, password: str) -> bool:
        computed = _compute(self.algorithm, _encoded(password), self.salt, self.parameters, len(self.digest))
        return hmac.compare_digest(computed, self.digest)

    def as_row(self) -> dict[str, Any]:
        """JSON-able, the inverse of from_row."""
        return {
            "algorithm": self.algorithm,
            "digest": encode_bytes(self.digest),
            "salt": encode_bytes(self.salt),
            "parameters": self.parameters,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "PasswordHash":
        return cls(row["algorithm"], decode_bytes(row["digest"]), decode_bytes(row["salt"]), row["parameters"])


def hash_password(password: str) -> PasswordHash:
    """Hashes a new password with a fresh salt. Raises AuthError WEAK_PASSWORD if it is too short."""
    if len(password) < PASSWORD_LENGTH_MIN:
        raise AuthError(f"WEAK_PASSWORD : Password should be at least {PASSWORD_LENGTH_MIN} characters")
    salt = secrets.token_bytes(_SALT_LENGTH_BYTES)
    parameters = dict(_OWN_PARAMETERS)
    digest = _compute("STANDARD_SCRYPT", _encoded(password), salt, parameters, parameters["dkLen"])
    return PasswordHash("STANDARD_SCRYPT", digest, salt, parameters)


def imported_hash(request: Fields, user: Fields) -> PasswordHash:
    """The hash of a user in a batchCreate request. Raises AuthError if the embedded Auth could never verify it."""
    algorithm = request.text("hashAlgorithm") or ""
    parameters: dict[str, Any] = {}
    if algorithm in ("PBKDF2_SHA256", "PBKDF_SHA1"):
        parameters["rounds"] = _bounded(request, "rounds", 1, 120_000)
    elif algorithm == "STANDARD_SCRYPT":
        parameters = {name: _bounded(request, name, 1, 1 << 20) for name in _OWN_PARAMETERS}
    elif algorithm == "SCRYPT":
        parameters = {"rounds": _bounded(request, "rounds", 1, 8), "memoryCost": _bounded(request, "memoryCost", 1, 14)}
        parameters |= {name: request.text(name) or "" for name in ("signerKey", "saltSeparator")}
    else:
        raise AuthError(f"INVALID_HASH_ALGORITHM : The embedded Auth cannot verify {algorithm or 'unnamed'} hashes.")
    try:
        digest = decode_bytes(user.text("passwordHash") or "")
        imported = PasswordHash(algorithm, digest, decode_bytes(user.text("salt") or ""), parameters)
        # Computing it once proves that the parameters are usable.
        imported.matches("")
    except (ValueError, binascii.Error) as error:
        raise AuthError(f"INVALID_HASH_PARAMETER_VALUE : {error}") from error
    return imported


def encode_bytes(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode()


def decode_bytes(text: str) -> bytes:
    """Accepts both base64 alphabets, with and without padding. Raises ValueError."""
    normal = text.replace("+", "-").replace("/", "_").rstrip("=")
    return base64.urlsafe_b64decode(normal + "=" * (-len(normal) % 4))


def _encoded(password: str) -> bytes:
    # JSON may carry half of a surrogate pair, which is a poor password but no reason to fail.
    return password.encode("utf-8", "surrogatepass")


def _bounded(request: Fields, name: str, low: int, high: int) -> int:
    value = request.integer(name)
    if value is None or not low <= value <= high:
        raise AuthError(f"INVALID_HASH_PARAMETER_VALUE : {name} must be from {low} to {high}.")
    return value


def _compute(algorithm: str, password: bytes, salt: bytes, parameters: dict[str, Any], length: int) -> bytes:
    if algorithm == "PBKDF2_SHA256":
        return hashlib.pbkdf2_hmac("sha256", password, salt, parameters["rounds"], max(length, 1))
    if algorithm == "PBKDF_SHA1":
        return hashlib.pbkdf2_hmac("sha1", password, salt, parameters["rounds"], max(length, 1))
    if algorithm == "STANDARD_SCRYPT":
        cost, block, parallel = (parameters[name] for name in ("cpuMemCost", "blockSize", "parallelization"))
        return _scrypt(password, salt, cost, block, parallel, parameters["dkLen"])
    assert algorithm == "SCRYPT"
    return _firebase_scrypt(password, salt, parameters)


def _scrypt(password: bytes, salt: bytes, cost: int, block: int, parallel: int, length: int) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=cost, r=block, p=parallel, maxmem=_SCRYPT_MEMORY_BYTES_MAX, dklen=length
    )


def _firebase_scrypt(password: bytes, salt: bytes, parameters: dict[str, Any]) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    full_salt = salt + decode_bytes(parameters["saltSeparator"])
    derived = _scrypt(password, full_salt, 1 << parameters["memoryCost"], parameters["rounds"], 1, 64)
    encryptor = Cipher(algorithms.AES(derived[:32]), modes.CTR(bytes(16))).encryptor()
    return encryptor.update(decode_bytes(parameters["signerKey"])) + encryptor.finalize()
