"""The break-glass password: a way in for people while their provider is away.

Off unless the operator turns it on. Every attempt costs one Argon2id hash, whoever is named, and
is audited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from certctl.domain.access import Actor, ActorType, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid, NotFound, Unauthenticated, Unavailable
from certctl.services import audit, sessions
from certctl.services.access import grants_in
from certctl.services.platform import Platform
from certctl.services.roles import administered, check_held
from certctl.services.sessions import Caller, Opened
from certctl.store import breakglass, roles, users
from certctl.store import sessions as session_rows
from certctl.store.db import Row, Tx

T = TypeVar("T")
SHORTEST: Final = 12  # bytes
LONGEST: Final = 256
ARGON2: Final = PasswordHasher(
    time_cost=3, memory_cost=65_536, parallelism=4, hash_len=32, salt_len=16
)
# Of a password that nobody knows: what an unknown or locked name is compared with, so that the
# time tells nothing.
NOBODYS: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$5bs3slvQI0pcT5+/tar5MQ"
    "$FulOX+x6D1ODIw1+U9IgzmeCYlXEYQKK1fiv6nMshX4"
)
# Each hash takes 64 MiB; those that must wait longer than this are sent away.
HASHING: Final = ThreadPoolExecutor(2, thread_name_prefix="argon2")
PATIENCE: Final = 10.0  # seconds


async def log_in(on: Platform, user_id: str, password: str, *, caller: Caller) -> Opened:
    """A session for whoever knows the password.

    Raises:
        Unauthenticated: for a wrong password, and in the same words and time for whoever has none,
            is deactivated, or is locked out.
    """
    people = on.terms.people
    async with on.db.transaction() as tx:
        attempt = await breakglass.begin_attempt(
            tx,
            user_id,
            threshold=people.breakglass_threshold,
            lock_for=people.breakglass_lock,
            reset_after=people.breakglass_reset,
        )
    expected = attempt["password_hash"] if attempt else NOBODYS
    fits = await _fits(expected, password) and attempt is not None
    async with on.db.transaction() as tx:
        if fits and await breakglass.succeed(tx, user_id, expected):
            opened = await sessions.begin(on, tx, user_id, by="breakglass", caller=caller)
            actor = caller.as_actor(user_id, ActorType.USER)
            await _record(tx, actor, "breakglass_login", user_id)
            return opened
        why = "wrong_password" if attempt else "unknown_or_locked"
        failures = attempt["failure_count"] if attempt else None
        actor = caller.as_actor("anonymous")
        await _record(
            tx, actor, "breakglass_login_failed", user_id, reason=why, failure_count=failures
        )
    raise Unauthenticated("the user or the password is wrong, or the account is locked")


async def every(on: Platform, actor: Actor) -> list[Row]:
    actor.everywhere(Permission.AUTH_BREAKGLASS_ADMIN)
    async with on.db.read() as session:
        return await breakglass.every(session)


async def set_password(on: Platform, actor: Actor, user_id: str, password: str) -> Row:
    """Give somebody a password, or another one, which ends the sessions of the one before.

    Raises:
        Invalid: for a password of another length, and for nobody. Conflict: for who is deactivated.
        NotAllowed: for who may do more than the caller.
    """
    actor.everywhere(Permission.AUTH_BREAKGLASS_ADMIN)
    if not SHORTEST <= len(password.encode()) <= LONGEST:
        raise Invalid(f"password: {SHORTEST} to {LONGEST} bytes", field="password")
    hashed = await _hash(password)
    async with on.db.transaction() as tx:
        if not await users.exists(tx, user_id):
            raise Invalid(f"actor_id: user {user_id} does not exist", field="actor_id")
        row = await users.lock(tx, user_id)
        if row["deactivated_at"] is not None:
            raise Conflict(f"user {user_id} is deactivated")
        if (actor.type, actor.id) != (ActorType.USER, user_id):
            held = grants_in(await roles.grants_of(tx, ActorType.USER, user_id))
            check_held(actor, held, f"user {user_id}")
        await session_rows.revoke_of(
            tx,
            user_id,
            because="password_changed",
            signed_in_by="breakglass",
            except_id=actor.session_id,
        )
        await _record(tx, actor, "breakglass_password_set", user_id)
        return await breakglass.put(tx, user_id, hashed)


async def unlock(on: Platform, actor: Actor, user_id: str) -> None:
    actor.everywhere(Permission.AUTH_BREAKGLASS_ADMIN)
    async with on.db.transaction() as tx:
        if not await breakglass.unlock(tx, user_id):
            raise NotFound(f"user {user_id} has no break-glass password")
        await _record(tx, actor, "breakglass_unlocked", user_id)


async def remove(on: Platform, actor: Actor, user_id: str) -> None:
    """Take the password away, and end the sessions that it began.

    Raises:
        Conflict: when it is the last administrator's only way in.
    """
    actor.everywhere(Permission.AUTH_BREAKGLASS_ADMIN)
    async with on.db.transaction() as tx:
        async with administered(on, tx):
            if not await breakglass.remove(tx, user_id):
                raise NotFound(f"user {user_id} has no break-glass password")
        await session_rows.revoke_of(
            tx, user_id, because="password_removed", signed_in_by="breakglass"
        )
        await _record(tx, actor, "breakglass_removed", user_id)


async def _fits(expected: str, password: str) -> bool:
    """Whether this is the password; one of an impossible length costs the same time."""
    possible = SHORTEST <= len(password.encode()) <= LONGEST

    def compare() -> bool:
        try:
            return ARGON2.verify(expected, password if possible else "") and possible
        except (VerificationError, InvalidHashError):
            return False

    return await _in_turn(compare)


async def _hash(password: str) -> str:
    return await _in_turn(lambda: ARGON2.hash(password))


async def _in_turn(work: Callable[[], T]) -> T:
    try:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.get_running_loop().run_in_executor(HASHING, work)
    except TimeoutError:
        raise Unavailable("too many passwords are being checked; try again") from None


async def _record(tx: Tx, actor: Actor, action: str, user_id: str, **details: object) -> None:
    await audit.record(tx, actor, action, on=("user", user_id), category=Category.AUTH, **details)
