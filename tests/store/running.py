"""PostgreSQL servers and databases for the tests of the store, gone when the test is over."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from certctl.store.embedded import EmbeddedPostgres, binaries

SERVERS = ("bundled", "distribution")
SCHEMA = """
SELECT 'column', table_schema || '.' || table_name || '.' || column_name,
       data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = %(schema)s
UNION ALL
SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = %(schema)s::regnamespace AND contype <> 'n'
UNION ALL
SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = %(schema)s
UNION ALL
SELECT 'trigger', t.tgname, t.tgenabled::text || pg_get_triggerdef(t.oid)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND c.relnamespace = %(schema)s::regnamespace
UNION ALL
SELECT 'function', oid::regprocedure::text, md5(regexp_replace(prosrc, '\\s+', ' ', 'g'))
FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace
UNION ALL
SELECT 'label', enumtypid::regtype || '.' || enumlabel, '' FROM pg_enum
JOIN pg_type y ON y.oid = enumtypid WHERE y.typnamespace = %(schema)s::regnamespace
"""


@contextmanager
def postgres(data_dir: Path, which: str) -> Iterator[str]:
    """The URL of a running server: the wheel's, or the distribution's where there is one."""
    with pytest.MonkeyPatch.context() as patch:
        if which == "distribution":
            only_the_distribution(patch)
        server = EmbeddedPostgres(data_dir)
        url = server.start()
    home = server.home
    try:
        yield url
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def only_the_distribution(patch: pytest.MonkeyPatch) -> None:
    """Let the distribution's PostgreSQL be the only one; skips or fails where there is none."""
    patch.setattr(binaries, "WHEEL", "no_such_wheel")
    if not any(binaries.DISTRIBUTION.glob("*/bin/postgres")):
        missing = "postgres of the distribution is not installed"
        if os.environ.get("CERTCTL_REQUIRE_TOOLS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)


def create_database(server: str, encoding: str = "UTF8") -> str:
    """The URL of a new empty database; it goes with its server."""
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0".encode()
        )
    return server.replace("/certctl?", f"/{name}?")


def run(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Each statement in its own transaction; returns the rows of the last, if it has any."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def schema(url: str, name: str = "public") -> set[tuple[str, ...]]:
    """Everything that makes two schemas the same, apart from the order of columns."""
    with psycopg.connect(url) as connection:
        connection.execute("SET search_path = pg_catalog")
        return set(connection.execute(SCHEMA, {"schema": name}).fetchall())
