"""API keys: made, rotated with overlap, revoked, and given roles.

A key's name is the actor; while it is rotated, two secrets are of that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from certctl.domain.access import Actor, ActorType, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid, NotFound
from certctl.domain.ids import new_id
from certctl.services import audit
from certctl.services.access import API_KEY, IDENTITY, grants_in, make_secret
from certctl.services.platform import Platform
from certctl.services.roles import (
    administered,
    check_held,
    check_place,
    check_role,
    scope_words,
)
from certctl.store import keys, roles, signals, users
from certctl.store.db import Row, Tx

OVERLAP: Final = timedelta(days=1)
LONGEST_OVERLAP: Final = timedelta(days=30)
KEY: Final = ActorType.API_KEY
NOUN: Final = {KEY: "api_key", ActorType.USER: "user"}


async def every(on: Platform, actor: Actor) -> list[Row]:
    """Each name with its live keys and its roles; those of the environment without their keys.
    Who has looked is audited."""
    actor.everywhere(Permission.AUTH_KEY_LIST)
    named: dict[str, Row] = {}
    for key in on.environment_keys:
        named[key.name] = _named(key.name, "environment", key.baseline)
    async with on.db.transaction() as tx:
        for row in await keys.live(tx):
            held = named.setdefault(row["name"], _named(row["name"], "database", ()))
            held["keys"].append({name: row[name] for name in row if name != "name"})
        for row in await roles.assignments(tx, KEY):
            if row["actor_id"] in named:
                named[row["actor_id"]]["roles"].append(_assignment(row))
        await audit.record(
            tx,
            actor,
            "api_keys_listed",
            on=("api_key", "all"),
            category=Category.AUTH,
            count=len(named),
        )
    for each in named.values():
        each["role_ids"] = list(dict.fromkeys(role["role_id"] for role in each["roles"]))
    return [named[name] for name in sorted(named)]


def _named(name: str, source: str, baseline: Sequence[str]) -> Row:
    given = [{"role_id": role, "scope_type": "global", "scope_id": None} for role in baseline]
    return {
        "actor_id": name,
        "actor_type": str(KEY),
        "source": source,
        "roles": [{**each, "expires_at": None, "granted_by": "environment"} for each in given],
        "keys": [],
    }


def _assignment(row: Row) -> Row:
    return {
        "role_id": row["role_id"],
        **scope_words(row["issuer_id"], row["profile_id"]),
        "expires_at": row["expires_at"],
        "granted_by": row["granted_by"],
    }


async def create(
    on: Platform,
    actor: Actor,
    name: str,
    *,
    role_ids: Sequence[str],
    expires_at: datetime | None,
) -> Row:
    """A new key, whose secret is in the answer and nowhere else.

    Raises:
        Conflict: the name is taken. NotAllowed: a role permits more than the caller may.
    """
    actor.everywhere(Permission.AUTH_KEY_CREATE)
    async with on.db.transaction() as tx:
        _check_future(tx, expires_at)
        await roles.lock_administration(tx)
        if _of_environment(on, name) or await keys.lock_live(tx, name):
            raise Conflict(f"name: there is a key {name}; rotate it instead", field="name")
        if await users.exists(tx, name):
            raise Conflict(f"name: {name} is a person", field="name")
        # Roles that an earlier key of this name had are not inherited.
        await roles.unassign_all(tx, KEY, name)
        for role_id in dict.fromkeys(role_ids):
            await check_role(tx, actor, role_id, issuer_id=None, profile_id=None, field="role_ids")
            await roles.assign(tx, KEY, name, role_id=role_id, granted_by=actor.id)
        made = await insert(tx, actor, name, expires_at=expires_at)
        await audit.record(
            tx,
            actor,
            "api_key_created",
            on=("api_key", name),
            category=Category.AUTH,
            key_id=made["id"],
            role_ids=list(role_ids),
            expires_at=expires_at,
        )
        return made


async def insert(tx: Tx, actor: Actor, name: str, *, expires_at: datetime | None = None) -> Row:
    """The row and the secret of a new key; what it may do is another matter."""
    secret = make_secret(API_KEY)
    key_id = new_id("ak", tx.now)
    await keys.insert(
        tx, key_id, name=name, key_hash=secret.hash, created_by=actor.id, expires_at=expires_at
    )
    await signals.wake(tx, IDENTITY)
    return {
        "id": key_id,
        "name": name,
        "key_value": secret.text,
        "created_at": tx.now,
        "expires_at": expires_at,
    }


async def rotate(
    on: Platform,
    actor: Actor,
    name: str,
    *,
    overlap: timedelta = OVERLAP,
    expires_at: datetime | None = None,
) -> Row:
    """Another secret for a name; those before it go on for the time of `overlap`.

    Raises:
        NotAllowed: for a key, other than the caller's own, that may do more than the caller.
        Conflict: when the last administrator's would have an end.
    """
    actor.everywhere(Permission.AUTH_KEY_ROTATE)
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise Invalid("overlap_seconds: at most 30 days", field="overlap_seconds")
    async with on.db.transaction() as tx:
        _check_future(tx, expires_at)
        async with administered(on, tx):
            await _locked(on, tx, name)
            if name != actor.id or actor.type is not KEY:
                check_held(actor, grants_in(await roles.grants_of(tx, KEY, name)), f"key {name}")
            made = await insert(tx, actor, name, expires_at=expires_at)
            await keys.end_all(tx, name, except_id=made["id"], at=tx.now + overlap)
        await audit.record(
            tx,
            actor,
            "api_key_rotated",
            on=("api_key", name),
            category=Category.AUTH,
            key_id=made["id"],
            overlap_seconds=overlap.total_seconds(),
            expires_at=expires_at,
        )
        return {**made, "previous_expires_at": tx.now + overlap}


async def revoke(on: Platform, actor: Actor, name: str) -> None:
    """Revoke every key of a name, and take its roles away.

    Raises:
        Conflict: for the last administrator.
    """
    actor.everywhere(Permission.AUTH_KEY_DELETE)
    async with on.db.transaction() as tx:
        async with administered(on, tx):
            await _locked(on, tx, name)
            count = await keys.revoke_all(tx, name)
            await roles.unassign_all(tx, KEY, name)
        await signals.wake(tx, IDENTITY)
        await audit.record(
            tx,
            actor,
            "api_key_revoked",
            on=("api_key", name),
            category=Category.AUTH,
            count=count,
        )


async def assign(
    on: Platform,
    actor: Actor,
    name: str,
    *,
    role_id: str,
    issuer_id: str | None = None,
    profile_id: str | None = None,
    expires_at: datetime | None = None,
) -> None:
    """Give a key or a person a role, for everything or for one issuer or profile.

    Raises:
        NotAllowed: when the role permits more there than the caller may. Conflict: when the last
            administrator would be one for a time only.
    """
    actor.everywhere(Permission.AUTH_ROLE_ASSIGN)
    async with on.db.transaction() as tx:
        _check_future(tx, expires_at)
        place = {"issuer_id": issuer_id, "profile_id": profile_id}
        async with administered(on, tx):
            kind = await _kind(on, tx, name)
            await check_place(tx, **place)
            await check_role(tx, actor, role_id, **place, field="role_id")
            await roles.assign(
                tx, kind, name, role_id=role_id, **place, expires_at=expires_at, granted_by=actor.id
            )
        await signals.wake(tx, IDENTITY)
        details = {"role_id": role_id, **place, "expires_at": expires_at}
        await audit.record(
            tx, actor, "role_assigned", on=(NOUN[kind], name), category=Category.AUTH, **details
        )


async def unassign(
    on: Platform,
    actor: Actor,
    name: str,
    *,
    role_id: str,
    issuer_id: str | None = None,
    profile_id: str | None = None,
) -> None:
    """Take a role away from a key or a person.

    Raises:
        NotFound: when it was not given there. Conflict: for the last administrator.
    """
    actor.everywhere(Permission.AUTH_ROLE_REVOKE)
    place = {"issuer_id": issuer_id, "profile_id": profile_id}
    async with on.db.transaction() as tx:
        async with administered(on, tx):
            kind = await _kind(on, tx, name)
            if not await roles.unassign(tx, kind, name, role_id=role_id, **place):
                raise NotFound(f"{name} does not have the role {role_id} there")
        await signals.wake(tx, IDENTITY)
        await audit.record(
            tx,
            actor,
            "role_unassigned",
            on=(NOUN[kind], name),
            category=Category.AUTH,
            role_id=role_id,
            **place,
        )


async def _kind(on: Platform, tx: Tx, name: str) -> ActorType:
    """Whether `name` is a person's id or a key's name. Raises NotFound when it is neither."""
    if await users.exists(tx, name):
        return ActorType.USER
    await _known(on, tx, name)
    return KEY


def _of_environment(on: Platform, name: str) -> bool:
    return any(key.name == name for key in on.environment_keys)


async def _locked(on: Platform, tx: Tx, name: str) -> None:
    if _of_environment(on, name):
        raise Conflict(f"key {name} is one of CERTCTL_API_KEYS_NAMED or CERTCTL_AUTH_SECRET")
    await _known(on, tx, name)


async def _known(on: Platform, tx: Tx, name: str) -> None:
    if not _of_environment(on, name) and not await keys.lock_live(tx, name):
        raise NotFound(f"key {name} does not exist")


def _check_future(tx: Tx, expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= tx.now:
        raise Invalid("expires_at is in the past", field="expires_at")
