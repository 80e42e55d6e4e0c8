"""CRLs and CA certificates in memory, each once however many fetch it."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from certctl.domain.errors import CertctlError
from certctl.services import authority, crls
from certctl.services.plane.answers import seconds
from certctl.services.platform import Platform

log = logging.getLogger("certctl.plane")
MOST: Final = 1000
MOST_CRLS: Final = 10_000
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

    async def packed(self) -> bytes | None:
        """The same in gzip (RFC 1952), made once; None where that saves nothing."""
        if self._packed is None:
            if len(self.der) < WORTH_PACKING:
                return None
            packed = await asyncio.to_thread(gzip.compress, self.der, 6, mtime=0)
            self._packed = packed if len(packed) < len(self.der) else b""
        return self._packed or None


Key = tuple[str, int]  # of a CRL: its CA and its shard, 0 for the complete one


class Documents:
    """The newest CRLs of every CA, also those that nobody has asked for yet: when the database is
    away it is too late to fetch them."""

    def __init__(self, on: Platform) -> None:
        self._on = on
        self._crls: dict[Key, Document] = {}
        self._certificates: dict[str, Document] = {}
        self._making: dict[Key, asyncio.Task[Document]] = {}

    def crl(self, authority_id: str, shard: int) -> Document | None:
        """A CRL, if it is in memory."""
        return self._crls.get((authority_id, shard))

    async def load_crl(self, authority_id: str, shard: int) -> Document:
        """As `crl`, from the database; made if there is none. Raises NotFound or Unavailable."""
        key = (authority_id, shard)
        making = self._making.get(key)
        if making is None:
            making = asyncio.create_task(self._load(key))
            self._making[key] = making
            making.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(making)

    def put_certificate(self, authority_id: str, der: bytes) -> None:
        """The present certificate of a CA that the plane knows."""
        kept = self._certificates.get(authority_id)
        if kept is None or kept.der != der:
            self._certificates[authority_id] = Document(der, etag=etag_of(der))

    async def certificate(self, authority_id: str) -> Document:
        """The certificate of a CA. Raises NotFound or Unavailable."""
        kept = self._certificates.get(authority_id)
        if kept is None:
            der = await authority.certificate(self._on, authority_id)
            kept = Document(der, etag=etag_of(der))
            _room_in(self._certificates, MOST)
            self._certificates[authority_id] = kept
        return kept

    async def follow(self, numbers: Mapping[Key, int]) -> None:
        """Load what is not here, or older than the newest of its kind."""
        for key, number in numbers.items():
            kept = self._crls.get(key)
            if kept is None or number > kept.number:
                try:
                    await self._follow(key)
                except CertctlError as error:
                    log.warning("CRL %s/%d was not loaded: %s", *key, error.message)

    async def _follow(self, key: Key) -> None:
        """As it is: to build another is the workers' business."""
        found = await crls.kept_in(self._on, *key)
        if found is not None:
            await self._put(key, found)

    async def _load(self, key: Key) -> Document:
        return await self._put(key, await crls.present(self._on, *key))

    async def _put(self, key: Key, found: crls.Crl) -> Document:
        made = Document(
            found.der,
            found.number,
            seconds(found.this_update),
            seconds(found.next_update),
            etag=(await asyncio.to_thread(lambda: found.sha256))[:16],
        )
        kept = self._crls.get(key)
        if kept is not None and kept.number > made.number:
            return kept
        if kept is None:
            _room_in(self._crls, MOST_CRLS)
        self._crls[key] = made
        return made


def etag_of(der: bytes) -> str:
    return sha256(der).hexdigest()[:16]


def _room_in(kept: dict[Any, Document], most: int) -> None:
    while len(kept) >= most:
        del kept[next(iter(kept))]
