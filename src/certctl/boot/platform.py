"""Builds what every process works with: database, queue, secrets, platform."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from procrastinate.app import App
from psycopg import AsyncConnection

from certctl.boot import keys
from certctl.boot.key_homes import key_homes
from certctl.connectors import catalog
from certctl.connectors.notifier import Notifier
from certctl.connectors.reach import Reach
from certctl.connectors.signers.sealed import SealedSigners
from certctl.domain.errors import Invalid, Unavailable, Unsafe
from certctl.jobs import tasks
from certctl.services import sealing
from certctl.services.access import secret_hash
from certctl.services.platform import EnvironmentKey, People, Platform, Terms
from certctl.settings import Settings
from certctl.settings.effective import sign_in_settings
from certctl.store import grants, migrate, secrets
from certctl.store.db import Database
from certctl.store.embedded import EmbeddedPostgres, recorded_conninfo
from certctl.store.key_watch import KeyWatch
from certctl.store.queue import Queue, make_app
from certctl.store.reach import unencrypted
from certctl.store.signals import Signals

log = logging.getLogger("certctl.database")


@dataclass(frozen=True)
class Built:
    """`relying` is the platform with connections of its own to the database, for the answers that
    relying parties wait for: no other request can take those, nor they the others'."""

    settings: Settings
    platform: Platform
    relying: Platform
    queue_app: App
    conninfo: str


def terms(settings: Settings) -> Terms:
    return Terms(
        public_url=settings.public_url,
        server_names=settings.server_name_list,
        job_lease=settings.job_lease,
        job_awaiting_csr_timeout=settings.job_awaiting_csr_timeout,
        job_awaiting_approval_timeout=settings.job_awaiting_approval_timeout,
        job_agent_offline_ttl=settings.job_agent_offline_ttl,
        agent_credential_renew_after=settings.agent_credential_renew_after,
        job_retention=settings.job_retention,
        notification_retention=settings.notification_retention,
        ari_timeout=settings.ari_timeout,
        renewal_concurrency=settings.renewal_concurrency,
        policy_block_severity=settings.policy_block_severity,
        digest_enabled=settings.digest_enabled,
        server_makes_keys=settings.keygen_mode == "server",
        crl_validity=settings.crl_validity,
        ocsp_validity=settings.ocsp_validity,
        responder_validity=settings.ocsp_responder_validity,
        responder_grace=settings.ocsp_responder_rotation_grace,
        server_certificate_validity=settings.server_certificate_validity,
        audit_checkpoint_interval=settings.audit_checkpoint_interval,
        audit_checkpoint_dir=settings.audit_checkpoint_dir,
        people=people(settings),
        sign_in_settings=sign_in_settings(settings),
    )


def people(settings: Settings) -> People:
    return People(
        session_idle=settings.session_idle_timeout,
        session_absolute=settings.session_absolute_timeout,
        session_same_site=settings.session_samesite,
        session_bind_ip=settings.session_bind_ip,
        session_bind_user_agent=settings.session_bind_user_agent,
        breakglass=settings.breakglass_enabled,
        breakglass_threshold=settings.breakglass_lockout_threshold,
        breakglass_lock=settings.breakglass_lockout_duration,
        breakglass_reset=settings.breakglass_lockout_reset_interval,
        first_admin_groups=settings.bootstrap_admin_groups,
        first_admin_provider_id=settings.bootstrap_oidc_provider_id,
        logout_token_age=timedelta(seconds=settings.oidc_bcl_max_age_seconds),
        login_binds_ip=settings.oidc_prelogin_require_ip,
        login_binds_user_agent=settings.oidc_prelogin_require_ua,
        user_retention=settings.user_retention_window,
    )


def reach(settings: Settings) -> Reach:
    """Where the control plane's own calls may go."""
    return Reach(settings.outbound_allow, settings.block_rfc1918_outbound)


def environment_keys(settings: Settings) -> tuple[EnvironmentKey, ...]:
    """The keys of the settings, hashed; those of CERTCTL_AUTH_SECRET are no administrators'."""
    named = [(key.name, key.key, key.admin) for key in settings.api_keys_named]
    legacy = [(f"legacy-key-{n}", key, False) for n, key in enumerate(settings.auth_secret)]
    return tuple(
        EnvironmentKey(name, secret_hash(key.get_secret_value()), admin)
        for name, key, admin in (*named, *legacy)
    )


def bootstrap_token_hash(settings: Settings) -> bytes | None:
    token = settings.bootstrap_token.get_secret_value()
    return secret_hash(token) if token else None


def notifiers(settings: Settings) -> dict[str, Notifier]:
    """The channels that the settings configure.

    Raises:
        Unsafe: naming the setting that does not suit.
    """
    url, secret = settings.webhook_url, settings.webhook_secret
    if not url.get_secret_value():
        return {}
    try:
        opened = catalog.open_notifier(
            "Webhook", {"url": url, "secret": secret}, reach=reach(settings)
        )
    except Invalid as error:
        name = (error.field or "url").rpartition(".")[2].upper()
        raise Unsafe(f"CERTCTL_WEBHOOK_{name}: {error.message.partition(': ')[2]}") from None
    return {"Webhook": opened}


@asynccontextmanager
async def database(settings: Settings, *, may_start: bool) -> AsyncIterator[str]:
    """The connection URL: the operator's database, or the embedded one, started and watched.

    Raises:
        Unavailable: when there is no database and this process may not start one.
    """
    given = settings.database_url.get_secret_value()
    if given:
        yield given
        return
    if not may_start:
        yield recorded_conninfo(settings.data_dir)
        return
    keys.prepare_data_dir(settings.data_dir)
    embedded = EmbeddedPostgres(settings.data_dir)
    url = await asyncio.to_thread(embedded.start)
    watch = asyncio.create_task(embedded.watch())
    try:
        yield url
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await asyncio.to_thread(embedded.stop)


@asynccontextmanager
async def running_or_started(settings: Settings) -> AsyncIterator[str]:
    """The database of a server that runs, or else started for the time of this command."""
    may_start = not await _answers(settings)
    async with database(settings, may_start=may_start) as conninfo:
        yield conninfo


async def _answers(settings: Settings) -> bool:
    try:
        async with (
            database(settings, may_start=False) as conninfo,
            migrate.connect(conninfo),
        ):
            return True
    except Unavailable:
        return False


async def bring_up_to_date(conninfo: str, owner: str = "") -> list[int]:
    """Migrate the schema and the queue's tables; the numbers of the migrations applied.

    With `owner`, the URL of the role that owns the tables, that role does it and gives the role of
    `conninfo` what the server needs and no more. Without it, a role that owns nothing finds
    everything done.

    Raises:
        Unavailable, Unsafe: as `migrate`; when the server's role can change the audit trail; when
            it owns nothing and something is to be done.
    """
    async with migrate.connect(conninfo) as connection:
        role = await grants.identity(connection)
        if not owner and await grants.is_guest(connection):
            await _check_done(connection, conninfo)
            return []
    async with _of_the_owner(bool(owner)):
        applied = await migrate.migrate(owner or conninfo)
        async with migrate.connect(owner or conninfo) as connection, migrate.locked(connection):
            await migrate.install_queue(connection)
            if owner:
                await grants.grant(connection, role)
    return applied


async def _check_done(connection: AsyncConnection[Any], conninfo: str) -> None:
    if await migrate.pending(conninfo) or not await migrate.is_queue_current(connection):
        raise Unsafe(
            "the schema is older than this certctl, and the role of CERTCTL_DATABASE_URL does not "
            "own it: run `certctl migrate` with CERTCTL_DATABASE_OWNER_URL"
        )


@asynccontextmanager
async def _of_the_owner(is_owner: bool) -> AsyncIterator[None]:
    """Errors about the owner's URL name its setting."""
    try:
        yield
    except (Unavailable, Unsafe) as error:
        if not is_owner:
            raise
        words = error.message.replace("CERTCTL_DATABASE_URL", "CERTCTL_DATABASE_OWNER_URL")
        raise type(error)(words) from error


@asynccontextmanager
async def build(settings: Settings, conninfo: str) -> AsyncIterator[Built]:
    """An open platform on a migrated database."""
    async with AsyncExitStack() as stack:
        reserved = max(1, settings.database_max_conns // 5)
        db = await _opened(stack, conninfo, settings.database_max_conns - reserved)
        apart = await _opened(stack, conninfo, reserved)
        async with db.read() as session:
            if warning := unencrypted(session.connection):
                log.warning(warning)
            empty = await secrets.is_empty(session)
        phrase = keys.passphrase(settings, database_is_empty=empty)
        ring = await sealing.open_keyring(db, phrase)
        watch = KeyWatch(
            conninfo, lambda: ring.current.id, reload=partial(sealing.refresh, ring=ring)
        )
        stack.push_async_callback(_end, await watch.start())
        queue_app = make_app(conninfo, max_size=max(4, settings.database_max_conns // 4))
        await queue_app.open_async()
        stack.push_async_callback(queue_app.close_async)
        signals = Signals(conninfo)
        listening = asyncio.create_task(signals.listen())
        stack.push_async_callback(_end, listening)
        platform = Platform(
            db=db,
            queue=Queue(queue_app),
            signals=signals,
            clock=lambda: datetime.now(UTC),
            random=random.random,
            data_key=ring,
            signer=SealedSigners(ring),
            key_homes=key_homes(settings),
            notifiers=notifiers(settings),
            environment_keys=environment_keys(settings),
            bootstrap_token_hash=bootstrap_token_hash(settings),
            reach=reach(settings),
            terms=terms(settings),
        )
        tasks.register(
            queue_app, platform, renewal_interval=settings.scheduler_renewal_check_interval
        )
        yield Built(settings, platform, replace(platform, db=apart), queue_app, conninfo)


async def _opened(stack: AsyncExitStack, conninfo: str, most: int) -> Database:
    db = Database(conninfo, max_size=most)
    await db.open()
    stack.push_async_callback(db.close)
    return db


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
