"""Backups: every value comes back, from one moment, into any server, or nothing is touched."""

from __future__ import annotations

import asyncio
import hashlib
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl.domain.errors import Conflict, Invalid, Unavailable, Unsafe
from certctl.store import migrate
from certctl.store.backup import backup, restore, verify
from certctl.store.backup.archive import Manifest, Reader, Writer
from tests.store.running import create_database, postgres, run, schema

SHAPE = """
CREATE TABLE IF NOT EXISTS boss (id int PRIMARY KEY, team int);
CREATE TABLE IF NOT EXISTS team (id int PRIMARY KEY, boss int REFERENCES boss);
ALTER TABLE boss DROP CONSTRAINT IF EXISTS boss_team_fkey;
ALTER TABLE boss ADD CONSTRAINT boss_team_fkey FOREIGN KEY (team) REFERENCES team
    DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE IF NOT EXISTS "odd ""name"" %s" (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "a col%" text,
    raw      bytea,
    facts    jsonb,
    words    text[],
    at       timestamptz,
    ratio    double precision,
    twice    bigint GENERATED ALWAYS AS (length(coalesce("a col%", '')) * 2) STORED
);
CREATE SEQUENCE IF NOT EXISTS drawn;
CREATE TABLE IF NOT EXISTS log (n bigint PRIMARY KEY DEFAULT nextval('drawn'), said text);
INSERT INTO log VALUES (0, 'seeded') ON CONFLICT DO NOTHING;
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'append-only'; END $$;
DROP TRIGGER IF EXISTS log_kept ON log;
CREATE TRIGGER log_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON log EXECUTE FUNCTION refuse();
ALTER TABLE log ENABLE ALWAYS TRIGGER log_kept;
CREATE TABLE IF NOT EXISTS part (day int, said text) PARTITION BY RANGE (day);
CREATE TABLE IF NOT EXISTS part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
"""
UNSHAPE = """
DROP TABLE IF EXISTS boss, team, "odd ""name"" %s", log, part CASCADE;
DROP SEQUENCE IF EXISTS drawn;
DROP FUNCTION IF EXISTS refuse();
"""
ROWS = (
    "BEGIN; INSERT INTO boss VALUES (1, 1), (2, NULL); INSERT INTO team VALUES (1, 1); COMMIT",
    r"""INSERT INTO "odd ""name"" %s" ("a col%", raw, facts, words, at, ratio) VALUES
        (E'tab\tnewline\nback\\slash \\N ÄÖ 🔑', '\x00ff0a5c', '{"a": [1, null, "é\\u0001"]}',
         '{"a,b","c\"d",NULL}', '2024-02-29 12:34:56.789012+05:30', 0.1),
        (NULL, '', 'null', '{}', 'infinity', 'NaN'),
        ('', NULL, NULL, NULL, NULL, 1e-300)""",
    "INSERT INTO log (said) SELECT 'line ' || n FROM generate_series(1, 50) n",
    "INSERT INTO part VALUES (3, 'third')",
)
TABLES = ("boss", "team", '"odd ""name"" %s"', "log", "part")


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("pg") / "data", "bundled") as url:
        yield url


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: Any) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("pg15") / "data", "distribution") as url:
        yield url


@pytest.fixture
def empty(server: str) -> str:
    return create_database(server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "000001_shape.up.sql").write_text(SHAPE)
    (folder / "000001_shape.down.sql").write_text(UNSHAPE)
    return folder


@pytest.fixture
async def filled(server: str, folder: Path) -> str:
    return await filled_database(server, folder)


async def filled_database(server: str, folder: Path) -> str:
    url = create_database(server)
    await migrate.migrate(url, folder)
    run(url, *ROWS)
    return url


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "config.key"
    path.write_bytes(b"a key\x00\xff\n")
    return path


def content(url: str) -> dict[str, list[tuple[object, ...]]]:
    return {name: run(url, f"SELECT t::text FROM {name} t ORDER BY 1") for name in TABLES}


def add_migration(folder: Path) -> None:
    (folder / "000002_more.up.sql").write_text("CREATE TABLE IF NOT EXISTS more (id int)")
    (folder / "000002_more.down.sql").write_text("DROP TABLE IF EXISTS more")


async def test_every_value_constraint_trigger_and_number_comes_back(
    filled: str, empty: str, folder: Path, tmp_path: Path, key: Path
) -> None:
    file = tmp_path / "b.tar"
    made = await backup(filled, file, key_files=[key])
    taken = await restore(empty, file, data_dir=tmp_path / "new", folder=folder)
    assert taken == made
    assert content(empty) == content(filled)
    assert schema(empty) == schema(filled)
    assert run(empty, "INSERT INTO log (said) VALUES ('next') RETURNING n") == [(51,)]
    assert run(empty, """INSERT INTO "odd ""name"" %s" DEFAULT VALUES RETURNING id""") == [(4,)]
    assert (tmp_path / "new" / key.name).read_bytes() == key.read_bytes()


async def test_backup_and_restored_keys_are_private_and_nothing_else_is_left(
    filled: str, empty: str, folder: Path, tmp_path: Path, key: Path
) -> None:
    room = tmp_path / "room"
    room.mkdir()
    await backup(filled, room / "b.tar", key_files=[key])
    await restore(empty, room / "b.tar", data_dir=tmp_path / "new", folder=folder)
    assert [path.name for path in room.iterdir()] == ["b.tar"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == [key.name]
    for path in (room / "b.tar", tmp_path / "new" / key.name):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_the_file_is_a_tar_archive_anyone_can_read(
    filled: str, tmp_path: Path, key: Path
) -> None:
    await backup(filled, tmp_path / "b.tar", key_files=[key])
    with tarfile.open(tmp_path / "b.tar") as tar:
        stored = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    assert stored[f"keys/{key.name}"] == key.read_bytes()
    assert stored["tables/team.copy"] == b"1\t1\n"
    seal = hashlib.sha256(stored["manifest.json"]).hexdigest().encode()
    assert stored["manifest.sha256"] == seal


async def test_our_own_schema_goes_round_and_its_audit_stays_append_only(
    server: str, empty: str, tmp_path: Path
) -> None:
    full = create_database(server)
    await migrate.migrate(full)
    run(
        full,
        "INSERT INTO teams (id, name) VALUES ('t-1', 'web')",
        """INSERT INTO audit_events (id, actor, actor_type, action, resource_type, resource_id,
               event_category, timestamp, content_hash)
           VALUES ('a-1', 'x', 'user', 'y', 'team', 't-1', 'config', now(), 'h')""",
    )
    await backup(full, tmp_path / "b.tar")
    await restore(empty, tmp_path / "b.tar", data_dir=tmp_path / "new")
    assert schema(empty) == schema(full)
    for query in ("SELECT * FROM teams", "SELECT * FROM audit_events"):
        assert run(empty, query) == run(full, query) != []
    with pytest.raises(Exception, match="append-only"):
        run(empty, "DELETE FROM audit_events")


async def test_rows_of_a_backup_are_those_of_one_moment(
    filled: str, empty: str, folder: Path, tmp_path: Path
) -> None:
    file, stop = tmp_path / "b.tar", asyncio.Event()
    # Large enough for many commits to fall between the first table and the last.
    run(filled, "INSERT INTO log (said) SELECT repeat('x', 500) FROM generate_series(1, 40000)")

    async def keep_adding() -> int:
        number = 10
        async with migrate.connect(filled) as connection:
            while not stop.is_set():
                async with connection.transaction():
                    await connection.execute("INSERT INTO boss VALUES (%s, NULL)", [number])
                    await connection.execute("INSERT INTO team VALUES (%s, %s)", [number, number])
                number += 1
        return number

    adding = asyncio.create_task(keep_adding())
    await backup(filled, file)
    stop.set()
    assert await adding > 12
    await restore(empty, file, data_dir=tmp_path / "new", folder=folder)
    pairs = "SELECT (SELECT count(*) FROM boss WHERE id >= 10), (SELECT count(*) FROM team)"
    [(bosses, teams)] = run(empty, pairs)
    assert bosses == int(str(teams)) - 1


async def test_a_backup_moves_between_servers_of_different_versions(
    server: str, distribution: str, folder: Path, tmp_path: Path
) -> None:
    for source, target in ((server, distribution), (distribution, server)):
        full, empty = await filled_database(source, folder), create_database(target)
        await backup(full, tmp_path / "b.tar")
        await restore(empty, tmp_path / "b.tar", data_dir=tmp_path / "new", folder=folder)
        assert content(empty) == content(full)


async def test_a_database_that_holds_tables_is_refused_and_overwritten_only_by_force(
    filled: str, server: str, folder: Path, tmp_path: Path, key: Path
) -> None:
    await backup(filled, tmp_path / "b.tar", key_files=[key])
    other, home = create_database(server), tmp_path / "home"
    add_migration(folder)
    await migrate.migrate(other, folder)
    async with migrate.connect(other) as connection:
        await migrate.install_queue(connection)
    run(other, "INSERT INTO boss VALUES (7, NULL)")
    before = content(other)

    with pytest.raises(Conflict, match="--force"):
        await restore(other, tmp_path / "b.tar", data_dir=home, folder=folder)
    assert content(other) == before
    assert not (home / key.name).exists()

    await restore(other, tmp_path / "b.tar", data_dir=home, force=True, folder=folder)
    assert content(other) == content(filled)
    assert await migrate.migrate(other, folder) == [2]
    assert run(other, "SELECT to_regnamespace('procrastinate') IS NULL") == [(True,)]


async def test_a_different_key_is_refused_and_by_force_kept_beside_the_new_one(
    filled: str, empty: str, folder: Path, tmp_path: Path, key: Path
) -> None:
    await backup(filled, tmp_path / "b.tar", key_files=[key])
    home = tmp_path / "home"
    home.mkdir()
    (home / key.name).write_bytes(b"another")
    with pytest.raises(Conflict, match=key.name):
        await restore(empty, tmp_path / "b.tar", data_dir=home, folder=folder)
    assert schema(empty) == set()
    await restore(empty, tmp_path / "b.tar", data_dir=home, force=True, folder=folder)
    assert (home / key.name).read_bytes() == key.read_bytes()
    assert (home / f"{key.name}.replaced").read_bytes() == b"another"


async def test_a_backup_of_a_newer_certctl_is_refused(
    server: str, empty: str, folder: Path, tmp_path: Path
) -> None:
    add_migration(folder)
    await backup(await filled_database(server, folder), tmp_path / "b.tar")
    (folder / "000002_more.up.sql").unlink()
    with pytest.raises(Unsafe, match="migration 2"):
        await restore(empty, tmp_path / "b.tar", data_dir=tmp_path / "new", folder=folder)
    (folder / "000002_more.up.sql").write_text("SELECT 1")
    with pytest.raises(Unsafe, match="another migration 000002_more"):
        await restore(empty, tmp_path / "b.tar", data_dir=tmp_path / "new", folder=folder)
    assert schema(empty) == set()


async def test_rows_the_database_refuses_leave_everything_as_it_was(
    filled: str, folder: Path, tmp_path: Path, key: Path
) -> None:
    made = await backup(filled, tmp_path / "b.tar", key_files=[key])
    forge(tmp_path / "b.tar", tmp_path / "forged.tar", facts=made, table="team", rows=b"1\t999\n")
    before, shape = content(filled), schema(filled)
    home = tmp_path / "home"
    with pytest.raises(Unsafe, match="team_boss_fkey"):
        await restore(filled, tmp_path / "forged.tar", data_dir=home, force=True, folder=folder)
    assert content(filled) == before
    assert schema(filled) == shape
    assert list(home.iterdir()) == []


async def test_a_key_file_with_a_path_in_its_name_is_refused(
    filled: str, empty: str, folder: Path, tmp_path: Path
) -> None:
    made = await backup(filled, tmp_path / "b.tar")
    with Reader(tmp_path / "b.tar") as reader, Writer(tmp_path / "evil.tar") as writer:
        for name in made.members:
            with writer.member(name) as put, reader.open(name) as stored:
                put(stored.read())
        with writer.member("keys/../escaped") as put:
            put(b"x")
        writer.finish(made)
    with pytest.raises(Unsafe, match="unacceptable name"):
        await restore(empty, tmp_path / "evil.tar", data_dir=tmp_path / "new", folder=folder)
    assert not (tmp_path / "escaped").exists()


def forge(source: Path, target: Path, *, facts: Manifest, table: str, rows: bytes) -> None:
    """The same backup with other rows in one table, and a manifest that says so."""
    with Reader(source) as reader, Writer(target) as writer:
        for name in facts.members:
            with writer.member(name) as put, reader.open(name) as stored:
                put(rows if name == f"tables/{table}.copy" else stored.read())
        writer.finish(facts)


async def test_a_damaged_file_is_refused_before_anything_is_changed(
    filled: str, empty: str, folder: Path, tmp_path: Path, key: Path
) -> None:
    await backup(filled, tmp_path / "b.tar", key_files=[key])
    whole = (tmp_path / "b.tar").read_bytes()
    at = whole.index(b"line 25")
    for name, damaged in (
        ("altered", whole[:at] + b"L" + whole[at + 1 :]),
        ("short", whole[: len(whole) // 2]),
        ("nothing", b""),
        ("noise", b"\x17" * 5000),
    ):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(Unsafe, match=r"damaged or is no backup.*Nothing was changed"):
            await restore(empty, tmp_path / name, data_dir=tmp_path / "new", folder=folder)
    assert schema(empty) == set()
    assert not (tmp_path / "new").exists()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_changed_byte_passes_for_another_content(tmp_path: Path, data: st.DataObject) -> None:
    whole = a_small_backup(tmp_path / "whole.tar")
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "damaged.tar").write_bytes(damaged)
    try:
        found = read_all(tmp_path / "damaged.tar")
    except Unsafe:
        return
    assert found == read_all(tmp_path / "whole.tar")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_short_is_noticed_wherever_the_cut_is(
    tmp_path: Path, data: st.DataObject
) -> None:
    whole = a_small_backup(tmp_path / "whole.tar")
    needed = whole.rindex(hashlib.sha256(manifest_of(tmp_path / "whole.tar")).hexdigest().encode())
    (tmp_path / "cut.tar").write_bytes(whole[: data.draw(st.integers(0, needed + 63))])
    with pytest.raises(Unsafe):
        read_all(tmp_path / "cut.tar")


def a_small_backup(file: Path) -> bytes:
    facts = Manifest(1, "0.1", 180004, "2024-01-01", {"1": "c"}, {"t": ["a"]}, {"s": 4})
    with Writer(file) as writer:
        for name in ("tables/t.copy", "keys/k"):
            with writer.member(name) as put:
                put(b"some rows\n")
        writer.finish(facts)
    return file.read_bytes()


def manifest_of(file: Path) -> bytes:
    with Reader(file) as reader:
        return reader.open("manifest.json").read()


def read_all(file: Path) -> tuple[Manifest, dict[str, bytes]]:
    with Reader(file) as reader:
        manifest = reader.verify()
        return manifest, {name: reader.open(name).read() for name in manifest.members}


async def test_what_a_backup_holds_can_be_asked(filled: str, tmp_path: Path, key: Path) -> None:
    made = await backup(filled, tmp_path / "b.tar", key_files=[key])
    assert await verify(tmp_path / "b.tar") == made
    assert set(made.tables) == {"boss", "team", 'odd "name" %s', "log", "part"}
    assert made.sequences["drawn"] == 50
    with pytest.raises(Invalid, match="cannot be read"):
        await verify(tmp_path / "absent.tar")


async def test_a_backup_that_cannot_be_finished_leaves_no_file(
    filled: str, empty: str, tmp_path: Path, key: Path
) -> None:
    room = tmp_path / "room"
    room.mkdir()
    with pytest.raises(Conflict, match="never been migrated"):
        await backup(empty, room / "b.tar")
    with pytest.raises(Invalid, match=r"absent\.key"):
        await backup(filled, room / "b.tar", key_files=[tmp_path / "absent.key"])
    with pytest.raises(Invalid, match="config"):
        await backup(filled, room / "b.tar", key_files=[key, key])
    with pytest.raises(Unavailable):
        await backup("postgresql://u@/d?host=/nowhere", room / "b.tar")
    with pytest.raises(Invalid, match="cannot be written"):
        await backup(filled, room / "no" / "b.tar")
    assert list(room.iterdir()) == []
