"""A database with a value in every sealed column, and what of it opens under a passphrase."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from certctl.pki.sealing import Place
from certctl.services import authority, checkpoints, sealing
from certctl.store import secrets
from certctl.store.db import Database
from tests import kit
from tests.conftest import PASSPHRASE, World
from tests.people import a_provider
from tests.sealed import sealed

Values = dict[tuple[str, str, str], bytes]
NEW = b"the passphrase that is to be used from now on"


async def fill(world: World, *, old_versions: bool = True) -> Values:
    """Seal something into every column of the registry, some of it as an earlier certctl did."""
    await kit.a_served_certificate(world)
    await checkpoints.ensure_key(world.platform)
    secret = Place("oidc_providers", "sealed_client_secret", "op-test")
    await a_provider(
        world, sealed_client_secret=world.platform.data_key.seal(b"of the client", secret)
    )
    issuing = await authority.signing_authority_id(world.platform, "iss-local")
    await authority.service_certificate(world.platform, issuing, "server", grace=timedelta(0))
    for table in ("jobs", "certificate_versions"):
        for number, row in enumerate(await kit.rows(world, f"SELECT id FROM {table} ORDER BY id")):
            place, text = Place(table, "sealed_key", row["id"]), f"{table} {number}".encode()
            blob = world.platform.data_key.seal(text, place)
            if old_versions and table == "jobs" and number == 0:
                blob = sealed(3, PASSPHRASE, text)
            await kit.change(
                world,
                f"UPDATE {table} SET sealed_key = %(blob)s WHERE id = %(id)s",
                blob=blob,
                id=row["id"],
            )
    if old_versions:
        blob = sealed(1, PASSPHRASE, b'{"validity_days": 30}')
        await kit.change(
            world, "UPDATE issuers SET sealed_config = %(blob)s WHERE id = 'iss-local'", blob=blob
        )
    found = await opened(world.conninfo, PASSPHRASE)
    assert {(table, column) for table, column, _ in found} == {
        (column.table, column.name) for column in secrets.SEALED
    }
    return found


async def opened(conninfo: str, passphrase: bytes) -> Values:
    """Every sealed value, opened as a start under this passphrase does. Raises Unsafe."""
    db = Database(conninfo, max_size=2)
    await db.open()
    try:
        ring, found = await sealing.open_keyring(db, passphrase), {}
        async with db.read() as session:
            for column in secrets.SEALED:
                for row in await session.all(
                    f"""SELECT id, {column.name} AS sealed FROM {column.table}
                        WHERE {column.name} IS NOT NULL"""
                ):
                    place = sealing.place(column, row["id"])
                    found[place.table, place.column, place.id] = ring.unseal(
                        bytes(row["sealed"]), place
                    )
        return found
    finally:
        await db.close()


async def keys_in_use(world: World) -> set[str | None]:
    """The keys that values are under; None for those of an earlier certctl."""
    parts = " UNION ".join(
        f"SELECT {column.under} AS key FROM {column.table} WHERE {column.name} IS NOT NULL"
        for column in secrets.SEALED
    )
    return {row["key"] for row in await kit.rows(world, parts)}


def written_nowhere(secret: bytes, folder: Path) -> bool:
    """Whether no file below `folder` holds the secret."""
    return not any(secret in file.read_bytes() for file in folder.rglob("*") if file.is_file())
