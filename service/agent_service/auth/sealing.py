"""What the service keeps in a browser: encrypted and authenticated, so that it is read and made by this installation only."""

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
"""AES-256."""

NONCE_BYTES = 12
"""What GCM takes. Random ones are safe for 2^32 texts of a key (NIST SP 800-38D): a thousand sign-ins a second for 50 days,
and each purpose has a key of its own."""


class Sealer:
    """Seals texts by AES-GCM. A text sealed for one purpose opens for no other.

    Args:
        secret: the installation's, so that one sealed by any replica opens at every other.
    """

    def __init__(self, secret: bytes, purpose: str) -> None:
        key = HKDF(SHA256(), KEY_BYTES, salt=None, info=f"slipway {purpose}".encode()).derive(secret)
        self._cipher = AESGCM(key)

    def seal(self, text: str) -> str:
        """Letters, digits, `-` and `_`: a third longer than the text in UTF-8, and 38 characters."""
        nonce = os.urandom(NONCE_BYTES)
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), None)).decode().rstrip("=")

    def open(self, sealed: str) -> str | None:
        """The text, or None if it was not sealed so."""
        try:
            raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], None).decode()
        except (binascii.Error, ValueError, InvalidTag):
            return None
