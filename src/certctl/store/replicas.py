"""The processes that serve on one database, each by the moment it was last seen."""

from __future__ import annotations

from certctl.store.db import Session

LIVE = "interval '30 seconds'"
KEPT = "interval '1 hour'"


async def beat(session: Session, replica_id: str, kind: str) -> int:
    """Say that this process is alive, and how many of its kind are, itself included."""
    return int(
        await session.value(
            f"""WITH mine AS (
                    INSERT INTO replicas (id, kind, seen_at) VALUES (%(id)s, %(kind)s, now())
                    ON CONFLICT (id) DO UPDATE SET seen_at = now()),
                gone AS (
                    DELETE FROM replicas WHERE id <> %(id)s AND seen_at < now() - {KEPT})
                SELECT 1 + count(*) FROM replicas
                WHERE kind = %(kind)s AND id <> %(id)s AND seen_at > now() - {LIVE}""",
            id=replica_id,
            kind=kind,
        )
    )


async def leave(session: Session, replica_id: str) -> None:
    """This process counts no longer."""
    await session.run("DELETE FROM replicas WHERE id = %(id)s", id=replica_id)
