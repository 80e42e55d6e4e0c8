"""The data key, sealed under the operator's passphrase, and the check that sealed rows have it."""

from __future__ import annotations

from certctl.store.db import Session, Tx


async def sealed_data_key(session: Session) -> bytes | None:
    value = await session.value("SELECT sealed FROM sealing_keys WHERE id = 'data'")
    return None if value is None else bytes(value)


async def lock_data_key(tx: Tx) -> None:
    """Replicas that start together make one data key."""
    await tx.run("SELECT pg_advisory_xact_lock(hashtext('sealing_keys'))")


async def put_data_key(tx: Tx, sealed: bytes) -> None:
    await tx.run(
        "INSERT INTO sealing_keys (id, sealed) VALUES ('data', %(sealed)s)",
        sealed=sealed,
    )


async def is_empty(session: Session) -> bool:
    """Whether nothing sealed is in the database yet."""
    return not await session.value(
        """SELECT EXISTS (SELECT FROM sealing_keys) OR EXISTS (SELECT FROM authorities)
               OR EXISTS (SELECT FROM issuers WHERE sealed_config IS NOT NULL)
               OR EXISTS (SELECT FROM deployment_targets WHERE sealed_config IS NOT NULL)"""
    )


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
