"""Bearer secrets: made once, kept as hashes, exchanged for actors."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from certctl.domain.access import (
    ROLES,
    Actor,
    ActorType,
    Grant,
    Permission,
    actor_with_roles,
    granted,
)
from certctl.domain.errors import Unauthenticated
from certctl.services.platform import EnvironmentKey, People, Platform
from certctl.store import access, agent_certificates, keys, roles, sessions, signals
from certctl.store.db import Row

# The prefix tells a person, and a scanner of leaked secrets, what was found.
API_KEY: Final = "certctl_key_"
AGENT_KEY: Final = "certctl_agent_"
ENROLMENT_TOKEN: Final = "certctl_enrol_"  # noqa: S105
IDENTITY: Final = "identity"
REMEMBERED: Final = timedelta(seconds=10)
MOST_REMEMBERED: Final = 20_000
USE_NOTED: Final = timedelta(minutes=1)  # a session's use is written down no more often
BACK_CHANNEL: Final = "back_channel"
LONGEST_AGENT: Final = 512


@dataclass(frozen=True, repr=False)
class Secret:
    """A secret of 256 random bits; only `hash` is stored."""

    text: str
    hash: bytes


def make_secret(prefix: str) -> Secret:
    text = prefix + secrets.token_urlsafe(32)
    return Secret(text, secret_hash(text))


def secret_hash(text: str) -> bytes:
    """SHA-256; a slow hash would add nothing to 256 random bits."""
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True)
class _Known:
    """An actor, the key that proved it, and until when that holds without another look."""

    actor: Actor
    key_id: str | None
    until: datetime


@dataclass(frozen=True)
class SignedIn:
    """A person by their browser session, and the SHA-256 of its CSRF token."""

    actor: Actor
    csrf_hash: bytes


def check_live(
    row: Row,
    now: datetime,
    *,
    people: People,
    address: str | None,
    user_agent: str,
) -> None:
    """Raises Unauthenticated, with the cause, unless the session in `row` opens something."""
    if not row["user_is_active"]:
        raise _over("invalid_token")
    if row["revoked_at"] is not None:
        logged_out = row["revoked_because"] == BACK_CHANNEL
        raise _over("back_channel_revoked" if logged_out else "invalid_token")
    if row["absolute_expires_at"] <= now:
        raise _over("absolute_timeout")
    if row["last_seen_at"] + people.session_idle <= now:
        raise _over("idle_timeout")
    if people.session_bind_ip and row["ip_address"] != address:
        raise _over("invalid_token")
    if people.session_bind_user_agent and row["user_agent"] != user_agent[:LONGEST_AGENT]:
        raise _over("invalid_token")


def _over(cause: str) -> Unauthenticated:
    return Unauthenticated("the session is over; sign in again", cause=cause)


async def signed_in(on: Platform, token: str, *, address: str | None, user_agent: str) -> SignedIn:
    """Whose browser session the cookie `token` is.

    Raises:
        Unauthenticated: with the cause, for a session that is not or is over.
    """
    async with on.db.read() as session:
        row = await sessions.by_hash(session, secret_hash(token))
        if row is None:
            raise _over("invalid_token")
        check_live(row, on.clock(), people=on.terms.people, address=address, user_agent=user_agent)
        await sessions.note_use(session, row["id"], at_most_every=USE_NOTED)
        held = await roles.grants_of(session, ActorType.USER, row["user_id"])
    role_ids = tuple(dict.fromkeys(each["role_id"] for each in held))
    actor = Actor(
        row["user_id"],
        ActorType.USER,
        role_ids,
        granted(grants_in(held)),
        session_id=row["id"],
    )
    return SignedIn(actor, bytes(row["csrf_hash"]))


class Authenticator:
    """Turns a bearer secret into an actor: environment keys first, then the database.

    What was found is remembered for seconds, and forgotten at once when any replica changes keys,
    roles or credentials: the change's own transaction says so. While this process cannot hear
    that, it looks each time.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._known: dict[bytes, _Known] = {}
        self._generation = 0
        self._uses: dict[str, datetime] = {}
        platform.signals.subscribe(IDENTITY, self._forget)

    async def __call__(self, bearer: str) -> Actor | None:
        """The actor, or None for a secret that is unknown, revoked or expired."""
        digest = secret_hash(bearer)
        known = self._known.get(digest)
        now = self._platform.clock()
        if known is None or known.until <= now or not self._platform.signals.hears:
            known = await self._find(digest, self._look_up(digest, bearer, now))
        if known is None:
            return None
        if known.key_id is not None:
            self._uses[known.key_id] = now
        return known.actor

    async def by_certificate(self, cert_der: bytes) -> Actor | None:
        """The agent whose client certificate this is; TLS has proved that it holds the key."""
        digest = hashlib.sha256(cert_der).digest()
        known = self._known.get(digest)
        now = self._platform.clock()
        if known is None or known.until <= now or not self._platform.signals.hears:
            known = await self._find(digest, self._certificate(digest, now))
        return known.actor if known else None

    async def by_session(self, token: str, *, address: str | None, user_agent: str) -> SignedIn:
        """As `signed_in`: looked up each time, so that what ends a session ends it at once."""
        return await signed_in(self._platform, token, address=address, user_agent=user_agent)

    async def note_uses(self) -> None:
        """Write down when keys were last used: one statement for all since the last time."""
        uses, self._uses = self._uses, {}
        if uses:
            async with self._platform.db.read() as session:
                await keys.note_uses(session, uses)

    def _forget(self) -> None:
        self._generation += 1
        self._known.clear()

    async def _find(self, digest: bytes, look: Awaitable[_Known | None]) -> _Known | None:
        """What a look finds, remembered unless something has changed meanwhile."""
        generation = self._generation
        found = await look
        if found is not None and self._platform.signals.hears and generation == self._generation:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[digest] = found
        return found

    async def _look_up(self, digest: bytes, bearer: str, now: datetime) -> _Known | None:
        named = environment_key(self._platform.environment_keys, digest)
        if named is not None:
            return await self._key(named.name, now, baseline=named.baseline)
        if bearer.startswith(AGENT_KEY):
            return await self._agent(digest, now)
        async with self._platform.db.read() as session:
            row = await keys.by_hash(session, digest)
        if row is None:
            return None
        return await self._key(row["name"], now, key=row)

    async def _key(
        self, name: str, now: datetime, *, key: Row | None = None, baseline: tuple[str, ...] = ()
    ) -> _Known:
        async with self._platform.db.read() as session:
            rows = await roles.grants_of(session, ActorType.API_KEY, name)
        ends = [row["expires_at"] for row in rows] + ([key["expires_at"]] if key else [])
        until = min([now + REMEMBERED, *filter(None, ends)])
        held = tuple(dict.fromkeys((*baseline, *(row["role_id"] for row in rows))))
        grants = [Grant(each) for role in baseline for each in ROLES[role]] + grants_in(rows)
        actor = Actor(name, ActorType.API_KEY, held, granted(grants))
        return _Known(actor, key["id"] if key else None, until)

    async def _agent(self, digest: bytes, now: datetime) -> _Known | None:
        async with self._platform.db.transaction() as tx:
            row = await access.agent_by_credential(tx, digest)
            if row is not None and row["is_next"]:
                await access.promote_credential(tx, row["id"])
                await signals.wake(tx, IDENTITY)
        if row is None:
            return None
        return _Known(_agent(row["id"]), None, now + REMEMBERED)

    async def _certificate(self, digest: bytes, now: datetime) -> _Known | None:
        async with self._platform.db.read() as session:
            row = await agent_certificates.live(session, digest.hex())
        if row is None:
            return None
        return _Known(_agent(row["agent_id"]), None, min(now + REMEMBERED, row["not_after"]))


def _agent(agent_id: str) -> Actor:
    return actor_with_roles(agent_id, ("r-agent",), kind=ActorType.AGENT, agent_id=agent_id)


def environment_key(known: Iterable[EnvironmentKey], digest: bytes) -> EnvironmentKey | None:
    """The key of the environment with this hash."""
    found = None
    for key in known:  # no early end: the time tells nothing
        if hmac.compare_digest(key.hash, digest):
            found = key
    return found


def grants_in(rows: Iterable[Row]) -> list[Grant]:
    """What role assignments, as the store gives them, add up to. A permission that this release
    does not know grants nothing."""
    grants: list[Grant] = []
    for row in rows:
        if row["role_id"] in ROLES:
            of_role = [Grant(each) for each in ROLES[row["role_id"]]]
        elif row["permission"] in Permission.__members__.values():
            permission = Permission(row["permission"])
            of_role = [Grant(permission, row["of_issuer_id"], row["of_profile_id"])]
        else:
            continue
        place = {"issuer_id": row["issuer_id"], "profile_id": row["profile_id"]}
        grants += filter(None, (each.within(**place) for each in of_role))
    return grants


def with_request(actor: Actor, *, address: str | None, request_id: str) -> Actor:
    """The actor together with where the request came from, for the audit trail."""
    return replace(actor, address=address, request_id=request_id)


def sign_in_settings(on: Platform, actor: Actor) -> Mapping[str, str]:
    """The settings of signing in that are in force, by variable."""
    actor.everywhere(Permission.AUTH_ROLE_ASSIGN)
    return on.terms.sign_in_settings
