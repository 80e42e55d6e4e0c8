"""`certctl serve`: the control plane in one process, with or without background work."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext, suppress
from datetime import timedelta
from functools import partial
from typing import Final

from certctl.boot import handover, keys, planes, tls, work
from certctl.boot.accepting import bind
from certctl.boot.listeners import Listener, listener
from certctl.boot.platform import Built, bring_up_to_date, build, database
from certctl.boot.seats import Seats, connections_for
from certctl.domain.errors import CertctlError
from certctl.pki import keys as pki_keys
from certctl.pki import x509
from certctl.services import authority, checkpoints, firststart, replicas, report, seeding, status
from certctl.services.access import Authenticator
from certctl.services.signing import SelfTest
from certctl.settings import Settings
from certctl.store import migrate
from certctl.web.app import Budgets, management_door
from certctl.web.front import FrontDoor, Rules
from certctl.web.limits import Limiter
from certctl.web.public.ops import PARTLY, Readiness

log = logging.getLogger("certctl.serve")
WORKER_AGE: Final = 60.0


async def serve(settings: Settings, *, work_here: bool) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        Unsafe, Unavailable: one sentence that names the setting and the mend.
    """
    keys.prepare_data_dir(settings.data_dir)
    stop = stop_signal()
    async with AsyncExitStack() as stack:
        management = stack.enter_context(
            bind(settings.server_host, settings.server_port, setting="CERTCTL_SERVER_PORT")
        )
        plain = stack.enter_context(_plain_socket(settings))
        conninfo = await stack.enter_async_context(database(settings, may_start=True))
        await bring_up_to_date(conninfo, settings.owner_url)
        built = await stack.enter_async_context(build(settings, conninfo))
        await first_start(built)
        certificate, anchors = await own_certificate(built), await own_anchors(built)
        context = tls.SwappableContext(*certificate, clients_pem=anchors)
        grace = settings.shutdown_grace.total_seconds()
        allowed = budgets(settings)
        authenticator = Authenticator(built.platform)
        door = front_door(built, authenticator, readiness(built, plain), allowed)
        server = listener(door, grace=grace, tls=context.listening, seats=seats(settings))
        running = asyncio.create_task(server.serve([management]))
        looping = [
            asyncio.create_task(_swap_own_certificate(built, context, anchors)),
            asyncio.create_task(_note_uses(authenticator)),
            asyncio.create_task(replicas.share(built.platform, allowed.share)),
            *_planes(settings, plain),
        ]
        working = []
        if work_here:
            working.append(asyncio.create_task(work.run_worker(built, stop)))
        log.info("serving on %s:%d", settings.server_host, settings.server_port)
        await _until_stopped(stop, server, [running, *looping, *working])
        built.platform.signals.release_all()
        await running
        await _end(looping, working)


def _plain_socket(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    """Bound here, so that a taken port is told at once, and connections wait while a plane is
    started again."""
    if not settings.pki_http_processes:
        return nullcontext()
    return bind(settings.pki_http_host, settings.pki_http_port, setting="CERTCTL_PKI_HTTP_PORT")


def _planes(settings: Settings, plain: socket.socket | None) -> list[asyncio.Task[None]]:
    if plain is None:
        return []
    grace = settings.shutdown_grace.total_seconds()
    return [
        asyncio.create_task(planes.keep_planes(plain, settings.pki_http_processes, grace=grace))
    ]


def front_door(
    built: Built, authenticator: Authenticator, ready: Readiness, allowed: Budgets
) -> FrontDoor:
    """What stands behind the management listener."""
    settings = built.settings
    return management_door(
        built.platform,
        authenticator,
        readiness=ready,
        budgets=allowed,
        auth_type=settings.auth_type,
        rules=Rules(settings.trusted_proxies, settings.request_timeout.total_seconds()),
        origins=frozenset(settings.cors_origins),
        status_on=built.relying,
    )


def seats(settings: Settings) -> Seats:
    """The connections that the management listener holds."""
    return Seats(
        most=connections_for(1),
        per_address=settings.max_connections_per_address,
        trusted=settings.trusted_proxies,
    )


def budgets(settings: Settings) -> Budgets:
    """The limiters of this process."""
    if not settings.rate_limit_enabled:
        return Budgets(None, None, None, settings.max_body_size)
    rate, burst = settings.rate_limit_rps, settings.rate_limit_burst
    per_minute = settings.ocsp_rate_limit_per_ip_min
    return Budgets(
        by_key=Limiter(
            rate=settings.rate_limit_per_user_rps or rate,
            burst=settings.rate_limit_per_user_burst or burst,
        ),
        by_address=Limiter(rate=rate, burst=burst),
        status_by_address=Limiter(rate=per_minute / 60, burst=per_minute),
        max_body=settings.max_body_size,
    )


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def first_start(built: Built) -> None:
    """Under a lock that replicas share: defaults, CAs, the first administrator."""
    settings = built.settings
    async with migrate.connect(built.conninfo) as connection, migrate.locked(connection):
        await firststart.defaults(built.platform)
        await seeding.first_cas(built.platform, _ca_files(settings))
        issuing_id = await authority.signing_authority_id(built.platform, firststart.ISSUER_ID)
        await authority.service_certificate(
            built.platform, issuing_id, "server", grace=timedelta(0)
        )
        await status.keep_fresh(built.platform)
        await checkpoints.ensure_key(built.platform)
        anchors = await own_anchors(built)
        await firststart.first_admin(
            built.platform,
            partial(handover.hand_over, settings),
        )
    handover.leave_client_files(settings, anchors)


def _ca_files(settings: Settings) -> seeding.Files | None:
    if settings.ca_cert_path is None or settings.ca_key_path is None:
        return None
    return seeding.Files(settings.ca_cert_path, settings.ca_key_path)


async def own_certificate(built: Built) -> tuple[str, str]:
    """Chain and key, PEM, of the management listener, by the CA that signs now."""
    settings = built.settings
    if settings.server_tls_cert_path and settings.server_tls_key_path:
        return tls.read_pair(settings.server_tls_cert_path, settings.server_tls_key_path)
    issuing_id = await authority.signing_authority_id(built.platform, firststart.ISSUER_ID)
    held = await authority.service_certificate(
        built.platform, issuing_id, "server", grace=settings.server_certificate_validity / 3
    )
    key = pki_keys.load_der(built.platform.data_key.unseal(held.sealed_key, held.key_place))
    return x509.chain_pem([held.cert_der, *held.chain]), pki_keys.to_pem(key)


async def own_anchors(built: Built) -> str:
    """The roots, PEM, that vouch for the management listener and for its clients."""
    anchors = await authority.trust_anchors(built.platform, firststart.ISSUER_ID)
    return x509.chain_pem(anchors)


async def _swap_own_certificate(built: Built, context: tls.SwappableContext, trusted: str) -> None:
    """Look every minute whether a newer certificate is to be served, or other roots than `trusted`
    vouch for it and for clients."""
    serving: tuple[str, str] | None = None
    while True:
        try:
            newest, anchors = await own_certificate(built), await own_anchors(built)
            if anchors != trusted:
                # Whoever is to believe the certificate finds its root first.
                handover.leave_client_files(built.settings, anchors)
            if (newest, anchors) != (serving, trusted):
                context.put(*newest, clients_pem=anchors)
            serving, trusted = newest, anchors
        except (CertctlError, OSError) as error:
            log.warning("the server certificate was not looked after: %s", error)
        await asyncio.sleep(60)


async def _note_uses(authenticator: Authenticator) -> None:
    """Write down every half minute, and at the end, when keys were last used."""
    try:
        while True:
            await asyncio.sleep(30)
            await _noted(authenticator)
    finally:
        await _noted(authenticator)


async def _noted(authenticator: Authenticator) -> None:
    try:
        await authenticator.note_uses()
    except CertctlError as error:
        log.warning("when keys were last used was not noted: %s", error.message)


def readiness(built: Built, plain: socket.socket | None) -> Readiness:
    """What `/ready` asks: database, migrations, worker, signer, and the planes of this server. A CA
    whose key is away is named; the server is unfit only when no CA can sign."""
    self_test = SelfTest(built.platform)

    async def ask() -> dict[str, str]:
        parts = dict.fromkeys(("db", "migrations", "worker", "signer"), "unknown")
        try:
            async with asyncio.timeout(5):
                age = await report.worker_age(built.platform)
                parts["db"] = "ok"
                alive = age is not None and age < WORKER_AGE
                parts["worker"] = "ok" if alive else "no worker has reported for a minute"
                pending = await migrate.pending(built.conninfo)
                parts["migrations"] = "pending" if pending else "ok"
                verdict = await self_test()
                partly = PARTLY if verdict.fit and verdict.away else ""
                parts["signer"] = partly + (str(verdict) or "no CA is active")
        except (CertctlError, TimeoutError):
            failing = next(name for name, state in parts.items() if state == "unknown")
            parts[failing] = "unavailable"
        if plain is not None:
            parts["plane"] = "ok" if await planes.answers(plain) else "no plane answers"
        return parts

    return ask


async def _until_stopped(
    stop: asyncio.Event, server: Listener, tasks: list[asyncio.Task[None]]
) -> None:
    """Wait for the stop, or for a task that ends although none should."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    waiting.cancel()
    server.should_exit = True
    for task in done - {waiting}:
        task.result()


async def _end(looping: list[asyncio.Task[None]], working: list[asyncio.Task[None]]) -> None:
    """The worker ends by itself once its jobs have."""
    for task in looping:
        task.cancel()
    for task in (*looping, *working):
        with suppress(asyncio.CancelledError):
            await task
