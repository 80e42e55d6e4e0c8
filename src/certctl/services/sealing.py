"""Opening the data keys of a database, at the start and whenever they change."""

from __future__ import annotations

import asyncio

from certctl.domain.errors import Unsafe
from certctl.pki.keyring import Keyring
from certctl.pki.sealing import DataKey, Passphrase, Place
from certctl.store import secrets
from certctl.store.db import Database, Row, Session, Tx


async def open_keyring(db: Database, passphrase: bytes) -> Keyring:
    """The data keys of this database; the first is made when there is none yet.

    Raises:
        Unsafe: when the passphrase opens neither a data key nor, without one, what is sealed.
    """
    words = Passphrase(passphrase)
    async with db.transaction() as tx:
        await secrets.lock_data_keys(tx)
        stored = await secrets.data_keys(tx)
        if stored:
            keys = await asyncio.to_thread(_opened, words, stored)
            await _check_oldest(tx, words)
            return Keyring(keys, current=stored[-1]["id"], passphrase=words)
        await _check_oldest(tx, words)
        key = DataKey.generate()
        await secrets.put_data_key(tx, key.id, key.sealed(passphrase))
        return Keyring([key], current=key.id, passphrase=words)


async def refresh(session: Session, ring: Keyring) -> None:
    """Bring the ring of a running process up to date: a rotation has begun or ended.

    Raises:
        Unsafe: when the keys were replaced while this process could not see it.
    """
    stored = await secrets.data_keys(session)
    known = [key for row in stored if (key := ring.key(row["id"])) is not None]
    if not known:
        raise Unsafe(
            "the data key was replaced while this process could not see it: start it again with "
            "the new CERTCTL_CONFIG_ENCRYPTION_KEY"
        )
    ring.put(_beside(stored, known), current=stored[-1]["id"])


def _opened(words: Passphrase, stored: list[Row]) -> list[DataKey]:
    """Every data key: the passphrase opens one, and that the other."""
    for row in stored:
        try:
            key = DataKey.opened(words, bytes(row["sealed"]), key_id=row["id"])
        except Unsafe:
            continue
        return _beside(stored, [key])
    raise Unsafe(
        "CERTCTL_CONFIG_ENCRYPTION_KEY does not open this database: give the passphrase that it "
        "was first started with, or the one of the last `certctl secrets rotate`"
    )


def _beside(stored: list[Row], known: list[DataKey]) -> list[DataKey]:
    ids = {key.id for key in known}
    return [
        *known,
        *(
            DataKey.opened_beside(known[0], bytes(row["beside"]), key_id=row["id"])
            for row in stored
            if row["id"] not in ids
        ),
    ]


async def _check_oldest(tx: Tx, words: Passphrase) -> None:
    """Rows that an earlier certctl sealed under the passphrase itself must open under this one."""
    row = await secrets.nameless(tx)
    if row is None:
        return
    try:
        words.unseal(bytes(row["sealed"]))
    except Unsafe:
        raise Unsafe(
            f"CERTCTL_CONFIG_ENCRYPTION_KEY does not open {row['table']}.{row['column']} of "
            f"{row['id']}, which an earlier certctl sealed: give the passphrase of that time"
        ) from None


def place(column: secrets.Column, row_id: str) -> Place:
    """Where a value of the registry stands."""
    return Place(column.table, column.name, row_id)


def opens(passphrase: bytes, sealed: bytes) -> bool:
    """Whether a sealed data key is under this passphrase."""
    try:
        Passphrase(passphrase).unseal(sealed)
    except Unsafe:
        return False
    return True
