"""Replacing the passphrase and the data key: every sealed value is sealed anew.

From the first commit to the last there are two data keys, each opened by its own passphrase and
each kept under the other, so that either passphrase opens every value whenever this is
interrupted. Servers go on working: they are told of the second key and waited for before
anything is under it. What a server seals under the first one meanwhile keeps that from being
removed (a foreign key), and is found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from certctl.domain.access import Actor
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Unsafe
from certctl.pki.keyring import Keyring
from certctl.pki.sealing import DataKey
from certctl.services import audit, sealing
from certctl.store import key_watch, secrets
from certctl.store.db import Database

BATCH: Final = 200
LOOK_AGAIN: Final = 0.2


@dataclass(frozen=True)
class Passphrases:
    """The one in use, and where the next comes from; `next` is asked only when it is needed, and
    `keep_next` makes it the one in use, whenever it is called and however often."""

    now: bytes
    next: Callable[[], bytes]
    keep_next: Callable[[], None]


async def rotate(
    db: Database, actor: Actor, passphrases: Passphrases, *, patience: timedelta
) -> int:
    """Seal everything anew under a new data key and a new passphrase; how many values. Goes on
    with a rotation that was interrupted.

    Raises:
        Unsafe: when the present passphrase does not open the database, the next one is the
            present one, or a value does not open; then nothing is removed.
        Conflict: when another rotation runs, or a process does not take up the new key within
            `patience`.
    """
    async with key_watch.one_rotation(db.conninfo):
        ring = await sealing.open_keyring(db, passphrases.now)
        async with db.read() as session:
            old = (await secrets.data_keys(session))[-1]["replaces"]
        if old is None:
            old = await _begin(db, actor, ring, passphrases=passphrases)
        else:
            await _resume(db, ring, passphrases)
        await _wait_for_servers(db, old, patience=patience)
        return await _finish(db, actor, ring, old=old, keep_next=passphrases.keep_next)


async def _begin(db: Database, actor: Actor, ring: Keyring, *, passphrases: Passphrases) -> str:
    """The second key, told to every process; the id of the first."""
    words = passphrases.next()
    if words == passphrases.now:
        raise Unsafe("the new passphrase is the present one")
    # Values under the present passphrase itself would not open under the next one.
    await _reseal_all(db, ring, besides=None)
    old, new = ring.current, DataKey.successor()
    sealed = await asyncio.to_thread(new.sealed, words)
    async with db.transaction() as tx:
        await secrets.lock_data_keys(tx)
        await secrets.put_successor(
            tx,
            new.id,
            sealed=sealed,
            replaces=old.id,
            beside=new.beside(old),
            beside_old=old.beside(new),
        )
        await audit.record(
            tx,
            actor,
            "secrets_rotation_begun",
            on=("sealing_key", new.id),
            category=Category.CONFIG,
            replaces=old.id,
        )
    ring.put([new], current=new.id)
    return old.id


async def _resume(db: Database, ring: Keyring, passphrases: Passphrases) -> None:
    """Put the second key under the next passphrase, unless that is in use already."""
    async with db.read() as session:
        stored = {row["id"]: bytes(row["sealed"]) for row in await secrets.data_keys(session)}
    if await asyncio.to_thread(sealing.opens, passphrases.now, stored[ring.current.id]):
        return
    words = passphrases.next()
    if words == passphrases.now:
        raise Unsafe("the new passphrase is the present one")
    sealed = await asyncio.to_thread(ring.current.sealed, words)
    async with db.transaction() as tx:
        await secrets.rewrap(tx, ring.current.id, sealed)


async def _wait_for_servers(db: Database, old: str, *, patience: timedelta) -> None:
    deadline = asyncio.get_running_loop().time() + patience.total_seconds()
    async with db.read() as session:
        while not await key_watch.is_left(session, old):
            if asyncio.get_running_loop().time() > deadline:
                raise Conflict(
                    "a running certctl has not taken up the new data key: stop or restart it, "
                    "then give this command again; it goes on where it was"
                )
            await asyncio.sleep(LOOK_AGAIN)


async def _finish(
    db: Database, actor: Actor, ring: Keyring, *, old: str, keep_next: Callable[[], None]
) -> int:
    new, done = ring.current.id, 0
    while True:
        done += await _reseal_all(db, ring, besides=new)
        keep_next()
        try:
            async with db.transaction() as tx:
                await secrets.lock_data_keys(tx)
                await secrets.end_succession(tx, new)
                await audit.record(
                    tx,
                    actor,
                    "secrets_rotation_finished",
                    on=("sealing_key", new),
                    category=Category.CONFIG,
                    replaces=old,
                    values=done,
                )
        except Conflict:  # sealed under the first key a moment ago
            continue
        return done


async def _reseal_all(db: Database, ring: Keyring, *, besides: str | None) -> int:
    """Walk until nothing is left, as `secrets.batch` has it; how many values were sealed anew."""
    done = 0
    while True:
        moved = await _reseal(db, ring, besides=besides)
        done += moved
        async with db.read() as session:
            if not await secrets.count(session, besides=besides):
                return done
        if not moved:  # somebody else has locked what is left
            await asyncio.sleep(LOOK_AGAIN)


async def _reseal(db: Database, ring: Keyring, *, besides: str | None) -> int:
    """One walk over everything sealed; how many values were sealed anew."""
    done = 0
    for column in secrets.SEALED:
        after = ""
        while True:
            async with db.transaction() as tx:
                rows = await secrets.batch(tx, column, besides=besides, after=after, limit=BATCH)
                if not rows:
                    break
                values = [_anew(ring, column, row["id"], bytes(row["sealed"])) for row in rows]
                await secrets.replace(tx, column, values)
            done, after = done + len(rows), rows[-1]["id"]
    return done


def _anew(ring: Keyring, column: secrets.Column, row_id: str, sealed: bytes) -> dict[str, object]:
    place = sealing.place(column, row_id)
    return {"id": row_id, "sealed": ring.seal(ring.unseal(sealed, place), place)}
