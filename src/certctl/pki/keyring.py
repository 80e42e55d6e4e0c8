"""The data keys that one process holds: the one it seals under, and all that it can open."""

from __future__ import annotations

from collections.abc import Iterable

from certctl.domain.errors import Unsafe
from certctl.pki.sealing import DataKey, Passphrase, Place, key_id_of


class Keyring:
    """Seals under the current key and opens under every key it was given.

    Rows of versions 1 to 3, which name no data key, are opened under the passphrase itself. A
    key stays for the life of the process, so that what was read before a rotation still opens.
    """

    def __init__(self, keys: Iterable[DataKey], *, current: str, passphrase: Passphrase) -> None:
        self._keys = {key.id: key for key in keys}
        self._current = current
        self._passphrase = passphrase

    @property
    def current(self) -> DataKey:
        """The key that this process seals under."""
        return self._keys[self._current]

    def key(self, key_id: str) -> DataKey | None:
        """One key of the ring."""
        return self._keys.get(key_id)

    def put(self, keys: Iterable[DataKey], *, current: str) -> None:
        """Take in further keys, and seal under `current` from now on."""
        self._keys |= {key.id: key for key in keys}
        self._current = current

    def seal(self, plaintext: bytes, place: Place) -> bytes:
        """`plaintext` bound to `place`, under the current key."""
        return self.current.seal(plaintext, place)

    def unseal(self, blob: bytes, place: Place) -> bytes:
        """The plaintext that was sealed for `place`, whichever key or version it is under.

        Raises:
            Unsafe: when it was sealed under a key that this process has not, or for another
                place, or is damaged.
        """
        named = key_id_of(blob)
        key = self._keys.get(named or "")
        try:
            if key is not None:
                return key.unseal(blob, place)
        except Unsafe:
            # The nonce that version 1 begins with may look like a mark.
            return self._old(blob, place)
        return self._old(blob, place)

    def _old(self, blob: bytes, place: Place) -> bytes:
        try:
            return self._passphrase.unseal(blob)
        except Unsafe:
            raise Unsafe(
                f"The sealed value in {place.table}.{place.column} of {place.id} does not open: "
                "it was sealed under another data key or passphrase or for another row, or is "
                "damaged."
            ) from None
