"""The first administrator: a key at the first start, or by the operator's one-time token."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from certctl.domain.access import Actor, ActorType, system
from certctl.domain.audit import Category
from certctl.domain.errors import Gone, Unauthenticated
from certctl.services import audit, keys
from certctl.services.access import secret_hash
from certctl.services.platform import Platform
from certctl.store import keys as store
from certctl.store import roles
from certctl.store.db import Row, Session, Tx

ADMIN = "r-admin"


async def make_first_admin(on: Platform, hand_over: Callable[[str], None]) -> None:
    """The first administrator's key, unless one exists already.

    It is handed over before it counts: a key that nobody has seen would lock everybody out.
    """
    async with on.db.transaction() as tx:
        await roles.lock_administration(tx)
        if await _administered(on, tx):
            return
        made = await _make(tx, system("first-start"), "admin", "api_key_created")
        hand_over(made["key_value"])


async def is_available(on: Platform) -> bool:
    """Whether a bootstrap token is set, was not used, and no administrator exists."""
    if on.bootstrap_token_hash is None:
        return False
    async with on.db.read() as session:
        return not await _administered(on, session) and not await store.bootstrap_token_used(
            session, on.bootstrap_token_hash
        )


async def use(
    on: Platform, token: str, actor_name: str, *, address: str | None, request_id: str
) -> Row:
    """Exchange the bootstrap token for an administrator's key.

    Raises:
        Gone: when no token is set, it was used, or an administrator exists.
        Unauthenticated: for another token.
    """
    expected = on.bootstrap_token_hash
    if expected is None:
        raise Gone("bootstrap is closed: no CERTCTL_BOOTSTRAP_TOKEN is set")
    if not hmac.compare_digest(secret_hash(token), expected):
        raise Unauthenticated("the bootstrap token is not the one of CERTCTL_BOOTSTRAP_TOKEN")
    actor = Actor(actor_name, ActorType.API_KEY, address=address, request_id=request_id)
    async with on.db.transaction() as tx:
        await roles.lock_administration(tx)
        if await _administered(on, tx):
            raise Gone("bootstrap is closed: an administrator exists")
        if not await store.use_bootstrap_token(tx, expected, actor_name):
            raise Gone("bootstrap is closed: this token was used before; set another one")
        return await _make(tx, actor, actor_name, "bootstrap.consume")


async def _administered(on: Platform, session: Session) -> bool:
    in_environment = any(key.admin for key in on.environment_keys)
    found = await roles.administrators(session, breakglass=on.terms.people.breakglass)
    return in_environment or bool(found["one"])


async def _make(tx: Tx, actor: Actor, name: str, action: str) -> Row:
    # Whatever had this name before is over: it neither shares the key's name nor its roles.
    await store.revoke_all(tx, name)
    await roles.unassign_all(tx, ActorType.API_KEY, name)
    made = await keys.insert(tx, actor, name)
    await roles.assign(tx, ActorType.API_KEY, name, role_id=ADMIN, granted_by=actor.id)
    await audit.record(
        tx,
        actor,
        action,
        on=("api_key", name),
        category=Category.AUTH,
        key_id=made["id"],
        role_ids=[ADMIN],
    )
    return made
