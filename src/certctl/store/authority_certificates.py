"""Certificates of our CAs that are kept beside those they serve: the same subject and key, signed
by another CA above. A CA has at most one from each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from certctl.store.db import Row, Session, Tx

SHOWN: Final = "id, authority_id, parent_id, cert_der, not_before, not_after, served_until"


async def of(session: Session, authority_ids: Sequence[str]) -> dict[str, list[Row]]:
    """Those that are made, for each CA; oldest first."""
    rows = await session.all(
        f"""SELECT {SHOWN} FROM authority_certificates
            WHERE authority_id = ANY(%(ids)s) AND cert_der IS NOT NULL ORDER BY created_at, id""",
        ids=list(authority_ids),
    )
    found: dict[str, list[Row]] = {each: [] for each in authority_ids}
    for row in rows:
        found[row["authority_id"]].append(row)
    return found


async def find(session: Session, authority_id: str, parent_id: str) -> Row | None:
    """That by one CA; without `cert_der` while it is still to be made."""
    return await session.one(
        f"""SELECT {SHOWN} FROM authority_certificates
            WHERE authority_id = %(id)s AND parent_id = %(parent)s""",
        id=authority_id,
        parent=parent_id,
    )


async def prepare(tx: Tx, row_id: str, authority_id: str, parent_id: str) -> None:
    """Room for one that is to be signed, in place of one that is over."""
    await tx.run(
        """INSERT INTO authority_certificates AS c (id, authority_id, parent_id)
           VALUES (%(row_id)s, %(id)s, %(parent)s)
           ON CONFLICT (authority_id, parent_id) DO UPDATE
           SET id = %(row_id)s, cert_der = NULL, not_before = NULL, not_after = NULL,
               served_until = NULL, created_at = now()
           WHERE c.not_after <= now()""",
        row_id=row_id,
        id=authority_id,
        parent=parent_id,
    )


async def put(tx: Tx, values: Mapping[str, Any]) -> None:
    """Keep what has been signed."""
    await tx.run(
        """UPDATE authority_certificates SET cert_der = %(cert_der)s,
               not_before = %(not_before)s, not_after = %(not_after)s WHERE id = %(id)s""",
        **values,
    )


async def swap(tx: Tx, present: Row, chosen: Row) -> None:
    """A CA serves the chosen certificate from now on, and keeps the `present` one in its place."""
    await tx.run(
        """UPDATE authority_certificates SET parent_id = %(parent_id)s, cert_der = %(cert_der)s,
               not_before = %(not_before)s, not_after = %(not_after)s,
               served_until = clock_timestamp()
           WHERE id = %(row_id)s""",
        **present,
        row_id=chosen["id"],
    )
    await tx.run(
        """UPDATE authorities SET parent_id = %(parent_id)s, cert_der = %(cert_der)s,
               not_before = %(not_before)s, not_after = %(not_after)s
           WHERE id = %(authority_id)s""",
        **chosen,
    )
