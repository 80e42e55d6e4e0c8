"""Whether an issuer can issue, and the CA that a new issuer of the built-in kind needs."""

from __future__ import annotations

from certctl.domain.access import Actor, Permission
from certctl.domain.audit import Category
from certctl.services import audit, authority
from certctl.services.platform import Platform
from certctl.store import rows


async def check(on: Platform, actor: Actor, issuer_id: str) -> None:
    """Raises Unavailable, Refused or Conflict in words when the issuer could not issue now. That
    it was asked is audited, since it reaches outside."""
    async with on.db.transaction() as tx:
        await rows.get(tx, rows.ISSUERS, issuer_id, within=actor.scope(Permission.ISSUER_EDIT))
        opened = await authority.open_issuer(on, tx, issuer_id)
        on_issuer = ("issuer", issuer_id)
        await audit.record(tx, actor, "issuer_tested", on=on_issuer, category=Category.CONFIG)
    await opened.issuer.check()
