"""The rows of every table and the key files, into an archive and out of it.

Rows travel as `COPY` text and the schema comes from our own migrations, so that a backup of one
PostgreSQL fits into another, newer or older, and no client programs are needed. The queue is left
out: the sweep hands every due job to it again.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection, IsolationLevel, sql

from certctl import __version__
from certctl.domain.errors import Conflict, Invalid, Unsafe
from certctl.store import migrate
from certctl.store.backup.archive import FORMAT, Manifest, Reader, Writer
from certctl.store.embedded.place import write_private

HISTORY = "schema_migrations"
CHUNK = 1 << 18
KEY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")

TABLES = """
SELECT c.relname, array_agg(a.attname ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
  AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
GROUP BY c.relname ORDER BY c.relname"""

SEQUENCES = """
SELECT sequencename, last_value FROM pg_sequences
WHERE schemaname = 'public' AND last_value IS NOT NULL ORDER BY sequencename"""

FOREIGN_KEYS = """
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.connamespace = 'public'::regnamespace AND k.contype = 'f' AND k.conparentid = 0"""

TRIGGERS = """
SELECT c.relname, t.tgname, t.tgenabled::text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal AND t.tgparentid = 0
  AND t.tgenabled <> 'D'"""

ENABLE = {"O": "ENABLE TRIGGER", "A": "ENABLE ALWAYS TRIGGER", "R": "ENABLE REPLICA TRIGGER"}


async def backup(conninfo: str, file: Path, *, key_files: Sequence[Path] = ()) -> Manifest:
    """Write the database and `key_files` to `file`, mode 0600; the server may go on working.

    All rows are those of one moment. The file appears under its name only when it is complete.

    Raises:
        Unavailable, Unsafe: when the database does not answer or suit.
        Conflict: when it has never been migrated.
        Invalid: when `file` cannot be written or a key file cannot be read or kept.
    """
    names = _key_names(key_files)
    try:
        writer = await asyncio.to_thread(Writer, file)
        with writer:
            async with migrate.connect(conninfo) as connection:
                manifest = await _write_rows(connection, writer)
            for path, name in zip(key_files, names, strict=True):
                await asyncio.to_thread(writer.add, f"keys/{name}", path)
            await asyncio.to_thread(writer.finish, manifest)
    except OSError as error:
        raise Invalid(f"{file} cannot be written: {error}", field="file") from error
    return writer.manifest(manifest)


async def restore(
    conninfo: str,
    file: Path,
    *,
    data_dir: Path,
    force: bool = False,
    folder: Path = migrate.MIGRATIONS,
) -> Manifest:
    """Put the rows of `file` into the database and its key files, mode 0600, into `data_dir`.

    Nothing is changed before the whole file was found undamaged. The rows are replaced in one
    transaction. The schema is left at the backup's version; the next start brings it forward and
    makes the queue anew. With `force` a database that holds tables is overwritten, and a
    different key file is kept beside the new one with the suffix `.replaced`.

    Raises:
        Unsafe: when the file is damaged, or was made by a newer certctl.
        Conflict: when the database or the key files are in use and `force` is not given.
        Unavailable: when the database does not answer.
        Invalid: when `file` or `data_dir` cannot be used.
    """
    try:
        with await asyncio.to_thread(Reader, file) as reader:
            manifest = await asyncio.to_thread(reader.verify)
            _check_origin(manifest, folder)
            keys = await asyncio.to_thread(_read_keys, reader)
            await asyncio.to_thread(_check_keys, keys, data_dir, force=force)
            await _prepare_schema(conninfo, manifest, folder=folder, force=force)
            async with migrate.connect(conninfo) as connection:
                await _replace_rows(connection, reader, manifest=manifest)
            await asyncio.to_thread(_put_keys, keys, data_dir)
    except OSError as error:
        raise Invalid(f"{file} cannot be restored: {error}", field="file") from error
    return manifest


async def verify(file: Path) -> Manifest:
    """What a backup holds, after every byte of it was checked.

    Raises:
        Unsafe: when it is damaged or is not a backup.
        Invalid: when it cannot be read.
    """
    try:
        with await asyncio.to_thread(Reader, file) as reader:
            return await asyncio.to_thread(reader.verify)
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error}", field="file") from error


async def _write_rows(connection: AsyncConnection[Any], writer: Writer) -> Manifest:
    await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
    await connection.set_read_only(True)
    async with connection.transaction():
        history = await _migrations(connection)
        if not history:
            raise Conflict("The database has never been migrated: there is nothing to back up.")
        cursor = await connection.execute(TABLES)
        tables = {name: list(columns) for name, columns in await cursor.fetchall()}
        del tables[HISTORY]
        for name, columns in tables.items():
            query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
                sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier("public", name)
            )
            with writer.member(f"tables/{name}.copy") as put:
                async with connection.cursor().copy(query) as rows:
                    async for part in rows:
                        put(bytes(part))
        # Numbers drawn since the snapshot do no harm; drawing one twice would.
        cursor = await connection.execute(SEQUENCES)
        sequences = {name: int(last) for name, last in await cursor.fetchall()}
    return Manifest(
        format=FORMAT,
        certctl=__version__,
        postgresql=connection.info.server_version,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        migrations=history,
        tables=tables,
        sequences=sequences,
    )


async def _migrations(connection: AsyncConnection[Any]) -> dict[str, str]:
    cursor = await connection.execute("SELECT to_regclass('public.schema_migrations') IS NULL")
    if await cursor.fetchone() == (True,):
        return {}
    cursor = await connection.execute("SELECT version::text, checksum FROM schema_migrations")
    return dict(await cursor.fetchall())


def _check_origin(manifest: Manifest, folder: Path) -> None:
    ours = {str(m.version): m for m in migrate.known(folder)}
    for version, checksum in manifest.migrations.items():
        if version not in ours:
            raise Unsafe(
                f"The backup was made by certctl {manifest.certctl} with migration {version}, "
                "which this version does not know: restore it with that version."
            )
        if ours[version].checksum != checksum:
            raise Unsafe(
                f"The backup was made with another migration {ours[version].label}: restore it "
                f"with certctl {manifest.certctl}."
            )


async def _prepare_schema(conninfo: str, manifest: Manifest, *, folder: Path, force: bool) -> None:
    """Bring the database to the very schema the rows come from."""
    async with migrate.connect(conninfo) as connection:
        held = [name for name, _ in await (await connection.execute(TABLES)).fetchall()]
    if held and not force:
        raise Conflict(
            f"The database holds tables already ({', '.join(held[:3])}…): restore into an empty "
            "one, or overwrite it with --force."
        )
    newest = max(map(int, manifest.migrations))
    await migrate.migrate(conninfo, folder, to=newest)
    await migrate.rollback(conninfo, newest, folder=folder)


async def _replace_rows(
    connection: AsyncConnection[Any], reader: Reader, *, manifest: Manifest
) -> None:
    """Foreign keys and triggers are taken off for the load and put back, which checks the rows.

    An owner of the tables may do that; switching them off for a session takes a superuser.
    """
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '30s'")
            await connection.execute("DROP SCHEMA IF EXISTS procrastinate CASCADE")
            put_back = await _take_off_guards(connection)
            tables = [sql.Identifier("public", name) for name in manifest.tables]
            truncate = sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(tables))
            await connection.execute(truncate)
            for name, columns in manifest.tables.items():
                await _load(connection, reader, table=name, columns=columns)
            for name, last in manifest.sequences.items():
                await connection.execute(
                    "SELECT setval(format('public.%%I', %s::text)::regclass, %s)", [name, last]
                )
            for statement in put_back:
                await connection.execute(statement)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise Unsafe(f"The database refused the rows of the backup: {error}") from error


async def _take_off_guards(connection: AsyncConnection[Any]) -> list[sql.Composed]:
    """Returns the statements that put them back."""
    change = sql.SQL("ALTER TABLE {} {} {}{}")
    put_back = []
    for table, name, words in await (await connection.execute(FOREIGN_KEYS)).fetchall():
        place, key = sql.Identifier("public", table), sql.Identifier(name)
        drop, add = sql.SQL("DROP CONSTRAINT"), sql.SQL("ADD CONSTRAINT")
        await connection.execute(change.format(place, drop, key, sql.SQL("")))
        put_back.append(change.format(place, add, key, sql.SQL(" " + words)))
    for table, name, state in await (await connection.execute(TRIGGERS)).fetchall():
        place, trigger = sql.Identifier("public", table), sql.Identifier(name)
        off, on = sql.SQL("DISABLE TRIGGER"), sql.SQL(ENABLE[state])
        await connection.execute(change.format(place, off, trigger, sql.SQL("")))
        put_back.append(change.format(place, on, trigger, sql.SQL("")))
    return put_back


async def _load(
    connection: AsyncConnection[Any], reader: Reader, *, table: str, columns: list[str]
) -> None:
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier("public", table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    async with connection.cursor().copy(query) as rows:
        with reader.open(f"tables/{table}.copy") as stored:
            while part := await asyncio.to_thread(stored.read, CHUNK):
                await rows.write(part)


def _key_names(key_files: Sequence[Path]) -> list[str]:
    names = [path.name for path in key_files]
    for name in names:
        if not KEY_NAME.fullmatch(name) or names.count(name) > 1:
            raise Invalid(
                f"{name} is not a name a key file can have in a backup", field="key_files"
            )
    return names


def _read_keys(reader: Reader) -> dict[str, bytes]:
    """The content of the key files by their names."""
    keys = {}
    for member in reader.names():
        kind, _, name = member.partition("/")
        if kind == "keys":
            if not KEY_NAME.fullmatch(name):
                raise Unsafe(f"The backup holds a key file with an unacceptable name: {name!r}")
            with reader.open(member) as stored:
                keys[name] = stored.read()
    return keys


def _check_keys(keys: dict[str, bytes], data_dir: Path, *, force: bool) -> None:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(data_dir, os.W_OK):
        raise Invalid(f"{data_dir} cannot be written", field="data_dir")
    for name, content in keys.items():
        path = data_dir / name
        if path.exists() and path.read_bytes() != content and not force:
            raise Conflict(f"{path} is there already and differs: move it away, or say --force.")


def _put_keys(keys: dict[str, bytes], data_dir: Path) -> None:
    for name, content in keys.items():
        path = data_dir / name
        if path.exists() and path.read_bytes() != content:
            path.replace(path.with_name(name + ".replaced"))
        write_private(path, content)
