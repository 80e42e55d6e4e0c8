"""Sealing of secrets: under the operator's passphrase, and under a data key bound to a place.

The passphrase costs a key derivation each time, so it seals one data key, and rows are sealed
under that.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certctl.domain.errors import Unsafe

V2: Final = 0x02
V3: Final = 0x03
ROW: Final = 0x04
KEYED: Final = b"\x05key"
KEY_ID: Final = 8
FIRST: Final = "data"
SALT: Final = 16
NONCE: Final = 12
KEY: Final = 32
ITERATIONS: Final = {V2: 100_000, V3: 600_000}
V1_SALT: Final = b"certctl-config-encryption-v1"
V1_ITERATIONS: Final = 100_000
MOST_SALTS: Final = 4096


def seal_v3(passphrase: bytes, plaintext: bytes) -> bytes:
    """`plaintext` under a key derived from `passphrase`: 0x03, salt, nonce, ciphertext, tag.

    AES-256-GCM (NIST SP 800-38D) under PBKDF2-HMAC-SHA256 (RFC 8018 §5.2), 600 000 rounds,
    about 0.12 s.

    Raises:
        Unsafe: when the passphrase is empty.
    """
    salt, nonce = secrets.token_bytes(SALT), secrets.token_bytes(NONCE)
    key = _derived(passphrase, salt, rounds=ITERATIONS[V3])
    return bytes([V3]) + salt + nonce + AESGCM(key).encrypt(nonce, plaintext, None)


class Passphrase:
    """Opens what was sealed under a passphrase; a salt is derived from once in its life."""

    def __init__(self, words: bytes) -> None:
        self._words = words
        self._keys: dict[tuple[bytes, int], bytes] = {}

    def unseal(self, blob: bytes) -> bytes:
        """The plaintext of a blob of version 1, 2 or 3.

        Version 1 begins with a random nonce, which may look like the marker of another version;
        what does not open as its first byte says is therefore tried as version 1.

        Raises:
            Unsafe: when the passphrase is empty or another one, or the blob is damaged.
        """
        if blob[:1] and blob[0] in ITERATIONS and len(blob) >= 1 + SALT + NONCE:
            key = self._derived(blob[1 : 1 + SALT], rounds=ITERATIONS[blob[0]])
            try:
                return _opened(key, blob[1 + SALT :])
            except InvalidTag:
                pass
        try:
            return _opened(self._derived(V1_SALT, rounds=V1_ITERATIONS), blob)
        except InvalidTag:
            raise Unsafe(
                "A sealed secret does not open: CERTCTL_CONFIG_ENCRYPTION_KEY is not the key it "
                "was sealed with, or the stored value is damaged."
            ) from None

    def _derived(self, salt: bytes, *, rounds: int) -> bytes:
        known = self._keys.get((salt, rounds))
        if known is None:
            if len(self._keys) >= MOST_SALTS:
                self._keys.clear()
            known = self._keys[salt, rounds] = _derived(self._words, salt, rounds=rounds)
        return known


def unseal(passphrase: bytes, blob: bytes) -> bytes:
    """As `Passphrase.unseal`, for one blob."""
    return Passphrase(passphrase).unseal(blob)


@dataclass(frozen=True)
class Place:
    """Where a sealed value is stored; it opens in no other row or column."""

    table: str
    column: str
    id: str

    @property
    def encoded(self) -> bytes:
        """Each part with its length before it, so that no two places share an encoding."""
        parts = [part.encode() for part in (self.table, self.column, self.id)]
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


class Seals(Protocol):
    """What seals and opens rows: one data key, or a ring of them."""

    def seal(self, plaintext: bytes, place: Place) -> bytes: ...

    def unseal(self, blob: bytes, place: Place) -> bytes: ...


@dataclass(frozen=True)
class DataKey:
    """The AES-256 key that rows are sealed under; its bytes appear in no representation.

    The first key of a database has the id `data` and marks its rows 0x04; every later one has an
    id of 16 hex digits, which its rows carry.
    """

    _key: bytes = field(repr=False)
    id: str = FIRST

    def __post_init__(self) -> None:
        if len(self._key) != KEY:
            raise Unsafe(f"The data key is {len(self._key)} bytes long instead of {KEY}.")

    @classmethod
    def generate(cls) -> DataKey:
        """A fresh random key for a database that has none."""
        return cls(secrets.token_bytes(KEY))

    @classmethod
    def successor(cls) -> DataKey:
        """A fresh random key, with an id of its own, to replace another."""
        return cls(secrets.token_bytes(KEY), secrets.token_hex(KEY_ID))

    @classmethod
    def opened(cls, passphrase: Passphrase, blob: bytes, *, key_id: str = FIRST) -> DataKey:
        """The key that `sealed` put away under the same passphrase.

        Raises:
            Unsafe: as `Passphrase.unseal`, and when the blob holds something else.
        """
        return cls(passphrase.unseal(blob), key_id)

    def sealed(self, passphrase: bytes) -> bytes:
        """This key under the operator's passphrase, in format v3, to be stored."""
        return seal_v3(passphrase, self._key)

    def beside(self, other: DataKey) -> bytes:
        """This key under another one, for processes that have only that."""
        return other.seal(self._key, _beside(self.id))

    @classmethod
    def opened_beside(cls, other: DataKey, blob: bytes, *, key_id: str) -> DataKey:
        """The key that `beside` put under `other`. Raises Unsafe."""
        return cls(other.unseal(blob, _beside(key_id)), key_id)

    @property
    def mark(self) -> bytes:
        """What every row begins with that this key has sealed."""
        return bytes([ROW]) if self.id == FIRST else KEYED + bytes.fromhex(self.id)

    def seal(self, plaintext: bytes, place: Place) -> bytes:
        """`plaintext` bound to `place`: mark, nonce, ciphertext, tag (AES-256-GCM)."""
        nonce = secrets.token_bytes(NONCE)
        return self.mark + nonce + AESGCM(self._key).encrypt(nonce, plaintext, place.encoded)

    def unseal(self, blob: bytes, place: Place) -> bytes:
        """The plaintext that was sealed for `place`.

        Raises:
            Unsafe: when it was sealed under another key or for another place, or is damaged.
        """
        try:
            if not blob.startswith(self.mark):
                raise InvalidTag
            return _opened(self._key, blob[len(self.mark) :], place.encoded)
        except InvalidTag:
            raise Unsafe(
                f"The sealed value in {place.table}.{place.column} of {place.id} does not open: "
                "it was sealed under another data key or for another row, or is damaged."
            ) from None


def key_id_of(blob: bytes) -> str | None:
    """The id of the data key that a row names; None when it names none (versions 1 to 3)."""
    if blob.startswith(KEYED):
        return blob[len(KEYED) :][:KEY_ID].hex()
    return FIRST if blob[:1] == bytes([ROW]) else None


def _beside(key_id: str) -> Place:
    return Place("sealing_keys", "beside", key_id)


def _derived(passphrase: bytes, salt: bytes, *, rounds: int) -> bytes:
    if not passphrase:
        raise Unsafe("CERTCTL_CONFIG_ENCRYPTION_KEY is empty: sealed secrets need it.")
    return hashlib.pbkdf2_hmac("sha256", passphrase, salt, rounds, KEY)


def _opened(key: bytes, sealed: bytes, bound_to: bytes | None = None) -> bytes:
    """Opens nonce, ciphertext and tag; InvalidTag for anything else, too short included."""
    if len(sealed) < NONCE + 16:
        raise InvalidTag
    return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], bound_to)
