"""People who have signed in: listed, shut out, and let in again."""

from __future__ import annotations

from certctl.domain.access import Actor, ActorType, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict
from certctl.services import audit
from certctl.services.platform import Platform
from certctl.services.roles import administered
from certctl.store import sessions, users
from certctl.store.db import Row, Tx


async def every(on: Platform, actor: Actor, *, provider_id: str | None) -> list[Row]:
    """Everybody, or those of one provider, with the ids of their roles."""
    actor.everywhere(Permission.AUTH_USER_READ)
    async with on.db.read() as session:
        return await users.every(session, provider_id=provider_id)


async def deactivate(on: Platform, actor: Actor, user_id: str) -> None:
    """Shut somebody out, and end their sessions; their roles stay for the day they return.

    Raises:
        Conflict: for oneself, and for the last administrator.
    """
    actor.everywhere(Permission.AUTH_USER_DEACTIVATE)
    if actor.type is ActorType.USER and actor.id == user_id:
        raise Conflict("this is you: somebody else must do it")
    async with on.db.transaction() as tx:
        async with administered(on, tx):
            before = await users.lock(tx, user_id)
            await users.set_active(tx, user_id, False)
        if before["deactivated_at"] is None:
            ended = await sessions.revoke_of(tx, user_id, because="deactivated")
            await audit.record(
                tx,
                actor,
                "user_deactivated",
                on=("user", user_id),
                category=Category.AUTH,
                sessions=ended,
            )


async def forget(on: Platform, tx: Tx, actor: Actor) -> None:
    """Blank name and address of people who have been deactivated for longer than the setting."""
    ids = await users.forget(tx, deactivated_before=tx.now - on.terms.people.user_retention)
    if not ids:
        return
    told = [audit.Event("user_forgotten", ("user", each), {}) for each in ids]
    await audit.record_many(tx, actor, told, category=Category.AUTH)


async def reactivate(on: Platform, actor: Actor, user_id: str) -> None:
    actor.everywhere(Permission.AUTH_USER_DEACTIVATE)
    async with on.db.transaction() as tx:
        before = await users.lock(tx, user_id)
        if before["deactivated_at"] is not None:
            await users.set_active(tx, user_id, True)
            await audit.record(
                tx, actor, "user_reactivated", on=("user", user_id), category=Category.AUTH
            )
