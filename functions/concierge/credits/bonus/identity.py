"""Who somebody is, as far as a second account of theirs can be known by it. Pure.

Personal data never leaves this module but as HMAC-SHA-256 under IDENTITY_HASH_KEY, with the kind of the datum mixed in,
so that the same text of two kinds gives two hashes and nobody without the key can try addresses.
"""

import hmac
import ipaddress
import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from concierge.kit.keys import decode_key

IdentityKind = Literal["email", "provider", "phone", "device", "network", "domain"]

_DOMAINS: dict[str, Any] = json.loads(Path(__file__).with_name("domains.json").read_text(encoding="utf-8"))
_PUBLIC = frozenset(_DOMAINS["public"])
_DISPOSABLE = frozenset(_DOMAINS["disposable"])
# Addresses within one prefix usually belong to one household or office.
_IPV4_PREFIX, _IPV6_PREFIX = 24, 56


@dataclass(frozen=True, slots=True)
class Email:
    """An address as its mailbox is known: `mailbox` is the same for all spellings that reach the same person."""

    mailbox: str
    domain: str
    is_public: bool
    is_disposable: bool


def normalise_email(address: str) -> Email | None:
    """The mailbox behind an address; None for what is no address.

    Case, tags after `+` (and `-` at Yahoo), dots where a provider ignores them, other names of a provider's domain, and
    internationalised domains are undone.
    """
    local, separator, domain = address.strip().casefold().rpartition("@")
    if not separator or not local or not domain:
        return None
    try:
        domain = domain.rstrip(".").encode("idna").decode()
    except UnicodeError:
        return None
    domain = _DOMAINS["aliases"].get(domain, domain)
    local = local.partition("+")[0] or local
    if domain in _DOMAINS["hyphenTags"]:
        local = local.partition("-")[0] or local
    if domain in _DOMAINS["dotless"]:
        local = local.replace(".", "") or local
    return Email(f"{local}@{domain}", domain, domain in _PUBLIC, domain in _DISPOSABLE)


def network_of(address: str | None) -> str | None:
    """The network of an IP address; None for none, and for one that nobody shares: loopback and private ones."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if not parsed.is_global:
        return None
    prefix = _IPV4_PREFIX if parsed.version == 4 else _IPV6_PREFIX
    return str(ipaddress.ip_network(f"{parsed}/{prefix}", strict=False))


class IdentityHasher:
    """Hashes under one key. Raises ValueError for a key that is none."""

    def __init__(self, key: str) -> None:
        self._key = decode_key(key)

    def __call__(self, kind: IdentityKind, value: str) -> str:
        """64 hexadecimal digits."""
        return hmac.new(self._key, f"concierge.identity.v1\0{kind}\0{value}".encode(), sha256).hexdigest()
