"""Sealed values and the keys they are under: the data keys, and every column that holds any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from certctl.store.db import Row, Session, Tx

CHANNEL: Final = "certctl_sealing_keys"


@dataclass(frozen=True)
class Column:
    """A column of sealed values; the generated column beside it names the data key they are
    under, and is null for values of versions 1 to 3."""

    table: str
    name: str

    @property
    def under(self) -> str:
        return f"{self.name}_under"


# The one list of them: what is not in it is lost with the next rotation (tests/store).
SEALED: Final = (
    Column("authorities", "sealed_key"),
    Column("service_certificates", "sealed_key"),
    Column("issuers", "sealed_config"),
    Column("deployment_targets", "sealed_config"),
    Column("jobs", "sealed_key"),
    Column("certificate_versions", "sealed_key"),
    Column("audit_checkpoint_keys", "sealed_key"),
    Column("oidc_providers", "sealed_client_secret"),
)


async def data_keys(session: Session) -> list[Row]:
    """The data keys, the one to seal under last: there are two while one replaces the other."""
    return await session.all(
        """SELECT id, sealed, beside, replaces, created_at FROM sealing_keys
           ORDER BY replaces IS NOT NULL"""
    )


async def lock_data_keys(tx: Tx) -> None:
    """Replicas that start together make one data key, and rotations take turns with them."""
    await tx.run("SELECT pg_advisory_xact_lock(hashtext('sealing_keys'))")


async def put_data_key(tx: Tx, key_id: str, sealed: bytes) -> None:
    await tx.run(
        "INSERT INTO sealing_keys (id, sealed) VALUES (%(id)s, %(sealed)s)",
        id=key_id,
        sealed=sealed,
    )


async def put_successor(
    tx: Tx, key_id: str, *, sealed: bytes, replaces: str, beside: bytes, beside_old: bytes
) -> None:
    """A second data key, each of the two also kept under the other; tells every process."""
    await tx.run(
        """INSERT INTO sealing_keys (id, sealed, beside, replaces)
           VALUES (%(id)s, %(sealed)s, %(beside)s, %(replaces)s)""",
        id=key_id,
        sealed=sealed,
        beside=beside,
        replaces=replaces,
    )
    await tx.run(
        "UPDATE sealing_keys SET beside = %(beside)s WHERE id = %(id)s",
        id=replaces,
        beside=beside_old,
    )
    await tx.run("SELECT pg_notify(%(channel)s, '')", channel=CHANNEL)


async def rewrap(tx: Tx, key_id: str, sealed: bytes) -> None:
    """The same data key under another passphrase."""
    await tx.run(
        "UPDATE sealing_keys SET sealed = %(sealed)s WHERE id = %(id)s", id=key_id, sealed=sealed
    )


async def end_succession(tx: Tx, key_id: str) -> None:
    """Remove the key that `key_id` replaces.

    Raises:
        Conflict: when a value is still under it.
    """
    await tx.run(
        """DELETE FROM sealing_keys o USING sealing_keys n
           WHERE n.id = %(id)s AND o.id = n.replaces""",
        id=key_id,
    )
    await tx.run(
        "UPDATE sealing_keys SET beside = NULL, replaces = NULL WHERE id = %(id)s", id=key_id
    )


async def is_empty(session: Session) -> bool:
    """Whether nothing sealed is in the database yet."""
    held = " OR ".join(
        f"EXISTS (SELECT FROM {column.table} WHERE {column.name} IS NOT NULL)" for column in SEALED
    )
    return not await session.value(f"SELECT EXISTS (SELECT FROM sealing_keys) OR {held}")


async def batch(
    tx: Tx, column: Column, *, besides: str | None, after: str, limit: int
) -> list[Row]:
    """Up to `limit` values with an id above `after` that are not under the key `besides`, locked;
    without one, those that name no key. Values that somebody else has locked are left out."""
    wrong = (
        f"{column.under} IS NULL" if besides is None
        else f"{column.under} IS DISTINCT FROM %(besides)s"
    )  # fmt: skip
    return await tx.all(
        f"""SELECT id, {column.name} AS sealed FROM {column.table}
            WHERE {column.name} IS NOT NULL AND {wrong} AND id > %(after)s
            ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED""",
        besides=besides,
        after=after,
        limit=limit,
    )


async def replace(tx: Tx, column: Column, values: list[Row]) -> None:
    """New sealed values by id."""
    await tx.many(f"UPDATE {column.table} SET {column.name} = %(sealed)s WHERE id = %(id)s", values)


async def count(session: Session, *, besides: str | None) -> int:
    """How many values are not under the key `besides`; without one, how many name no key."""
    wrong = "IS NULL" if besides is None else "IS DISTINCT FROM %(besides)s"
    parts = " UNION ALL ".join(
        f"""SELECT count(*) AS n FROM {column.table}
            WHERE {column.name} IS NOT NULL AND {column.under} {wrong}"""
        for column in SEALED
    )
    return int(await session.value(f"SELECT sum(n) FROM ({parts}) each", besides=besides))


async def nameless(session: Session) -> Row | None:
    """One value, if there is any, that names no data key: table, column, id and sealed."""
    for column in SEALED:
        row = await session.one(
            f"""SELECT id, {column.name} AS sealed FROM {column.table}
                WHERE {column.name} IS NOT NULL AND {column.under} IS NULL LIMIT 1"""
        )
        if row is not None:
            return {**row, "table": column.table, "column": column.name}
    return None


async def census(session: Session) -> list[Row]:
    """How many values each column holds by the key they are under; nothing of the values."""
    parts = " UNION ALL ".join(
        f"""SELECT '{column.table}' AS "table", '{column.name}' AS "column",
                   coalesce('key ' || {column.under},
                       CASE WHEN substring({column.name} FOR 1) = '\\x03' THEN 'passphrase, v3'
                            WHEN substring({column.name} FOR 1) = '\\x02' THEN 'passphrase, v2'
                            ELSE 'passphrase, v1' END) AS under,
                   count(*) AS rows
            FROM {column.table} WHERE {column.name} IS NOT NULL GROUP BY 3"""
        for column in SEALED
    )
    return await session.all(f"{parts} ORDER BY 1, 2, 3")


async def put_config(tx: Tx, table: str, row_id: str, *, sealed: bytes | None) -> None:
    """Keep the sealed configuration of an issuer or a target."""
    await tx.run(
        f"UPDATE {table} SET sealed_config = %(sealed)s WHERE id = %(id)s",
        id=row_id,
        sealed=sealed,
    )


async def config(session: Session, table: str, row_id: str) -> bytes | None:
    value = await session.value(
        f"SELECT sealed_config FROM {table} WHERE id = %(id)s",
        id=row_id,
    )
    return None if value is None else bytes(value)
