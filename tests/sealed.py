"""Values sealed as an earlier certctl did, put together by OpenSSL and the format's description."""

from __future__ import annotations

import subprocess
from functools import cache

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.tools import need

ROUNDS = {1: 100_000, 2: 100_000, 3: 600_000}


@cache
def derived(passphrase: bytes, salt: bytes, rounds: int) -> bytes:
    """PBKDF2-HMAC-SHA256 by OpenSSL."""
    options = ("digest:SHA256", f"hexpass:{passphrase.hex()}", f"hexsalt:{salt.hex()}")
    words = [word for each in (*options, f"iter:{rounds}") for word in ("-kdfopt", each)]
    command = [need("openssl"), "kdf", "-keylen", "32", "-binary", *words, "PBKDF2"]
    return subprocess.run(command, check=True, capture_output=True, timeout=30).stdout


def sealed(version: int, passphrase: bytes, plaintext: bytes) -> bytes:
    """A blob of version 1, 2 or 3."""
    salt = b"certctl-config-encryption-v1" if version == 1 else b"0123456789abcdef"
    nonce = bytes(range(100, 112))
    key = derived(passphrase, salt, ROUNDS[version])
    head = b"" if version == 1 else bytes([version]) + salt
    return head + nonce + AESGCM(key).encrypt(nonce, plaintext, None)
