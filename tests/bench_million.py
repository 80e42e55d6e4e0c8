"""The inventory at 10,000 and at 1,000,000: each figure beside the bare SQL, in one run."""

from __future__ import annotations

import asyncio
import resource
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from certctl.domain.access import ActorType, actor_with_roles
from certctl.domain.listing import PageRequest
from certctl.services import bulk, certificates, fleet
from certctl.services import statistics as numbers
from certctl.services.platform import Platform
from certctl.store import certificates as rows
from certctl.store import renewals
from certctl.wire import Heartbeat

ADMIN = actor_with_roles("bench", ("r-admin",))
SMALL, LARGE = 10_000, 1_000_000
DUE = 10_000
AGENTS = 1_000
ROUNDS = 60
Report = Callable[[str, str, str, float], None]
Call = Callable[[], Awaitable[Any]]
Https = Callable[[str], Awaitable[float]]


async def grow(on: Platform, first: int, last: int) -> None:
    """Certificates `first` to `last`, each with a live version on one of a thousand agents."""
    async with on.db.transaction() as tx:
        await tx.run("SET LOCAL statement_timeout = 0")
        await tx.run(
            """INSERT INTO managed_certificates (id, name, common_name, sans, environment, owner_id,
                   team_id, issuer_id, renewal_policy_id, certificate_profile_id, status,
                   expires_at, created_at, updated_at)
               SELECT 'mc-' || lpad(n::text, 8, '0'), 'shop-' || n, 'shop-' || n || '.example.test',
                   ARRAY['shop-' || n || '.example.test', 'www' || n %% 977 || '.example.org'],
                   (ARRAY['prod', 'stage', 'test'])[1 + n %% 3], 'o-default', 't-default',
                   'iss-local', 'rp-default', 'prof-default', 'Active',
                   now() + interval '40 days' + n * interval '3 seconds',
                   now() - n * interval '1 second', now() - n * interval '1 second'
               FROM generate_series(%(first)s::int, %(last)s) n""",
            first=first,
            last=last,
        )
        await tx.run(
            """INSERT INTO certificate_target_mappings (certificate_id, target_id)
               SELECT 'mc-' || lpad(n::text, 8, '0'), 'tgt-' || n %% %(agents)s
               FROM generate_series(%(first)s::int, %(last)s) n""",
            first=first,
            last=last,
            agents=AGENTS,
        )
        await tx.run(
            """INSERT INTO certificate_versions (id, certificate_id, agent_id, issuer_id,
                   serial_number, not_before, not_after, fingerprint_sha256, spki_sha256, sans,
                   pem_chain, key_algorithm, key_size)
               SELECT 'cv-' || n, c.id, 'ag-' || n %% %(agents)s, 'iss-local', to_hex(n + 65536),
                   c.expires_at - interval '90 days', c.expires_at, 'f' || n, 's' || n, c.sans,
                   'none', 'ECDSA', 256
               FROM generate_series(%(first)s::int, %(last)s) n
               JOIN managed_certificates c ON c.id = 'mc-' || lpad(n::text, 8, '0')""",
            first=first,
            last=last,
            agents=AGENTS,
        )
    await sql(on, "VACUUM (ANALYZE) managed_certificates")
    await sql(on, "VACUUM (ANALYZE) certificate_versions")
    await sql(on, "VACUUM (ANALYZE) certificate_target_mappings")


async def the_fleet(on: Platform) -> None:
    await sql(
        on,
        """INSERT INTO agents (id, name, credential_hash)
           SELECT 'ag-' || n, 'agent ' || n, n::text::bytea
           FROM generate_series(0, %(last)s) n""",
        last=AGENTS - 1,
    )
    await sql(
        on,
        """INSERT INTO deployment_targets (id, name, type, agent_id)
           SELECT 'tgt-' || n, 'nginx', 'NGINX', 'ag-' || n FROM generate_series(0, %(last)s) n""",
        last=AGENTS - 1,
    )


async def sql(on: Platform, statement: str, **values: Any) -> list[dict[str, Any]]:
    async with on.db.read() as session:
        await session.run("SET statement_timeout = 0")
        cursor = await session._execute(statement, values)
        await session.run("SET statement_timeout = '60s'")
        return await cursor.fetchall() if cursor.description else []


async def median(call: Call, times: int = ROUNDS) -> float:
    """Milliseconds."""
    await call()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


def lists(on: Platform) -> dict[str, tuple[str, Call]]:
    """Each list's path in the API, and as a bare query with the same rows."""

    def api(query: str) -> str:
        return f"/api/v1/certificates?per_page=50&{query}"

    def bare(where: str, order: str = "c.created_at, c.id") -> Call:
        async def call() -> None:
            async with on.db.read() as session:
                await session.all(
                    f"""SELECT {rows.SHOWN} FROM managed_certificates c WHERE {where}
                        ORDER BY {order} COLLATE "C" LIMIT 51"""
                )

        return call

    words = "certificate_words(c.name, c.sans) @@ '''www12'':*'::tsquery"
    return {
        "first page of a walk": (api("cursor="), bare("true")),
        "filter by environment": (
            api("cursor=&environment=stage"),
            bare("c.environment = 'stage'"),
        ),
        "sorted by expiry": (api("cursor=&sort=expiresAt"), bare("true", "c.expires_at, c.id")),
        "search by a word": (api("cursor=&search=www12"), bare(words)),
        "page by number, with its total": (api("page=3"), bare("true")),
    }


async def walk(on: Platform, pages: int = 100) -> float:
    """Milliseconds for a page, on a walk through the whole inventory from its middle."""
    request = PageRequest(per_page=50, cursor="")
    taken = []
    for _ in range(pages):
        began = time.perf_counter()
        page = await certificates.page(on, ADMIN, request, filters={}, sort=None, fields=None)
        taken.append(time.perf_counter() - began)
        request = PageRequest(per_page=50, cursor=page["next_cursor"])
    return statistics.median(taken) * 1000


async def scan(on: Platform) -> float:
    """Seconds of database time to find who is due."""
    began = time.perf_counter()
    last, found = "", 0
    while True:
        async with on.db.read() as session:
            ids = await renewals.candidates(session, after=last, limit=1000)
            found += len(await renewals.holdings(session, ids)) if ids else 0
        if len(ids) < 1000:
            break
        last = ids[-1]
    assert found >= DUE, found
    return time.perf_counter() - began


async def beats(on: Platform) -> float:
    """Heartbeats and polls of the whole fleet, a second."""
    actors = [
        actor_with_roles(f"ag-{n}", ("r-agent",), kind=ActorType.AGENT, agent_id=f"ag-{n}")
        for n in range(AGENTS)
    ]
    beat = Heartbeat(version="1.0", os="linux", ip_address="10.0.0.1")

    async def one(actor: Any) -> None:
        await fleet.heartbeat(on, actor, actor.agent_id, beat)
        await fleet.work(on, actor, actor.agent_id, wait=0, session="bench", has_left=stays)

    began = time.perf_counter()
    for group in range(0, AGENTS, 16):
        await asyncio.gather(*(one(actor) for actor in actors[group : group + 16]))
    return AGENTS / (time.perf_counter() - began)


async def stays() -> bool:
    return False


async def million(on: Platform, https: Https, report: Report) -> None:
    """`https` gives the median milliseconds of a GET."""
    await the_fleet(on)
    await grow(on, 1, SMALL)
    small = {name: await https(path) for name, (path, _) in lists(on).items()}
    small_walk = await walk(on)
    await grow(on, SMALL + 1, LARGE)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, (path, bare) in lists(on).items():
        ours, alone = await https(path), await median(bare)
        report(f"1,000,000: {name}", f"{ours:.2f} ms", f"bare query {alone:.2f} ms", ours / alone)
        before = small[name]
        report(f"  beside 10,000: {name}", f"{ours:.2f} ms", f"{before:.2f} ms", ours / before)
    ours = await walk(on)
    report(
        "walk by cursor, a page",
        f"{ours:.2f} ms",
        f"10,000: {small_walk:.2f} ms",
        ours / small_walk,
    )
    await sql(
        on,
        """UPDATE certificate_versions SET not_before = now() - interval '70 days',
               not_after = now() + interval '20 days' WHERE id IN (
               SELECT 'cv-' || n * 97 FROM generate_series(1, %(due)s) n)""",
        due=DUE,
    )
    await sql(on, "ANALYZE certificate_versions")
    took = await scan(on)
    report("renewal scan, 10,000 due", f"{took:.2f} s", "aim 3 s", took / 3)
    for name, call in (
        ("summary", lambda: numbers.summary(on, ADMIN)),
        ("by status", lambda: numbers.by_status(on, ADMIN)),
        ("expirations", lambda: numbers.expirations(on, ADMIN, 365)),
        ("issuances", lambda: numbers.issuances(on, ADMIN, 365)),
    ):
        taken = await median(call, 5)
        report(f"statistics: {name}", f"{taken:.0f} ms", "aim 300 ms", taken / 300)
    await many(on, report)
    rate = await beats(on)
    report("1,000 agents: heartbeat and poll", f"{rate:,.0f}/s", "a minute's due 17/s", rate / 17)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    report(
        "memory grown meanwhile",
        f"{grown / 1024:.0f} MB",
        f"{memory / 1024:.0f} MB",
        grown / memory,
    )


async def many(on: Platform, report: Report) -> None:
    """10,000 reassigned, and 10,000 renewed into jobs, beside the one statement each needs."""
    await sql(on, "INSERT INTO owners (id, name) VALUES ('o-bench', 'bench'), ('o-bare', 'bare')")
    ids = [f"mc-{n * 89:08d}" for n in range(1, DUE + 1)]
    began = time.perf_counter()
    await sql(
        on, "UPDATE managed_certificates SET owner_id = 'o-bare' WHERE id = ANY(%(ids)s)", ids=ids
    )
    bare = time.perf_counter() - began
    for kind, parameters in (("reassign", {"owner_id": "o-bench", "team_id": None}), ("renew", {})):
        began = time.perf_counter()
        told = await bulk.start(
            on, ADMIN, kind, filters={"certificate_ids": ids}, parameters=parameters, dry_run=False
        )
        await bulk.run(on, told["id"])
        took = time.perf_counter() - began
        told = await bulk.result(on, ADMIN, told["id"])
        assert told[bulk.WORDS[kind]] == DUE, told
        beside = f"one bare UPDATE {bare:.2f} s"
        report(f"bulk {kind} of 10,000", f"{took:.2f} s", beside, took / bare)
