"""`certctl serve`: the control plane in one process, with or without background work."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from typing import Final

from certctl.boot import handover, keys, tls, work
from certctl.boot.listeners import Listener, bind, listener
from certctl.boot.platform import Built, bring_up_to_date, build, database
from certctl.boot.seats import Seats, connections_for
from certctl.domain.errors import CertctlError
from certctl.pki import keys as pki_keys
from certctl.pki import x509
from certctl.services import authority, checkpoints, firststart, replicas, report, status
from certctl.services.access import Authenticator
from certctl.settings import Settings
from certctl.store import migrate
from certctl.web.app import Budgets, management_door, pki_door
from certctl.web.front import FrontDoor, Rules
from certctl.web.limits import Limiter
from certctl.web.public.ops import Readiness

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
        plain = stack.enter_context(
            bind(settings.pki_http_host, settings.pki_http_port, setting="CERTCTL_PKI_HTTP_PORT")
        )
        conninfo = await stack.enter_async_context(database(settings, may_start=True))
        await bring_up_to_date(conninfo, settings.owner_url)
        built = await stack.enter_async_context(build(settings, conninfo))
        await first_start(built)
        certificate = await own_certificate(built)
        anchor = await authority.trust_anchor(built.platform, firststart.ISSUER_ID)
        context = tls.SwappableContext(*certificate, clients_pem=x509.pem(anchor))
        grace = settings.shutdown_grace.total_seconds()
        allowed = budgets(settings)
        authenticator = Authenticator(built.platform)
        door, status_door = doors(built, authenticator, readiness(built), allowed)
        at_https, at_http = seats(settings), seats(settings)
        servers = (
            (listener(door, grace=grace, tls=context.listening, seats=at_https), management),
            (listener(status_door, grace=grace, tls=None, seats=at_http), plain),
        )
        running = [asyncio.create_task(server.serve([sock])) for server, sock in servers]
        looping = [
            asyncio.create_task(_swap_own_certificate(built, context)),
            asyncio.create_task(_note_uses(authenticator)),
            asyncio.create_task(replicas.share(built.platform, allowed.share)),
        ]
        working = []
        if work_here:
            working.append(asyncio.create_task(work.run_worker(built, stop)))
        log.info("serving on %s:%d", settings.server_host, settings.server_port)
        await _until_stopped(
            stop, [server for server, _ in servers], [*running, *looping, *working]
        )
        built.platform.signals.release_all()
        await asyncio.gather(*running)
        await _end(looping, working)


def doors(
    built: Built, authenticator: Authenticator, ready: Readiness, allowed: Budgets
) -> tuple[FrontDoor, FrontDoor]:
    """What stands behind the management listener, and behind that of relying parties."""
    settings = built.settings
    rules = Rules(settings.trusted_proxies, settings.request_timeout.total_seconds())
    management = management_door(
        built.platform,
        authenticator,
        readiness=ready,
        budgets=allowed,
        auth_type=settings.auth_type,
        rules=rules,
        origins=frozenset(settings.cors_origins),
        status_on=built.relying,
    )
    return management, pki_door(built.relying, allowed, rules)


def seats(settings: Settings) -> Seats:
    """The connections that one of the two listeners holds."""
    return Seats(
        most=connections_for(2),
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
        await firststart.authorities(built.platform)
        issuing_id = await authority.signing_authority_id(built.platform, firststart.ISSUER_ID)
        await authority.service_certificate(
            built.platform, issuing_id, "server", grace=timedelta(0)
        )
        await status.keep_fresh(built.platform)
        await checkpoints.ensure_key(built.platform)
        anchor = x509.pem(await authority.trust_anchor(built.platform, firststart.ISSUER_ID))
        await firststart.first_admin(
            built.platform,
            partial(handover.hand_over, settings),
        )
    handover.leave_client_files(settings, anchor)


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


async def _swap_own_certificate(built: Built, context: tls.SwappableContext) -> None:
    """Look every minute whether a newer certificate is to be served."""
    serving: tuple[str, str] | None = None
    while True:
        try:
            newest = await own_certificate(built)
            if newest != serving:
                context.put(*newest)
                serving = newest
        except CertctlError as error:
            log.warning("the server certificate was not looked after: %s", error.message)
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


def readiness(built: Built) -> Readiness:
    """What `/ready` asks: database, migrations, worker, signer."""

    async def ask() -> dict[str, str]:
        parts = dict.fromkeys(("db", "migrations", "worker", "signer"), "unknown")
        try:
            async with asyncio.timeout(3):
                age = await report.worker_age(built.platform)
                parts["db"] = "ok"
                alive = age is not None and age < WORKER_AGE
                parts["worker"] = "ok" if alive else "no worker has reported for a minute"
                pending = await migrate.pending(built.conninfo)
                parts["migrations"] = "pending" if pending else "ok"
                await authority.self_test(built.platform, firststart.ISSUER_ID)
                parts["signer"] = "ok"
        except (CertctlError, TimeoutError):
            failing = next(name for name, state in parts.items() if state == "unknown")
            parts[failing] = "unavailable"
        return parts

    return ask


async def _until_stopped(
    stop: asyncio.Event, servers: list[Listener], tasks: list[asyncio.Task[None]]
) -> None:
    """Wait for the stop, or for a task that ends although none should."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    waiting.cancel()
    for server in servers:
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
