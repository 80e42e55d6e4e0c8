"""Migrations against real servers: stopped anywhere, half done by hand, raced, newer, older."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate.schema import SchemaManager
from psycopg import AsyncConnection

from certctl.domain.errors import Invalid, Unavailable, Unsafe
from certctl.store import migrate
from tests.store.running import SERVERS, create_database, postgres, run, schema

FIRST = """
CREATE TABLE IF NOT EXISTS fruit (id int PRIMARY KEY, name text NOT NULL);
CREATE INDEX IF NOT EXISTS fruit_name_idx ON fruit (name);
ALTER TABLE fruit ADD COLUMN IF NOT EXISTS colour text DEFAULT 'a;b';
INSERT INTO fruit VALUES (1, 'pear') ON CONFLICT DO NOTHING;
"""
SECOND = """
CREATE TABLE IF NOT EXISTS crates (id int PRIMARY KEY, fruit int REFERENCES fruit);
CREATE OR REPLACE FUNCTION weigh() RETURNS int LANGUAGE plpgsql AS $body$
BEGIN
    RETURN 7; -- one; statement
END $body$;
"""
DIE = "SELECT pg_terminate_backend(pg_backend_pid());"


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("pg") / "data", request.param) as url:
        yield url


@pytest.fixture
def database(server: str) -> str:
    return create_database(server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, "000001_fruit", up=FIRST, down="DROP TABLE IF EXISTS fruit;")
    put(
        tmp_path,
        "000002_crates",
        up=SECOND,
        down="DROP TABLE IF EXISTS crates; DROP FUNCTION IF EXISTS weigh();",
    )
    return tmp_path


def put(folder: Path, name: str, *, up: str, down: str) -> None:
    (folder / f"{name}.up.sql").write_text(up)
    (folder / f"{name}.down.sql").write_text(down)


async def test_files_are_applied_in_order_and_recorded_once(database: str, folder: Path) -> None:
    assert await migrate.pending(database, folder)
    assert await migrate.migrate(database, folder) == [1, 2]
    assert await migrate.migrate(database, folder) == []
    assert not await migrate.pending(database, folder)
    found = await migrate.status(database, folder)
    assert [(row.version, row.name) for row in found.applied] == [(1, "fruit"), (2, "crates")]
    assert found.applied[0].applied_at.tzinfo
    assert run(database, "SELECT weigh()") == [(7,)]


async def test_asking_for_the_status_changes_nothing(database: str, folder: Path) -> None:
    found = await migrate.status(database, folder)
    assert [m.label for m in found.pending] == ["000001_fruit", "000002_crates"]
    assert schema(database) == set()


async def test_a_version_can_be_aimed_at_in_both_directions(database: str, folder: Path) -> None:
    assert await migrate.migrate(database, folder, to=1) == [1]
    at_one = schema(database)
    assert await migrate.migrate(database, folder) == [2]
    assert await migrate.rollback(database, 1, folder=folder) == [2]
    assert schema(database) == at_one
    assert await migrate.rollback(database, 0, folder=folder) == [1]
    assert await migrate.migrate(database, folder) == [1, 2]
    with pytest.raises(Invalid, match="no migration 9"):
        await migrate.migrate(database, folder, to=9)


async def test_servers_that_start_together_take_turns(database: str, folder: Path) -> None:
    applied = await asyncio.gather(*(migrate.migrate(database, folder) for _ in range(4)))
    assert sorted(applied) == [[], [], [], [1, 2]]


@pytest.mark.parametrize("after", range(5))
async def test_a_migration_whose_connection_dies_is_done_by_the_next_run(
    database: str, folder: Path, after: int
) -> None:
    whole = migrate.statements(FIRST)
    cut = [*whole[:after], DIE.rstrip(";"), *whole[after:]]
    (folder / "000001_fruit.up.sql").write_text(";\n".join(cut))
    with pytest.raises(Unavailable):
        await migrate.migrate(database, folder)
    assert run(database, "SELECT count(*) FROM schema_migrations") == [(0,)]
    (folder / "000001_fruit.up.sql").write_text(FIRST)
    assert await migrate.migrate(database, folder) == [1, 2]
    assert run(database, "SELECT * FROM fruit") == [(1, "pear", "a;b")]


async def test_our_own_migrations_finish_what_was_half_done_by_hand(server: str) -> None:
    whole = create_database(server)
    await migrate.migrate(whole)
    script = migrate.MIGRATIONS / "000001_first.up.sql"
    steps = migrate.statements(script.read_text())
    for done in (1, len(steps) // 3, len(steps) - 1):
        half = create_database(server)
        run(half, *steps[:done])
        await migrate.migrate(half)
        assert schema(half) == schema(whole)


async def test_our_own_migrations_can_be_undone_and_done_again(database: str) -> None:
    await migrate.migrate(database)
    whole = schema(database)
    await migrate.rollback(database, 0)
    left = {name.partition(".")[0] for kind, name, _ in schema(database) if kind == "constraint"}
    assert left <= {"schema_migrations", "public"}
    assert run(database, "SELECT count(*) FROM schema_migrations") == [(0,)]
    await migrate.migrate(database)
    assert schema(database) == whole


async def test_a_database_of_a_newer_server_is_refused(database: str, folder: Path) -> None:
    put(folder, "000003_future", up="SELECT 1", down="SELECT 1")
    await migrate.migrate(database, folder)
    (folder / "000003_future.up.sql").unlink()
    for refused in (migrate.migrate(database, folder), migrate.status(database, folder)):
        with pytest.raises(Unsafe, match="000003_future by a newer certctl"):
            await refused


async def test_an_applied_file_that_changed_is_refused_by_name(database: str, folder: Path) -> None:
    await migrate.migrate(database, folder)
    (folder / "000001_fruit.up.sql").write_text(FIRST + "SELECT 1;")
    with pytest.raises(Unsafe, match="000001_fruit"):
        await migrate.migrate(database, folder)


async def test_a_refused_statement_is_told_with_its_file_and_leaves_nothing(
    database: str, folder: Path
) -> None:
    (folder / "000002_crates.up.sql").write_text(SECOND + "SELECT nonsense;")
    with pytest.raises(Unsafe, match=r"000002_crates.*nonsense"):
        await migrate.migrate(database, folder)
    assert run(database, "SELECT to_regclass('crates')") == [(None,)]
    assert [row.version for row in (await migrate.status(database, folder)).applied] == [1]


async def test_a_database_in_another_encoding_is_refused(server: str, folder: Path) -> None:
    latin = create_database(server, "LATIN1")
    with pytest.raises(Unsafe, match="encoded in LATIN1"):
        await migrate.migrate(latin, folder)


async def test_a_server_that_is_too_old_is_refused(
    database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "OLDEST", 99)
    with pytest.raises(Unsafe, match=r"certctl needs 99 or newer"):
        await migrate.migrate(database, folder)


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("postgresql://u:hush@127.0.0.1:1/d", Unavailable, "127.0.0.1.*refused"),
        ("postgresql://u:hush@/d?host=/nowhere", Unavailable, "/nowhere"),
        ("postgresql://u:hush@h:x:y/d?nonsense=1", Unsafe, "malformed"),
        ("hush", Unsafe, "malformed"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    url: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f"CERTCTL_DATABASE_URL.*{words}|{words}") as raised:
        await migrate.pending(url)
    assert "CERTCTL_DATABASE_URL" in str(raised.value)
    assert "hush" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_statements_are_split_where_they_end_and_nowhere_else() -> None:
    script = """
    -- a comment; with a semicolon
    SELECT 'it''s; one', "odd;name"; /* two; */ SELECT $$a;b$$, $x$c;$$;d$x$, 1 - 2 / 3, $1;
    ;
    """
    assert migrate.statements(script) == [
        """SELECT 'it''s; one', "odd;name\"""",
        "SELECT $$a;b$$, $x$c;$$;d$x$, 1 - 2 / 3, $1",
    ]


# --- the queue ---


class Dying(AsyncConnection[tuple[Any, ...]]):
    """A connection that ends itself before its n-th statement."""

    left = 0

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        if self.left == 0:
            await super().execute(DIE)
        self.left -= 1
        return await super().execute(*args, **kwargs)


async def install(url: str) -> str:
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        return await migrate.install_queue(connection)


async def install_dying(url: str, after: int) -> None:
    async with await Dying.connect(url, autocommit=True) as connection:
        connection.left = after
        with pytest.raises(psycopg.OperationalError):
            await migrate.install_queue(connection)


async def a_job_runs(url: str) -> bool:
    """procrastinate itself as the judge: a job deferred and worked off through our tables."""
    ran = []
    connector = procrastinate.PsycopgConnector(
        conninfo=url, kwargs={"options": "-c search_path=public,procrastinate"}
    )
    app = procrastinate.App(connector=connector)

    @app.task(name="note")
    async def note(word: str) -> None:
        ran.append(word)

    async with app.open_async():
        await note.defer_async(word="done")
        await app.run_worker_async(wait=False, install_signal_handlers=False)
    return ran == ["done"]


def older_queue(url: str, upto: str) -> None:
    """The queue as an older procrastinate made it, from that package's own history."""
    run(url, "CREATE SCHEMA procrastinate")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = procrastinate")
        for path in sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql")):
            if path.name < upto:
                for statement in migrate.statements(path.read_text()):
                    connection.execute(statement.encode())


async def test_the_queue_is_installed_in_its_own_schema_and_works(database: str) -> None:
    version = await install(database)
    assert run(database, "SELECT version FROM procrastinate.certctl_queue_version") == [(version,)]
    assert schema(database) == set()
    before = schema(database, "procrastinate")
    assert await install(database) == version
    assert schema(database, "procrastinate") == before
    assert await a_job_runs(database)


async def test_replicas_that_install_the_queue_together_take_turns(database: str) -> None:
    versions = await asyncio.gather(*(install(database) for _ in range(3)))
    assert len(set(versions)) == 1


@pytest.mark.parametrize("after", [0, 1, 7, 20, 35])
async def test_an_interrupted_installation_of_the_queue_is_finished_by_the_next(
    server: str, database: str, after: int
) -> None:
    whole = create_database(server)
    await install(whole)
    await install_dying(database, after)
    await install(database)
    assert schema(database, "procrastinate") == schema(whole, "procrastinate")


async def test_objects_of_the_queue_that_are_there_already_are_left_alone(
    server: str, database: str
) -> None:
    whole = create_database(server)
    await install(whole)
    run(
        database,
        "CREATE SCHEMA procrastinate",
        f"ALTER DATABASE {database.rpartition('/')[2].partition('?')[0]} "
        "SET search_path = procrastinate",
    )
    run(database, *migrate.statements(SchemaManager.get_schema())[:25])
    await install(database)
    assert schema(database, "procrastinate") == schema(whole, "procrastinate")


@pytest.mark.parametrize("after", [0, 3, 5])
async def test_an_older_queue_is_brought_forward_even_when_interrupted(
    server: str, database: str, after: int
) -> None:
    whole = create_database(server)
    version = await install(whole)
    older_queue(database, upto="03.03")
    async with await AsyncConnection.connect(database, autocommit=True) as connection:
        async with connection.transaction():
            assert await migrate._queue_version(connection) is None
        await migrate._record_queue(connection, "3.2.0")
    await install_dying(database, after)
    assert await install(database) == version
    assert functions(database) == functions(whole)
    assert await a_job_runs(database)


def functions(url: str) -> set[tuple[str, ...]]:
    return {row for row in schema(url, "procrastinate") if row[0] in {"function", "label"}}


async def test_a_queue_newer_than_the_installed_package_is_left_as_it_is(database: str) -> None:
    await install(database)
    run(database, "UPDATE procrastinate.certctl_queue_version SET version = '99.0.0'")
    assert await install(database) == "99.0.0"
    assert await a_job_runs(database)
