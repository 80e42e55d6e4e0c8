"""What a revocation plane reads: every serial of a CA at once, and what has changed since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from certctl.domain.revocation import CODES
from certctl.store.db import Row, Session

AT_A_TIME: Final = 5000
CHANGED: Final = "status"
REASON: Final = "CASE r.reason {} ELSE 0 END".format(
    " ".join(f"WHEN '{reason}' THEN {code}" for reason, code in CODES.items())
)


async def states(session: Session, authority_id: str) -> AsyncIterator[bytes]:
    """The unexpired serials that a CA has issued, in blocks of packed records.

    A record is 20 octets of serial, then notAfter, the time of revocation (both in seconds since
    1970; 0: not revoked) and the reason's code, 8 octets each.
    """
    after = ""
    while True:
        row = await session.only(
            f"CA {authority_id}",
            f"""SELECT max(serial_number) AS last, string_agg(packed, ''::bytea) AS packed FROM (
                    SELECT i.serial_number, decode(lpad(i.serial_number, 40, '0'), 'hex')
                        || int8send(floor(extract(epoch FROM i.not_after))::bigint)
                        || int8send(coalesce(floor(extract(epoch FROM r.revoked_at)), 0)::bigint)
                        || int8send({REASON}) AS packed
                    FROM issuances i LEFT JOIN certificate_revocations r
                        ON r.authority_id = i.authority_id AND r.serial_number = i.serial_number
                    WHERE i.authority_id = %(id)s AND i.serial_number > %(after)s
                      AND i.state = 'issued' AND i.not_after > now()
                    ORDER BY i.serial_number LIMIT {AT_A_TIME}) AS listed""",
            id=authority_id,
            after=after,
        )
        if row["packed"] is None:
            return
        yield bytes(row["packed"])
        after = row["last"]


async def one(session: Session, authority_id: str, serial_number: str) -> Row | None:
    """One serial that a CA has issued, also after its end, in the terms of `states`."""
    return await session.one(
        f"""SELECT floor(extract(epoch FROM i.not_after))::bigint AS not_after,
                   coalesce(floor(extract(epoch FROM r.revoked_at)), 0)::bigint AS revoked_at,
                   {REASON} AS reason
            FROM issuances i LEFT JOIN certificate_revocations r
                ON r.authority_id = i.authority_id AND r.serial_number = i.serial_number
            WHERE i.authority_id = %(id)s AND i.serial_number = %(serial)s
              AND i.state = 'issued'""",
        id=authority_id,
        serial=serial_number,
    )


async def mark(session: Session) -> str:
    """Below it every transaction has ended: what commits later is found by `changes` from here."""
    return str(await session.value("SELECT pg_snapshot_xmin(pg_current_snapshot())::text"))


async def changes(session: Session, since: str) -> list[Row]:
    """Revocations that were committed since a mark, some of them perhaps again."""
    return await session.all(
        f"""SELECT authority_id, serial_number, {REASON} AS reason,
                   floor(extract(epoch FROM not_after))::bigint AS not_after,
                   floor(extract(epoch FROM revoked_at))::bigint AS revoked_at
            FROM certificate_revocations r
            WHERE changed_in >= %(since)s::xid8 AND authority_id IS NOT NULL
              -- Restored rows may bear numbers that this server has yet to reach.
              AND changed_in < pg_snapshot_xmax(pg_current_snapshot())""",
        since=since,
    )


async def crl_numbers(session: Session) -> dict[tuple[str, int], int]:
    """The number of the newest CRL of each CA and shard."""
    rows = await session.all(
        "SELECT authority_id, shard, number FROM crls WHERE number IS NOT NULL"
    )
    return {(row["authority_id"], row["shard"]): int(row["number"]) for row in rows}
