"""CA keys sealed in the database, opened once and kept in memory."""

from __future__ import annotations

from certctl.pki.keys import KeySigner, Signer, load_der
from certctl.pki.sealing import Place, Seals


class SealedSigners:
    """Opens keys sealed under the data key; each is unsealed once."""

    def __init__(self, data_key: Seals) -> None:
        self._data_key = data_key
        self._open: dict[Place, Signer] = {}

    def __call__(self, place: Place, sealed: bytes) -> Signer:
        """The signer of the key sealed at `place`.

        Raises:
            Unsafe: when the sealed key was damaged or moved.
        """
        signer = self._open.get(place)
        if signer is None:
            signer = KeySigner(load_der(self._data_key.unseal(sealed, place)))
            self._open[place] = signer
        return signer
