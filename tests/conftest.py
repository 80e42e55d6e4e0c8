"""One embedded PostgreSQL for the whole run; a clone of a ready database for each test."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from procrastinate.app import App
from psycopg import sql
from psycopg.conninfo import make_conninfo

from certctl.connectors.reach import Reach
from certctl.connectors.signers.sealed import SealedSigners
from certctl.jobs import tasks
from certctl.pki.lint import pkilint_findings
from certctl.pki.sealing import DataKey, Seals
from certctl.pki.x509 import ders_of_pem
from certctl.services import firststart, sealing
from certctl.services.platform import People, Platform, Terms
from certctl.store.db import Database, Row
from certctl.store.embedded import EmbeddedPostgres
from certctl.store.queue import Queue, make_app
from certctl.store.signals import Signals
from tests.softhsm import soft as soft
from tests.softhsm import token_directory as token_directory

PASSPHRASE = b"a passphrase for tests, and only for tests"
TEMPLATE = "certctl_template"
_numbers = itertools.count()


def people(**changes: object) -> People:
    """As the defaults are, but with break-glass turned on."""
    plain = People(
        session_idle=timedelta(hours=1),
        session_absolute=timedelta(hours=8),
        session_same_site="Lax",
        session_bind_ip=False,
        session_bind_user_agent=False,
        breakglass=True,
        breakglass_threshold=5,
        breakglass_lock=timedelta(minutes=15),
        breakglass_reset=timedelta(hours=1),
        first_admin_groups=(),
        first_admin_provider_id="",
        logout_token_age=timedelta(seconds=60),
        login_binds_ip=True,
        login_binds_user_agent=True,
        user_retention=timedelta(days=30),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def terms(**changes: object) -> Terms:
    plain = Terms(
        public_url="http://127.0.0.1:8080",
        server_names=("localhost", "127.0.0.1"),
        job_lease=timedelta(minutes=5),
        job_awaiting_csr_timeout=timedelta(hours=24),
        job_awaiting_approval_timeout=timedelta(hours=168),
        job_agent_offline_ttl=timedelta(minutes=5),
        agent_credential_renew_after=timedelta(days=30),
        job_retention=timedelta(days=90),
        notification_retention=timedelta(days=90),
        ari_timeout=timedelta(seconds=15),
        renewal_concurrency=25,
        policy_block_severity="",
        digest_enabled=False,
        server_makes_keys=False,
        crl_validity=timedelta(days=1),
        ocsp_validity=timedelta(hours=1),
        responder_validity=timedelta(days=30),
        responder_grace=timedelta(days=7),
        server_certificate_validity=timedelta(days=30),
        audit_checkpoint_interval=timedelta(hours=1),
        audit_checkpoint_dir=None,
        people=people(),
        sign_in_settings={"CERTCTL_AUTH_TYPE": "api-key"},
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class World:
    """A platform on a database of its own, with the queue that its tasks wait in."""

    platform: Platform
    queue_app: App
    conninfo: str

    async def run_tasks(self) -> None:
        """Carry out every task that is due, and return."""
        await self.queue_app.run_worker_async(
            wait=False, install_signal_handlers=False, delete_jobs="successful"
        )


async def open_world(
    conninfo: str,
    data_key: Seals,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    **changes: object,
) -> AsyncIterator[World]:
    """The platform as `boot` builds it; the clock and the terms may differ."""
    db = Database(conninfo, max_size=8)
    await db.open()
    queue_app = make_app(conninfo, max_size=4)
    await queue_app.open_async()
    platform = Platform(
        db=db,
        queue=Queue(queue_app),
        signals=Signals(conninfo),
        clock=clock,
        random=lambda: 0.5,
        data_key=data_key,
        signer=SealedSigners(data_key),
        key_homes={},
        notifiers={},
        environment_keys=(),
        bootstrap_token_hash=None,
        reach=Reach((ip_network("127.0.0.0/8"),)),
        terms=terms(**changes),
    )
    tasks.register(queue_app, platform, renewal_interval=timedelta(hours=1))
    # Tests call themselves what the timetable would: nothing happens by the clock on the wall.
    queue_app.periodic_registry.periodic_tasks.clear()
    try:
        yield World(platform, queue_app, conninfo)
    finally:
        await queue_app.close_async()
        await db.close()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection URL of the run's own server. It need not outlive the machine, and does not
    wait for its disk: thousands of databases are made in it."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    url = server.start()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("SELECT pg_reload_conf()")
    home = server.home
    yield url
    server.stop()
    if os.geteuid() == 0 and home.is_relative_to("/var/lib/certctl"):
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def empty_template(postgres: str) -> str:
    """The name of a migrated database without rows."""
    import asyncio

    from certctl.boot.platform import bring_up_to_date

    _create(postgres, "certctl_empty", "template0")
    asyncio.run(bring_up_to_date(make_conninfo(postgres, dbname="certctl_empty")))
    return "certctl_empty"


@pytest.fixture(scope="session")
def ready_template(postgres: str, empty_template: str) -> tuple[str, DataKey]:
    """The name of a database after its first start, and the key of its secrets."""
    import asyncio

    _create(postgres, TEMPLATE, empty_template)
    conninfo = make_conninfo(postgres, dbname=TEMPLATE)

    async def first_start() -> DataKey:
        db = Database(conninfo, max_size=4)
        await db.open()
        data_key = (await sealing.open_keyring(db, PASSPHRASE)).current
        await db.close()
        async for world in open_world(conninfo, data_key):
            await firststart.defaults(world.platform)
            await firststart.authorities(world.platform)
        return data_key

    return TEMPLATE, asyncio.run(first_start())


def _create(server: str, name: str, template: str) -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    return make_conninfo(server, dbname=name)


def _drop(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


@contextmanager
def a_clone(server: str, template: str) -> Iterator[str]:
    """The URL of a database of one's own that begins as the template is."""
    name = f"certctl_test_{next(_numbers)}"
    yield _create(server, name, template)
    _drop(server, name)


@pytest.fixture
def empty_database(postgres: str, empty_template: str) -> Iterator[str]:
    """The URL of a migrated database without rows, this test's own."""
    with a_clone(postgres, empty_template) as url:
        yield url


@pytest.fixture
def database(postgres: str, ready_template: tuple[str, DataKey]) -> Iterator[str]:
    """The URL of a database after its first start, this test's own."""
    with a_clone(postgres, ready_template[0]) as url:
        yield url


@pytest.fixture
async def world(database: str, ready_template: tuple[str, DataKey]) -> AsyncIterator[World]:
    """Whatever a test issues in it, pkilint must find clean, but for what was waived on record."""
    async for opened in open_world(database, ready_template[1]):
        yield opened
        assert await lint_findings(opened) == []


async def lint_findings(world: World) -> list[str]:
    """What pkilint says of every certificate and CRL in the database."""
    async with world.platform.db.read() as session:
        certificates = await session.all(
            """SELECT cert_der AS der FROM authorities WHERE cert_der IS NOT NULL
               UNION SELECT cert_der FROM service_certificates"""
        )
        # By name, because a test may have gone back to before there was the column.
        chains = await session.all(
            """SELECT pem_chain, coalesce(to_jsonb(v) -> 'lint_waived', '[]') AS waived
               FROM certificate_versions v"""
        )
        crls = await session.all("SELECT der FROM crls WHERE der IS NOT NULL")
    found = [_unwaived(row) for row in chains]
    found += [_findings("certificate", bytes(row["der"])) for row in certificates]
    found += [_findings("crl", bytes(row["der"])) for row in crls]
    return [code for codes in found for code in codes]


def _unwaived(row: Row) -> tuple[str, ...]:
    """What is found in a version without its record saying so."""
    codes = _findings("certificate", ders_of_pem(row["pem_chain"])[0])
    return tuple(code for code in codes if code not in row["waived"])


@functools.lru_cache(maxsize=4096)
def _findings(kind: Literal["certificate", "crl"], der: bytes) -> tuple[str, ...]:
    return tuple(pkilint_findings(kind, der))


@pytest.fixture
def repository() -> Path:
    return Path(__file__).parent.parent
