"""Roles: the built-in ones, and those that an installation makes for itself.

Nobody gives what they do not hold themselves, be it to a role or to an actor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from certctl.domain.access import EVERYTHING, ROLES, Actor, Grant, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid, NotAllowed, NotFound
from certctl.domain.ids import new_id
from certctl.services import audit
from certctl.services.access import IDENTITY
from certctl.services.platform import Platform
from certctl.store import roles, rows, signals
from certctl.store.db import Row, Session, Tx


async def every(on: Platform, actor: Actor) -> list[Row]:
    actor.everywhere(Permission.AUTH_ROLE_LIST)
    async with on.db.read() as session:
        return await roles.every(session)


async def get(on: Platform, actor: Actor, role_id: str) -> tuple[Row, list[Row]]:
    """A role, and what it permits."""
    actor.everywhere(Permission.AUTH_ROLE_LIST)
    async with on.db.read() as session:
        row = await roles.get(session, role_id)
        grants = await permissions_of(session, role_id)
    return row, [
        {
            "role_id": role_id,
            "permission_id": permission_id(grant.permission),
            "permission": str(grant.permission),
            **scope_words(grant.issuer_id, grant.profile_id),
        }
        for grant in grants
    ]


def permission_id(permission: Permission) -> str:
    """The established id: `p-` and the name with hyphens."""
    return "p-" + permission.replace(".", "-").replace("_", "-")


def scope_words(issuer_id: str | None, profile_id: str | None) -> dict[str, str | None]:
    """A place as the interface names it."""
    if issuer_id is not None:
        return {"scope_type": "issuer", "scope_id": issuer_id}
    if profile_id is not None:
        return {"scope_type": "profile", "scope_id": profile_id}
    return {"scope_type": "global", "scope_id": None}


async def create(on: Platform, actor: Actor, *, name: str, description: str) -> Row:
    """A role that permits nothing yet. Raises Conflict for a name that is taken."""
    actor.everywhere(Permission.AUTH_ROLE_CREATE)
    async with on.db.transaction() as tx:
        role_id = new_id("r", tx.now)
        await roles.insert(tx, role_id, {"name": name, "description": description})
        await _record(tx, actor, "role_created", role_id, name=name, description=description)
        return await roles.get(tx, role_id)


async def update(on: Platform, actor: Actor, role_id: str, *, changes: Mapping[str, Any]) -> Row:
    actor.everywhere(Permission.AUTH_ROLE_EDIT)
    async with on.db.transaction() as tx:
        before = await _own(tx, role_id)
        after = await roles.update(tx, role_id, changes)
        old = {name: before[name] for name in changes}
        await _record(tx, actor, "role_updated", role_id, before=old, after=dict(changes))
        return after


async def delete(on: Platform, actor: Actor, role_id: str) -> None:
    """Raises Conflict while an actor has the role."""
    actor.everywhere(Permission.AUTH_ROLE_DELETE)
    async with on.db.transaction() as tx:
        row = await _own(tx, role_id)
        used = await roles.uses(tx, role_id)
        if used:
            raise Conflict(f"role {role_id} is in use: {used} actors", counts={"actors": used})
        await roles.delete(tx, role_id)
        await _record(tx, actor, "role_deleted", role_id, before={"name": row["name"]})


async def permit(on: Platform, actor: Actor, role_id: str, grant: Grant) -> None:
    """Add a permission to a role.

    Raises:
        Invalid: for an issuer or a profile that is not. NotAllowed: for what the caller lacks.
    """
    actor.everywhere(Permission.AUTH_ROLE_EDIT)
    async with on.db.transaction() as tx:
        await _own(tx, role_id)
        await check_place(tx, issuer_id=grant.issuer_id, profile_id=grant.profile_id)
        check_held(actor, [grant], "this")
        await roles.permit(tx, role_id, [grant])
        await signals.wake(tx, IDENTITY)
        await _record(tx, actor, "role_permission_granted", role_id, **_words(grant))


async def forbid(on: Platform, actor: Actor, role_id: str, grant: Grant) -> None:
    """Take a permission from a role. Raises NotFound when it does not have it there."""
    actor.everywhere(Permission.AUTH_ROLE_EDIT)
    async with on.db.transaction() as tx:
        await _own(tx, role_id)
        if not await roles.forbid(tx, role_id, grant):
            raise NotFound(f"role {role_id} does not permit {grant.permission} there")
        await signals.wake(tx, IDENTITY)
        await _record(tx, actor, "role_permission_revoked", role_id, **_words(grant))


def _words(grant: Grant) -> dict[str, Any]:
    place = scope_words(grant.issuer_id, grant.profile_id)
    return {"permission": str(grant.permission), **place}


async def _record(tx: Tx, actor: Actor, action: str, role_id: str, **details: Any) -> None:
    await audit.record(tx, actor, action, on=("role", role_id), category=Category.AUTH, **details)


async def _own(tx: Tx, role_id: str) -> Row:
    row = await roles.lock(tx, role_id)
    if row["built_in"]:
        raise Conflict(f"role {role_id} is built in; make one of your own")
    return row


@asynccontextmanager
async def administered(on: Platform, tx: Tx) -> AsyncIterator[None]:
    """What is done inside leaves an administrator, and one for good if there was one.

    Raises:
        Conflict: when it does not.
    """
    await roles.lock_administration(tx)
    breakglass = on.terms.people.breakglass
    before = await roles.administrators(tx, breakglass=breakglass)
    yield
    after = await roles.administrators(tx, breakglass=breakglass)
    if any(before[one] and not after[one] for one in ("one", "one_for_good")) and not any(
        key.admin for key in on.environment_keys
    ):
        raise Conflict("this would remove the last administrator; make another one first")


async def check_place(tx: Tx, *, issuer_id: str | None, profile_id: str | None) -> None:
    """Raises Invalid naming `scope_id` for an issuer or a profile that is not."""
    fields = {"issuer_id": rows.ISSUERS, "profile_id": rows.PROFILES}
    values = {"issuer_id": issuer_id, "profile_id": profile_id}
    given = {name: table for name, table in fields.items() if values[name] is not None}
    for name in await rows.dangling(tx, given, values, within=EVERYTHING):
        noun = given[name].noun
        raise Invalid(f"scope_id: {noun} {values[name]} does not exist", field="scope_id")


async def check_role(
    tx: Tx,
    actor: Actor,
    role_id: str,
    *,
    issuer_id: str | None = None,
    profile_id: str | None = None,
    field: str,
) -> None:
    """Raises Invalid naming `field` for a role that is not, NotAllowed for one that permits more
    at that place than the caller may."""
    try:
        await roles.get(tx, role_id)
    except NotFound:
        raise Invalid(f"{field}: role {role_id} does not exist", field=field) from None
    of_role = await permissions_of(tx, role_id)
    there = (each.within(issuer_id=issuer_id, profile_id=profile_id) for each in of_role)
    check_held(actor, filter(None, there), f"role {role_id}")


async def permissions_of(session: Session, role_id: str) -> list[Grant]:
    """What a role permits, built in or not."""
    if role_id in ROLES:
        return [Grant(each) for each in sorted(ROLES[role_id])]
    return [
        Grant(Permission(row["permission"]), row["issuer_id"], row["profile_id"])
        for row in await roles.permissions(session, role_id)
        if row["permission"] in Permission.__members__.values()
    ]


def check_held(actor: Actor, grants: Iterable[Grant], what: str) -> None:
    """Raises NotAllowed for the first grant that the actor does not hold."""
    for grant in grants:
        if not actor.holds(grant):
            raise NotAllowed(
                f"{what} permits {grant.permission}, which you do not hold there yourself"
            )
