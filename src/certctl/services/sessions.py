"""Browser sessions: begun at a sign-in, listed, and ended."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from certctl.domain.access import Actor, ActorType, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import NotFound
from certctl.services import audit
from certctl.services.access import LONGEST_AGENT, secret_hash, with_request
from certctl.services.platform import Platform
from certctl.store import sessions
from certctl.store.db import Row, Tx


@dataclass(frozen=True)
class Caller:
    """Where a request without an actor comes from."""

    address: str | None
    user_agent: str
    request_id: str

    def as_actor(self, name: str, kind: ActorType = ActorType.ANONYMOUS) -> Actor:
        return self.with_request(Actor(name, kind))

    def with_request(self, actor: Actor) -> Actor:
        return with_request(actor, address=self.address, request_id=self.request_id)


@dataclass(frozen=True, repr=False)
class Opened:
    """What the browser gets of a new session; `lives` is in seconds."""

    token: str
    csrf: str
    lives: int


async def begin(
    on: Platform,
    tx: Tx,
    user_id: str,
    *,
    by: Literal["oidc", "breakglass"],
    caller: Caller,
    sid: str | None = None,
) -> Opened:
    """A session of this user. Both secrets have 256 random bits and are stored as hashes."""
    token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    lives = on.terms.people.session_absolute
    await sessions.insert(
        tx,
        {
            "id": f"ses-{secrets.token_urlsafe(16)}",
            "token_hash": secret_hash(token),
            "csrf_hash": secret_hash(csrf),
            "user_id": user_id,
            "signed_in_by": by,
            "oidc_sid": sid,
            "ip_address": caller.address,
            "user_agent": caller.user_agent[:LONGEST_AGENT],
            "absolute_expires_at": tx.now + lives,
        },
    )
    return Opened(token, csrf, int(lives.total_seconds()))


async def live(on: Platform, actor: Actor, wanted: Mapping[str, str]) -> list[Row]:
    """The caller's sessions, or those of `actor_id`. A program has none of its own: it sees all.

    Raises:
        NotAllowed: for others' sessions without `auth.session.list.all`.
    """
    actor.everywhere(Permission.AUTH_SESSION_LIST)
    whose = wanted.get("actor_id") or (actor.id if actor.type is ActorType.USER else None)
    if whose != actor.id:
        actor.everywhere(Permission.AUTH_SESSION_LIST_ALL)
    if wanted.get("actor_type", ActorType.USER) != ActorType.USER:
        return []
    async with on.db.read() as session:
        return await sessions.live(session, user_id=whose, idle=on.terms.people.session_idle)


async def revoke(on: Platform, actor: Actor, session_id: str) -> None:
    """Raises NotFound for a session that is not, is over, or is another's, unless the caller may
    see all."""
    actor.everywhere(Permission.AUTH_SESSION_REVOKE)
    async with on.db.transaction() as tx:
        row = await sessions.lock_live(tx, session_id, idle=on.terms.people.session_idle)
        if row["user_id"] != actor.id and not _sees_all(actor):
            raise NotFound(f"session {session_id} does not exist")
        await sessions.revoke(tx, session_id, because="revoked")
        await record(tx, actor, "session_revoked", session_id, user_id=row["user_id"])


def _sees_all(actor: Actor) -> bool:
    permission = Permission.AUTH_SESSION_LIST_ALL
    return actor.may(permission) and actor.scope(permission).everything


async def revoke_others(on: Platform, actor: Actor) -> int:
    """End the caller's sessions but the one that it comes by; how many there were."""
    actor.everywhere(Permission.AUTH_SESSION_REVOKE)
    async with on.db.transaction() as tx:
        ended = await sessions.revoke_of(
            tx, actor.id, because="revoked", except_id=actor.session_id
        )
        if ended:
            await audit.record(
                tx,
                actor,
                "sessions_revoked",
                on=("user", actor.id),
                category=Category.AUTH,
                sessions=ended,
            )
    return len(ended)


async def log_out(on: Platform, actor: Actor) -> None:
    """End the session that the caller comes by."""
    assert actor.session_id is not None
    async with on.db.transaction() as tx:
        await sessions.revoke(tx, actor.session_id, because="logout")
        await record(tx, actor, "logout", actor.session_id)


async def record(tx: Tx, actor: Actor, action: str, session_id: str, **details: Any) -> None:
    await audit.record(
        tx, actor, action, on=("session", session_id), category=Category.AUTH, **details
    )
