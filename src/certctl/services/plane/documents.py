"""CRLs and CA certificates in memory, each once however many fetch it."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from certctl.domain.errors import CertctlError
from certctl.services import authority, status
from certctl.services.plane.answers import seconds
from certctl.services.platform import Platform

log = logging.getLogger("certctl.plane")
MOST: Final = 1000
WORTH_PACKING: Final = 1024


@dataclass
class Document:
    """DER as it is sent; `number` is a CRL's, and the times are in seconds since 1970, 0 for what
    does not end."""

    der: bytes
    number: int = 0
    this_update: int = 0
    next_update: int = 0
    etag: str = ""
    _packed: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.etag = sha256(self.der).hexdigest()[:16]

    async def packed(self) -> bytes | None:
        """The same in gzip (RFC 1952), made once; None where that saves nothing."""
        if self._packed is None:
            if len(self.der) < WORTH_PACKING:
                return None
            packed = await asyncio.to_thread(gzip.compress, self.der, 6, mtime=0)
            self._packed = packed if len(packed) < len(self.der) else b""
        return self._packed or None


class Documents:
    """The newest CRL of every CA that has one, also of those that nobody has asked for yet: when
    the database is away it is too late to fetch them."""

    def __init__(self, on: Platform) -> None:
        self._on = on
        self._crls: dict[str, Document] = {}
        self._certificates: dict[str, Document] = {}
        self._making: dict[str, asyncio.Task[Document]] = {}

    def crl(self, authority_id: str) -> Document | None:
        """The CRL of a CA, if it is in memory."""
        return self._crls.get(authority_id)

    async def load_crl(self, authority_id: str) -> Document:
        """As `crl`, from the database. Raises NotFound or Unavailable."""
        making = self._making.get(authority_id)
        if making is None:
            making = asyncio.create_task(self._load(authority_id))
            self._making[authority_id] = making
            making.add_done_callback(lambda _: self._making.pop(authority_id, None))
        return await asyncio.shield(making)

    def put_certificate(self, authority_id: str, der: bytes) -> None:
        """The certificate of a CA that the plane knows."""
        self._certificates.setdefault(authority_id, Document(der))

    async def certificate(self, authority_id: str) -> Document:
        """The certificate of a CA. Raises NotFound or Unavailable."""
        kept = self._certificates.get(authority_id)
        if kept is None:
            kept = Document(await authority.certificate(self._on, authority_id))
            _room_in(self._certificates)
            self._certificates[authority_id] = kept
        return kept

    async def follow(self, numbers: Mapping[str, int]) -> None:
        """Load what is not here, or older than the newest CRL of its CA."""
        for authority_id, number in numbers.items():
            kept = self._crls.get(authority_id)
            if kept is None or number > kept.number:
                try:
                    await self.load_crl(authority_id)
                except CertctlError as error:
                    log.warning("CRL of %s was not loaded: %s", authority_id, error.message)

    async def _load(self, authority_id: str) -> Document:
        found = await status.crl_of(self._on, authority_id)
        assert found.this_update is not None
        assert found.next_update is not None
        made = Document(
            found.der, found.number, seconds(found.this_update), seconds(found.next_update)
        )
        _room_in(self._crls)
        self._crls[authority_id] = made
        return made


def _room_in(kept: dict[str, Document]) -> None:
    while len(kept) >= MOST:
        del kept[next(iter(kept))]
