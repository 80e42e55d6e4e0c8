"""Signed checkpoints of the audit trail: made, shown, and laid down where others collect them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from certctl.domain.access import Actor, Permission
from certctl.domain.errors import Invalid, NotFound, Unavailable
from certctl.domain.ids import new_id
from certctl.domain.listing import PageRequest
from certctl.domain.trail import Checkpoint, Seal
from certctl.pki import checkpoint as signed
from certctl.pki import keys
from certctl.pki.sealing import Place
from certctl.services.platform import Platform
from certctl.store import checkpoints as store
from certctl.store.db import Row

log = logging.getLogger("certctl.audit")
KEY_FILE: Final = "checkpoint-key.pem"
AT_ONCE: Final = 100


async def ensure_key(on: Platform) -> Row:
    """The key that signs checkpoints, made when there is none; it names the installation."""
    async with on.db.transaction() as tx:
        await store.lock_keys(tx)
        found = await store.key(tx)
        if found is not None:
            return found
        private = Ed25519PrivateKey.generate()
        key_id = new_id("ack", tx.now)
        place = Place("audit_checkpoint_keys", "sealed_key", key_id)
        row = {
            "id": key_id,
            "installation": new_id("ins", tx.now),
            "public_key": signed.public_pem(private.public_key()),
            "sealed_key": on.data_key.seal(keys.to_der(private), place),
            "created_at": tx.now,
        }
        await store.insert_key(tx, row)
        return row


async def tick(on: Platform) -> int:
    """Attest the newest seal when the interval has passed, and lay down what is not there yet;
    the number of checkpoints made."""
    async with on.db.read() as session:
        last = await store.latest(session)
    pause = on.terms.audit_checkpoint_interval
    due = last is None or on.clock() - last["created_at"] >= pause
    made = await make(on) if due else None
    await lay_down(on)
    return 0 if made is None else 1


async def make(on: Platform) -> Row | None:
    """A checkpoint of the newest seal; None when that is attested already, or when the seals no
    longer continue what was attested, which is logged as an error."""
    async with on.db.transaction() as tx:
        last, now = await store.latest(tx), tx.now
        before = _attested(last) if last else None
        newest = await store.newest_seal(tx, above=before.seal_number if before else 0)
    if newest is None or not _continues(before, newest):
        return None
    row = _signed(on, await ensure_key(on), before, newest=newest, now=now)
    async with on.db.transaction() as tx:
        if not await store.insert(tx, row):
            return None
    log.info("audit checkpoint %s, signature %s", row["payload"], row["signature"])
    return row


def _signed(
    on: Platform, key: Row, before: Checkpoint | None, *, newest: Row, now: datetime
) -> Row:
    place = Place("audit_checkpoint_keys", "sealed_key", key["id"])
    signer = on.signer(place, bytes(key["sealed_key"]))
    checkpoint = Checkpoint(
        installation=key["installation"],
        number=before.number + 1 if before else 1,
        seal_number=newest["number"],
        seal=newest["seal"],
        last_sequence=newest["last_sequence"],
        row_count=(before.row_count if before else 0) + newest["added"],
        time=now.isoformat(timespec="microseconds"),
    )
    data = signed.payload(checkpoint)
    return {
        "id": new_id("acp", now),
        "number": checkpoint.number,
        "seal_number": checkpoint.seal_number,
        "key_id": key["id"],
        "payload": data.decode(),
        "signature": signed.encoded(signer.sign(data)),
        "created_at": now,
    }


def _continues(before: Checkpoint | None, newest: Row) -> bool:
    """Whether there is something new to attest after the last checkpoint."""
    if before is None or newest["number"] > before.seal_number:
        return True
    seal = Seal.of(newest)
    wrong = (
        before.missing(seal.number)
        if seal.number < before.seal_number
        else before.contradicts(seal)
    )
    if wrong:
        log.error("the audit trail was tampered with: %s", wrong)
    return False


async def lay_down(on: Platform) -> None:
    """Write the checkpoints that the directory of the settings lacks, each with its signature;
    what fails is logged, and done at the next tick."""
    folder = on.terms.audit_checkpoint_dir
    if folder is None:
        return
    async with on.db.read() as session:
        rows = await store.newest(session, AT_ONCE)
        key = await store.key(session)
    if key is None:
        return
    try:
        await asyncio.to_thread(_write, folder, rows[::-1], key["public_key"])
    except OSError as error:
        log.warning("CERTCTL_AUDIT_CHECKPOINT_DIR: %s", error)


def _write(folder: Path, rows: Sequence[Row], public_key: str) -> None:
    """The signature goes first, so that whoever sees a checkpoint finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    _put(folder / KEY_FILE, public_key.encode())
    for row in rows:
        # A database that was restored counts anew: the seal tells two of a number apart.
        checkpoint = _attested(row)
        name = f"checkpoint-{checkpoint.number:012d}-{checkpoint.seal[:16]}"
        _put(folder / f"{name}.sig", signed.decoded(row["signature"]))
        _put(folder / f"{name}.json", row["payload"].encode())


def _put(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        unfinished = path.with_suffix(".tmp")
        unfinished.write_bytes(content)
        unfinished.replace(path)


async def page(on: Platform, actor: Actor, request: PageRequest) -> dict[str, Any]:
    actor.everywhere(Permission.AUDIT_READ)
    async with on.db.read() as session:
        found = await store.page(session, request)
    return {**found, "data": [_shown(row) for row in found["data"]]}


async def latest(on: Platform, actor: Actor) -> Row:
    """Raises NotFound before the first one was made."""
    actor.everywhere(Permission.AUDIT_READ)
    async with on.db.read() as session:
        found = await store.latest(session)
    if found is None:
        raise NotFound("there is no checkpoint yet; one is made soon after the first seal")
    return _shown(found)


async def public_key(on: Platform, actor: Actor) -> str:
    """The key that checkpoints are verified with, PEM."""
    actor.everywhere(Permission.AUDIT_READ)
    async with on.db.read() as session:
        found = await store.key(session)
    if found is None:
        raise NotFound("there is no checkpoint key yet; it is made with the first checkpoint")
    return str(found["public_key"])


def _attested(row: Row) -> Checkpoint:
    """Raises Unavailable for a row that somebody has changed."""
    try:
        return signed.parse(row["payload"].encode())
    except Invalid:
        raise Unavailable(
            f"checkpoint {row['number']} was changed where it is stored; `certctl audit verify` "
            "tells what else"
        ) from None


def _shown(row: Row) -> Row:
    checkpoint = _attested(row)
    return {
        "id": row["id"],
        "number": row["number"],
        "installation": checkpoint.installation,
        "seal_number": checkpoint.seal_number,
        "seal": checkpoint.seal,
        "last_sequence": checkpoint.last_sequence,
        "row_count": checkpoint.row_count,
        "created_at": row["created_at"],
        "key_id": row["key_id"],
        "payload": row["payload"],
        "signature": row["signature"],
    }
