"""The processes that serve on one database, each by the moment it was last seen."""

from __future__ import annotations

from collections.abc import Mapping

from certctl.store.db import Session

LIVE = "interval '30 seconds'"
KEPT = "interval '1 hour'"


async def beat(session: Session, replica_id: str, kind: str, *, told: Mapping[str, int]) -> int:
    """Say that this process is alive, with what it tells of itself, and how many of its kind are,
    itself included."""
    return int(
        await session.value(
            f"""WITH mine AS (
                    INSERT INTO replicas (id, kind, seen_at, told)
                    VALUES (%(id)s, %(kind)s, now(), %(told)s)
                    ON CONFLICT (id) DO UPDATE SET seen_at = now(), told = excluded.told),
                gone AS (
                    DELETE FROM replicas WHERE id <> %(id)s AND seen_at < now() - {KEPT})
                SELECT 1 + count(*) FROM replicas
                WHERE kind = %(kind)s AND id <> %(id)s AND seen_at > now() - {LIVE}""",
            id=replica_id,
            kind=kind,
            told=dict(told),
        )
    )


async def told(session: Session, kind: str) -> list[dict[str, int]]:
    """What each live process of a kind told of itself last."""
    rows = await session.all(
        f"SELECT told FROM replicas WHERE kind = %(kind)s AND seen_at > now() - {LIVE}", kind=kind
    )
    return [row["told"] for row in rows]


async def leave(session: Session, replica_id: str) -> None:
    """This process counts no longer."""
    await session.run("DELETE FROM replicas WHERE id = %(id)s", id=replica_id)
