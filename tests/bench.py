"""`make bench`: figures as ratios within one run. The methods are in docs/performance.md."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg.conninfo import make_conninfo

from certctl.connectors.issuer import Order
from certctl.domain.access import actor_with_roles
from certctl.domain.listing import PageRequest
from certctl.domain.names import parse_names
from certctl.pki.x509 import read_csr
from certctl.services import authority, certificates, issue
from certctl.services.platform import Platform
from certctl.store import certificates as rows
from certctl.store.embedded import recorded_conninfo
from tests import bench_wrk
from tests.bench_audit import audit_rates
from tests.bench_crl import revocation_lists
from tests.bench_issue import a_csr, together
from tests.bench_million import million
from tests.bench_plane import revocation_plane
from tests.flows.system import System, until

ISSUED = 400
INVENTORY = 100_000
PAGES = 300
ADMIN = actor_with_roles("bench", ("r-admin",))


def report(what: str, figure: str, beside: str, ratio: float) -> None:
    print(f"{what:<46} {figure:<22} {beside:<42} {ratio:6.2f}x", flush=True)


async def issuance(on: Platform, tag: str = "bench") -> list[str]:
    """Certificates ordered, issued and stored a second, beside the CA's own work."""
    key = ec.generate_private_key(ec.SECP256R1())
    csrs = [(f"{tag}-{n}.test", a_csr(key, f"{tag}-{n}.test")) for n in range(ISSUED)]
    bare = await _signed_only(on, csrs)
    ids = []
    began = time.perf_counter()
    for group in range(0, ISSUED, 8):
        ids += await asyncio.gather(*(_one(on, n, c) for n, c in csrs[group : group + 8]))
    rate = ISSUED / (time.perf_counter() - began)
    beside = f"drafted, linted and signed only {bare:,.0f}/s"
    report("certificates issued and stored", f"{rate:,.0f}/s", beside, rate / bare)
    return ids


async def _signed_only(on: Platform, csrs: list[tuple[str, str]]) -> float:
    """The same without the database: drafted, linted and signed by the same CA."""
    async with on.db.read() as session:
        opened = await authority.open_issuer(on, session, "iss-local")
    orders = [
        Order(parse_names([name]), name, read_csr(csr).public_key, timedelta(days=90))
        for name, csr in csrs
    ]
    await opened.issuer.issue(orders[0])
    began = time.perf_counter()
    for order in orders:
        await opened.issuer.issue(order)
    return ISSUED / (time.perf_counter() - began)


async def _one(on: Platform, name: str, csr_pem: str) -> str:
    order = {
        "name": name,
        "common_name": name,
        "owner_id": "o-default",
        "team_id": "t-default",
        "issuer_id": "iss-local",
        "renewal_policy_id": "rp-default",
        "csr_pem": csr_pem,
    }
    certificate_id = str((await certificates.create(on, ADMIN, order=order))["id"])
    async with on.db.read() as session:
        job_id = await session.value(
            "SELECT id FROM jobs WHERE certificate_id = %(id)s", id=certificate_id
        )
    await issue.run(on, job_id)
    return certificate_id


async def inventory_page(on: Platform, system: System) -> None:
    """A page of 50 of 100,000 certificates: over HTTPS, by the service, and as one bare query."""
    await fill(on)
    async with on.db.read() as session:
        places = await session.all(
            "SELECT created_at, id FROM managed_certificates ORDER BY random() LIMIT 50"
        )

    async def bare() -> None:
        place = random.choice(places)
        async with on.db.read() as session:
            await session.all(
                f"""SELECT {rows.SHOWN} FROM managed_certificates c
                    WHERE (created_at, id COLLATE "C") > (%(created_at)s, %(id)s)
                    ORDER BY created_at, id COLLATE "C" LIMIT 50""",
                **place,
            )

    async def service() -> None:
        await certificates.page(
            on, ADMIN, _walk(random.choice(places)), filters={}, sort=None, fields=None
        )  # fmt: skip

    # Interleaved, so that each meets the same machine.
    times: dict[str, list[float]] = {"bare": [], "service": []}
    for _ in range(PAGES):
        for name, call in (("bare", bare), ("service", service)):
            times[name].append(await timed(call))
    median = {name: statistics.median(values) * 1000 for name, values in times.items()}
    walks = [f"/api/v1/certificates?per_page=50&cursor={_walk(each).cursor}" for each in places]
    median["https"] = await asyncio.to_thread(
        bench_wrk.median, f"https://127.0.0.1:{system.https}", walks, key=key_of(system)
    )
    beside = f"one bare query {median['bare']:.2f} ms"
    for name in ("service", "https"):
        figure = f"{median[name]:.2f} ms"
        what = f"page of 50 of {INVENTORY:,}, {name}"
        report(what, figure, beside, median[name] / median["bare"])


def _walk(place: dict[str, object]) -> PageRequest:
    from certctl.store.paging import make_cursor

    token = make_cursor({"cursor_value": place["created_at"], "id": place["id"]}, "id")
    return PageRequest(per_page=50, cursor=token)


async def timed(call: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began


async def fill(on: Platform) -> None:
    """An inventory of 100,000, as SQL makes it."""
    async with on.db.transaction() as tx:
        await tx.run(
            """INSERT INTO managed_certificates (id, name, common_name, sans, owner_id, team_id,
                   issuer_id, renewal_policy_id, certificate_profile_id, status, expires_at,
                   created_at)
               SELECT 'mc-' || n, 'inventory-' || n, n || '.example.test',
                   ARRAY[n || '.example.test'], 'o-default', 't-default', 'iss-local',
                   'rp-default', 'prof-default', 'Active', now() + interval '60 days',
                   now() - n * interval '1 second'
               FROM generate_series(1, %(count)s) n""",
            count=INVENTORY,
        )
    async with on.db.read() as session:
        await session.run("ANALYZE managed_certificates")


async def run(system: System) -> None:
    from certctl import settings as settings_
    from certctl.boot.platform import build

    conninfo = make_conninfo(recorded_conninfo(system.data))
    async with build(settings_.load(system.environment), conninfo) as built:
        await issuance(built.platform)
        await together(built.platform, system.environment, report)
        await inventory_page(built.platform, system)
        await audit_rates(built.platform, report)
        await revocation_lists(built.platform, system, report)
        await at_a_million(built.platform, system)
        await revocation_plane(built.platform, system.environment, report, folder=system.folder)


async def at_a_million(on: Platform, system: System) -> None:
    """On a database of its own accord: what the other figures left is removed."""
    async with on.db.transaction() as tx:
        await tx.run("SET LOCAL statement_timeout = 0")
        await tx.run("TRUNCATE managed_certificates CASCADE")
    base, key = f"https://127.0.0.1:{system.https}", key_of(system)

    async def https(path: str) -> float:
        return await asyncio.to_thread(bench_wrk.median, base, [path], key=key)

    await million(on, https, report)


def key_of(system: System) -> str:
    return (system.data / "admin.key").read_text().strip()


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="certctl-bench-"))
    system = System(folder)
    try:
        system.start_server("certctl", "serve", "--no-work", ready=False)
        until("the server to listen", system.answers)
        print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
        print(f"{'what':<46} {'figure':<22} {'beside':<42}  ratio")
        uvloop.run(run(system))
    finally:
        system.stop()
        system.remove()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
