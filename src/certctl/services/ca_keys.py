"""The keys of our own CAs: one place knows where each lives, and opens it to sign."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from certctl.connectors.key_home import KeyHome, Run
from certctl.domain.errors import Invalid, Unavailable
from certctl.pki import keys, x509
from certctl.pki.sealing import Place
from certctl.services.platform import Platform
from certctl.store import authorities
from certctl.store.db import Row

SEALED: Final = "sealed"
NONE: Final = "none"  # somebody else has it


@dataclass(frozen=True)
class Away:
    """The signer of a key whose home this server is not told how to reach."""

    public_key: keys.PublicKey
    words: str
    repeats: bool = False

    def sign(self, data: bytes) -> bytes:
        raise Unavailable(self.words)


def is_held(row: Row) -> bool:
    """Whether the CA can sign here."""
    return bool(row["key_home"] != NONE)


def place(authority_id: str) -> Place:
    """Where a CA's sealed key belongs."""
    return Place("authorities", "sealed_key", authority_id)


def check(on: Platform, key_home: str, algorithm: keys.KeyAlgorithm) -> None:
    """Raises Invalid, naming the field, when no such key can be made there."""
    if key_home == SEALED:
        return
    home = on.key_homes.get(key_home)
    if home is None:
        words = f"key_home: {_not_told(key_home)}"
        raise Invalid(words, field="key_home")
    if algorithm not in home.algorithms:
        words = f"algorithm: {key_home} makes no {algorithm} keys, but {', '.join(home.algorithms)}"
        raise Invalid(words, field="algorithm")


def opened(on: Platform, row: Row) -> tuple[keys.Signer, Run]:
    """A CA's signer, and where its work is done. Nothing outside is asked before it signs.

    Raises:
        Unavailable: when its key is still to be made.
        Unsafe: when its sealed key was damaged or moved.
    """
    if row["key_home"] == SEALED:
        return on.signer(place(row["id"]), row["sealed_key"]), asyncio.to_thread
    if row["public_key"] is None:
        raise Unavailable(f"CA {row['id']} has no key yet: create it again, by the same name")
    public_key = keys.load_spki(bytes(row["public_key"]))
    home = on.key_homes.get(row["key_home"])
    if home is None:
        return Away(public_key, _not_told(row["key_home"])), asyncio.to_thread
    return home.signer(row["key_reference"], public_key), home.run


def public_key(on: Platform, row: Row) -> keys.PublicKey:
    """The key that a CA's certificate is for; that of its CSR where somebody else has it. Raises as
    `opened`."""
    if row["key_home"] == NONE:
        return x509.read_csr(row["csr_pem"]).public_key
    return opened(on, row)[0].public_key


def kept(on: Platform, row: Row) -> timedelta:
    """How long the finding that a CA's key signs counts for `/ready`."""
    home = on.key_homes.get(row["key_home"])
    return home.kept if home is not None else timedelta(0)


async def made(on: Platform, row: Row, algorithm: keys.KeyAlgorithm) -> Row:
    """The CA's row with its public key, which is made outside the database if it is to be there.

    An interrupted run's key is found by its reference; of two made at once the first counts.

    Raises:
        Unavailable, Refused: when its home does not answer, or makes no such key.
    """
    if row["key_home"] in (SEALED, NONE) or row["public_key"] is not None:
        return row
    home: KeyHome | None = on.key_homes.get(row["key_home"])
    if home is None:
        raise Unavailable(_not_told(row["key_home"]))
    public_key = await home.run(home.make, row["key_reference"], algorithm)
    async with on.db.transaction() as tx:
        counts = await authorities.keep_public_key(tx, row["id"], keys.spki(public_key))
    return {**row, "public_key": counts}


def _not_told(key_home: str) -> str:
    settings = key_home.upper().replace("-", "_")
    return f"this server is not told of a key home {key_home}: set CERTCTL_{settings}_*"
