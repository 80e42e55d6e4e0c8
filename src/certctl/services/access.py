"""Bearer secrets: made once, kept as hashes, exchanged for actors."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from certctl.domain.access import ROLES, Actor, ActorType, actor_with_roles, system
from certctl.domain.audit import Category
from certctl.domain.ids import new_id
from certctl.services import audit
from certctl.services.platform import Platform
from certctl.store import access

# The prefix tells a person, and a scanner of leaked secrets, what was found.
API_KEY: Final = "certctl_key_"
AGENT_KEY: Final = "certctl_agent_"
ENROLMENT_TOKEN: Final = "certctl_enrol_"  # noqa: S105


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
class EnvironmentKey:
    """One key of CERTCTL_API_KEYS_NAMED, already hashed."""

    name: str
    hash: bytes
    admin: bool


class Authenticator:
    """Turns a bearer secret into an actor: environment keys first, then the database."""

    def __init__(self, platform: Platform, environment_keys: Iterable[EnvironmentKey]) -> None:
        self._platform = platform
        self._environment_keys = tuple(environment_keys)

    async def __call__(self, bearer: str) -> Actor | None:
        """The actor, or None for a secret that is unknown, revoked or expired."""
        digest = secret_hash(bearer)
        actor = self._named(digest)
        if actor is not None:
            return actor
        if bearer.startswith(AGENT_KEY):
            return await self._agent(digest)
        async with self._platform.db.read() as session:
            row = await access.api_key(session, digest)
        if row is None:
            return None
        return actor_with_roles(row["name"], tuple(r for r in row["roles"] if r in ROLES))

    def _named(self, digest: bytes) -> Actor | None:
        found = None
        for key in self._environment_keys:  # no early end: the time tells nothing
            if hmac.compare_digest(key.hash, digest):
                found = actor_with_roles(key.name, ("r-admin" if key.admin else "r-viewer",))
        return found

    async def _agent(self, digest: bytes) -> Actor | None:
        async with self._platform.db.read() as session:
            row = await access.agent_by_credential(session, digest)
        if row is None:
            return None
        return actor_with_roles(row["id"], ("r-agent",), kind=ActorType.AGENT, agent_id=row["id"])


def with_request(actor: Actor, *, address: str | None, request_id: str) -> Actor:
    """The actor together with where the request came from, for the audit trail."""
    return replace(actor, address=address, request_id=request_id)


async def make_first_admin(on: Platform, hand_over: Callable[[str], None]) -> None:
    """The first administrator's key, unless one exists already.

    It is handed over before it counts: a key that nobody has seen would lock everybody out.
    """
    secret = make_secret(API_KEY)
    async with on.db.transaction() as tx:
        if await access.any_admin_key(tx):
            return
        key_id = new_id("ak", tx.now)
        actor = system("first-start")
        await access.insert_api_key(
            tx, key_id, name="admin", key_hash=secret.hash, roles=["r-admin"], created_by=actor.id
        )
        await audit.record(
            tx,
            actor,
            "api_key_created",
            on=("api_key", key_id),
            category=Category.AUTH,
            name="admin",
            roles=["r-admin"],
        )
        hand_over(secret.text)
