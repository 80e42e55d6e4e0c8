"""Whether an issuer can issue, and the CA that a new issuer of the built-in kind needs."""

from __future__ import annotations

from certctl.domain.access import Actor, Permission
from certctl.services import authority
from certctl.services.platform import Platform
from certctl.store import rows


async def check(on: Platform, actor: Actor, issuer_id: str) -> None:
    """Raises Unavailable, Refused or Conflict in words when the issuer could not issue now."""
    async with on.db.read() as session:
        await rows.get(session, rows.ISSUERS, issuer_id, within=actor.scope(Permission.ISSUER_EDIT))
        opened = await authority.open_issuer(on, session, issuer_id)
    await opened.issuer.check()
