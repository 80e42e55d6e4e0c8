"""CRLs of our own CAs, complete (shard 0) and in shards, and the revocations that they tell of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from certctl.store.db import Row, Session, Tx

# A complete list of many entries rests nine times as long as it took to build, so that a tenth of
# the time at most goes into it. Shards, and what is small, are built at once.
SMALL: Final = 10_000  # entries
DUE_AT: Final = f"""CASE WHEN shard = 0 AND entries > {SMALL}
    THEN greatest(built_at, building_since) + build_seconds * 9 * interval '1 second'
    ELSE '-infinity' END"""
# Somebody builds what covers every change; after a minute, nobody is thought to.
IN_THE_MAKING: Final = """(building >= changes
    AND building_since > clock_timestamp() - interval '1 minute')"""
META: Final = f"""number, this_update, next_update, entries, der IS NOT NULL AS is_there,
    changes > covers AND {DUE_AT} <= clock_timestamp() AND NOT {IN_THE_MAKING} AS is_due"""


async def newest(session: Session, authority_id: str, shard: int) -> Row | None:
    """The newest list without its DER; None for a shard that no certificate names. It `is_due` when
    a revocation has been committed that it does not hold, and it has rested."""
    return await session.one(
        f"SELECT {META} FROM crls WHERE authority_id = %(id)s AND shard = %(shard)s",
        id=authority_id,
        shard=shard,
    )


async def whole(session: Session, authority_id: str, shard: int) -> Row | None:
    """Number, DER and times of the newest list, if it has been made."""
    rows = session.large(
        """SELECT number, der, this_update, next_update FROM crls
           WHERE authority_id = %(id)s AND shard = %(shard)s AND der IS NOT NULL""",
        id=authority_id,
        shard=shard,
    )
    found = [row async for row in rows]
    return found[0] if found else None


async def open_shard(tx: Tx, authority_id: str, shard: int, *, url: str) -> None:
    """There is such a shard from now on, and certificates look for it at this address."""
    await tx.run(
        """INSERT INTO crls (authority_id, shard, urls, changes)
           SELECT %(id)s, %(shard)s, ARRAY[%(url)s::text], 1
           WHERE NOT EXISTS (SELECT FROM crls WHERE authority_id = %(id)s AND shard = %(shard)s
               AND %(url)s = ANY(urls))
           ON CONFLICT (authority_id, shard) DO UPDATE
               SET urls = crls.urls || excluded.urls, changes = crls.changes + 1
               WHERE NOT crls.urls @> excluded.urls""",
        id=authority_id,
        shard=shard,
        url=url,
    )


async def revoke(tx: Tx, revocations: Sequence[Mapping[str, Any]]) -> set[tuple[str, int]]:
    """Write revocations down, each with the shard that its certificate was given; the lists, by CA
    and shard, that lack them now. The complete list is one of them."""
    if not revocations:
        return set()
    columns = ", ".join(revocations[0])
    rows = await tx.all(
        f"""INSERT INTO certificate_revocations ({columns}, crl_shard)
            SELECT {", ".join(f"n.{name}" for name in revocations[0])}, coalesce(i.crl_shard, 0)
            FROM jsonb_populate_recordset(NULL::certificate_revocations, %(rows)s) n
            LEFT JOIN issuances i ON i.authority_id = n.authority_id
                AND i.serial_number = n.serial_number
            RETURNING authority_id, crl_shard""",
        rows=[{name: _spelt(value) for name, value in row.items()} for row in revocations],
    )
    found = {(row["authority_id"], row["crl_shard"]) for row in rows if row["authority_id"]}
    return found | {(authority_id, 0) for authority_id, _ in found}


def _spelt(value: Any) -> Any:
    """As PostgreSQL reads it from a text."""
    if isinstance(value, datetime):
        return value.isoformat()
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value


async def mark_stale(tx: Tx, lists: Iterable[tuple[str, int]]) -> None:
    """In one order, so that two revocations never wait for each other."""
    ordered = sorted(lists)
    await tx.run(
        """INSERT INTO crls (authority_id, shard, changes)
           SELECT authority_id, shard, 1
           FROM unnest(%(authorities)s::text[], %(shards)s::integer[]) AS l(authority_id, shard)
           ON CONFLICT (authority_id, shard) DO UPDATE SET changes = crls.changes + 1""",
        authorities=[each[0] for each in ordered],
        shards=[each[1] for each in ordered],
    )


async def reserve(tx: Tx, authority_id: str, shard: int, *, only_if_due: bool) -> Row | None:
    """A number for the next list, how many changes it will cover, the present one's time, and the
    addresses of a shard. None where nobody needs another list and `only_if_due`.

    It waits for revocations that are about to commit: what is read afterwards holds these changes.
    """
    return await tx.one(
        f"""INSERT INTO crls (authority_id, shard, reserved, building, building_since)
            VALUES (%(id)s, %(shard)s, 1, 0, clock_timestamp())
            ON CONFLICT (authority_id, shard) DO UPDATE
                SET reserved = crls.reserved + 1, building = crls.changes,
                    building_since = clock_timestamp()
                WHERE NOT %(only_if_due)s
                   OR (SELECT changes > covers AND {DUE_AT} <= clock_timestamp()
                           AND NOT {IN_THE_MAKING} FROM (SELECT crls.*) AS present)
            RETURNING reserved AS number, changes, this_update, urls""",
        id=authority_id,
        shard=shard,
        only_if_due=only_if_due,
    )


async def entries(
    session: Session, authority_id: str, shard: int, since: datetime
) -> tuple[int, list[bytes]]:
    """How many entries a list must carry, and their DER in pieces: revoked, and not expired before
    `since` (RFC 5280 §3.3)."""
    within = "" if shard == 0 else "AND crl_shard > 0 AND crl_shard = %(shard)s"
    # A complete list in many pieces: one of them may not be as large as the whole.
    pieces = "right(serial_number, 2)" if shard == 0 else "crl_shard"
    count, found = 0, list[bytes]()
    async for row in session.large(
        f"""SELECT count(*) AS number, string_agg(entry_der, ''::bytea) AS der
            FROM certificate_revocations
            WHERE authority_id = %(id)s AND not_after >= %(since)s {within} GROUP BY {pieces}""",
        id=authority_id,
        since=since,
        shard=shard,
    ):
        count += row["number"]
        found.append(row["der"])
    return count, found


async def unwritten(session: Session, authority_id: str, *, limit: int) -> list[Row]:
    """Revocations that came without the DER of their entry."""
    return await session.all(
        """SELECT id, serial_number, revoked_at, reason FROM certificate_revocations
           WHERE authority_id = %(id)s AND entry_der IS NULL LIMIT %(limit)s""",
        id=authority_id,
        limit=limit,
    )


async def write_entries(tx: Tx, ids: Sequence[str], ders: Sequence[bytes]) -> None:
    await tx.run(
        """UPDATE certificate_revocations r SET entry_der = n.der
           FROM unnest(%(ids)s::text[], %(ders)s::bytea[]) AS n(id, der) WHERE r.id = n.id""",
        ids=list(ids),
        ders=list(ders),
    )


async def put(tx: Tx, authority_id: str, shard: int, **values: Any) -> None:
    """Keep a list, unless a newer one has come in the meantime."""
    await tx.run(
        """UPDATE crls SET number = %(number)s, der = %(der)b, this_update = %(this_update)s,
               next_update = %(next_update)s, covers = %(covers)s, entries = %(entries)s,
               built_at = clock_timestamp(), build_seconds = %(build_seconds)s
           WHERE authority_id = %(id)s AND shard = %(shard)s
             AND coalesce(number, 0) < %(number)s""",
        id=authority_id,
        shard=shard,
        **values,
    )


async def stale(session: Session, authority_id: str) -> list[Row]:
    """The lists of a CA that lack a revocation and that nobody is building, shards first, and when
    each may be built."""
    return await session.all(
        f"""SELECT shard, nullif({DUE_AT}, '-infinity') AS due_at FROM crls
            WHERE authority_id = %(id)s AND changes > covers AND NOT {IN_THE_MAKING}
            ORDER BY shard = 0, shard""",
        id=authority_id,
    )


async def to_refresh(session: Session, before: datetime) -> list[tuple[str, int]]:
    """Lists, by CA and shard, that are missing, due, or end before the given moment."""
    rows = await session.all(
        f"""SELECT a.id, c.shard FROM authorities a
            JOIN (SELECT authority_id, shard, {META} FROM crls) c
                ON c.authority_id = a.id
            WHERE a.state IN ('active', 'retiring') AND a.key_home <> 'none'
              AND (NOT c.is_there OR c.is_due OR c.next_update < %(before)s)
            UNION ALL SELECT a.id, 0 FROM authorities a
              WHERE a.state IN ('active', 'retiring') AND a.key_home <> 'none'
              AND NOT EXISTS (SELECT FROM crls c WHERE c.authority_id = a.id AND c.shard = 0)
            ORDER BY 1, 2""",
        before=before,
    )
    return [(row["id"], row["shard"]) for row in rows]
