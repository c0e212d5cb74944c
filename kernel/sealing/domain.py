"""Encrypting short texts, and finding them again without reading them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kernel.errors import Unavailable

_NONCE_BYTES = 12  # NIST SP 800-38D 8.2
_KEY_BYTES = 32


class Sealer:
    """Seals under keys that are derived from one secret, one key for each purpose (RFC 5869)."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def seal(self, text: str, purpose: str) -> str:
        """The text encrypted (AES-256-GCM), different each time; only `open` with `purpose`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._key(purpose)).encrypt(nonce, text.encode(), purpose.encode())
        return base64.b64encode(nonce + sealed).decode("ascii")

    def open(self, sealed: str, purpose: str) -> str:
        """The text again; raises Unavailable `seal.secret` when it was sealed by another secret."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            nonce, rest = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return AESGCM(self._key(purpose)).decrypt(nonce, rest, purpose.encode()).decode()
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise Unavailable(
                "seal.secret",
                "This was sealed with another secret than seal.secret of this machine.",
            ) from error

    def index(self, text: str, purpose: str) -> str:
        """A keyed digest (HMAC-SHA-256): equal for equal texts, and tells nothing without us."""
        return hmac.digest(self._key(f"index {purpose}"), text.encode(), hashlib.sha256).hex()

    def _key(self, purpose: str) -> bytes:
        derived = HKDF(SHA256(), _KEY_BYTES, None, f"yunying {purpose}".encode())
        return derived.derive(self._secret)
