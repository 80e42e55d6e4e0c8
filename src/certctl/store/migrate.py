"""The schema: which migrations a database has, bringing it forward, taking it back.

Two kinds of tables live in one database: ours, from numbered files, and those of the queue, from
procrastinate's own files in a schema of their own.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version as installed_version
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg
from procrastinate.schema import SchemaManager
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from certctl.domain.errors import Invalid, Unavailable, Unsafe
from certctl.store.reach import unreachable

MIGRATIONS = Path(__file__).parent / "migrations"
OLDEST = 15
# Any two numbers no other program takes in the same database.
LOCK = 0x6365727463746C01
QUEUE_LOCK = 0x6365727463746C02
OPTIONS = "-c timezone=UTC -c search_path=public"

HISTORY = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    bigint PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    checksum   text NOT NULL
)"""


@dataclass(frozen=True)
class Migration:
    """One numbered file and the file that undoes it."""

    version: int
    name: str
    up: Path
    down: Path

    @property
    def label(self) -> str:
        return f"{self.version:06d}_{self.name}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the file that is applied, lower hex."""
        return sha256(self.up.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Applied:
    """One row of the history a database keeps about itself."""

    version: int
    name: str
    applied_at: datetime
    checksum: str


@dataclass(frozen=True)
class Status:
    """What a database has and what it still lacks, in order."""

    applied: tuple[Applied, ...]
    pending: tuple[Migration, ...]


def known(folder: Path = MIGRATIONS) -> list[Migration]:
    """The migrations this certctl brings, in order."""
    found = []
    for path in sorted(folder.glob("*.up.sql")):
        number, _, name = path.name.removesuffix(".up.sql").partition("_")
        found.append(
            Migration(int(number), name, path, path.with_name(f"{number}_{name}.down.sql"))
        )
    return found


async def migrate(conninfo: str, folder: Path = MIGRATIONS, *, to: int | None = None) -> list[int]:
    """Apply what is pending, up to and including version `to`; returns the versions applied.

    Each file is one transaction with its row in the history, so that a stop at any point leaves
    a database that the next call brings forward. Servers that start together take turns.

    Raises:
        Unavailable: when the database does not answer.
        Unsafe: when the database does not suit, is newer than this certctl, has another file
            under an applied number, or refuses a statement.
        Invalid: when `to` is not a version we know.
    """
    migrations = known(folder)
    if to is not None and to not in {m.version for m in migrations}:
        raise Invalid(f"there is no migration {to}", field="to")
    async with connect(conninfo) as connection, locked(connection):
        await connection.execute(HISTORY)
        missing = _pending(await _history(connection), migrations)
        wanted = [m for m in missing if to is None or m.version <= to]
        for migration in wanted:
            await _apply(connection, migration)
        return [m.version for m in wanted]


async def rollback(conninfo: str, to: int, *, folder: Path = MIGRATIONS) -> list[int]:
    """Undo every migration above version `to`, newest first; 0 undoes all. Data is lost.

    Raises:
        Unavailable, Unsafe: as `migrate`.
    """
    migrations = {m.version: m for m in known(folder)}
    async with connect(conninfo) as connection, locked(connection):
        await connection.execute(HISTORY)
        history = await _history(connection)
        _pending(history, list(migrations.values()))
        undone = [row.version for row in reversed(history) if row.version > to]
        for number in undone:
            await _undo(connection, migrations[number])
        return undone


async def status(conninfo: str, folder: Path = MIGRATIONS) -> Status:
    """What is applied and what is pending; changes nothing.

    Raises:
        Unavailable, Unsafe: as `migrate`.
    """
    async with connect(conninfo) as connection:
        history = await _history(connection)
        return Status(tuple(history), tuple(_pending(history, known(folder))))


async def pending(conninfo: str, folder: Path = MIGRATIONS) -> bool:
    """Whether the database lacks a migration of this certctl.

    Raises:
        Unavailable, Unsafe: as `migrate`.
    """
    return bool((await status(conninfo, folder)).pending)


@asynccontextmanager
async def connect(conninfo: str) -> AsyncIterator[AsyncConnection[tuple[Any, ...]]]:
    """A connection in autocommit to a database that suits us.

    Raises:
        Unavailable: when it cannot be reached or is lost, without the password.
        Unsafe: when the URL is malformed or the database does not suit.
    """
    try:
        connection = await AsyncConnection.connect(
            conninfo, autocommit=True, options=OPTIONS, client_encoding="UTF8", connect_timeout=10
        )
    except psycopg.ProgrammingError:
        # The words of the parser quote the URL and with it the password.
        raise Unsafe(
            "CERTCTL_DATABASE_URL is malformed: expected postgresql://user:password@host/database"
        ) from None
    except psycopg.OperationalError as error:
        raise Unavailable(unreachable(conninfo, error)) from None
    async with connection:
        try:
            await _check_server(connection)
            yield connection
        except psycopg.OperationalError as error:
            raise Unavailable(
                f"The database named by CERTCTL_DATABASE_URL did not carry this through: {error}"
            ) from error


@asynccontextmanager
async def locked(connection: AsyncConnection[Any]) -> AsyncIterator[None]:
    """Hold the lock that serialises migrations and first-start work across replicas.

    The lock belongs to the session, so that it spans transactions and ends with the connection.
    """
    await connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    # A table lock that is not had in time must not queue everybody else behind it.
    await connection.execute("SET lock_timeout = '60s'")
    try:
        yield
    finally:
        # A lost connection has given the lock back already.
        with suppress(psycopg.OperationalError):
            await connection.execute("RESET lock_timeout")
            await connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


async def install_queue(connection: AsyncConnection[Any]) -> str:
    """Create or bring forward the queue's tables in schema `procrastinate`; returns the version.

    The connection must not be inside a transaction: a value added to an enumeration can be used
    only after its commit. Objects that exist are left alone, so that a call after an interrupted
    one finishes the work. A schema newer than the installed package is left as it is.
    """
    installed = installed_version("procrastinate")
    async with connection.transaction():
        recorded = await _queue_version(connection)
        if recorded is None:
            for statement in statements(SchemaManager.get_schema()):
                await _guarded(connection, statement)
            await _record_queue(connection, installed)
            return installed
    for number, files in groupby(_queue_files(recorded, upto=installed), key=_file_version):
        for path in files:
            async with connection.transaction():
                await _queue_version(connection)
                for statement in statements(path.read_text(encoding="utf-8")):
                    await _guarded(connection, statement)
        async with connection.transaction():
            await _record_queue(connection, ".".join(map(str, number)))
    newest = max(recorded, installed, key=_numbers)
    async with connection.transaction():
        await _record_queue(connection, newest)
    return newest


async def is_queue_current(connection: AsyncConnection[Any]) -> bool:
    """Whether the queue's tables are at least of the installed version; changes nothing."""
    cursor = connection.cursor(row_factory=tuple_row)
    row = await (
        await cursor.execute("SELECT version FROM procrastinate.certctl_queue_version")
    ).fetchone()
    return row is not None and _numbers(row[0]) >= _numbers(installed_version("procrastinate"))


PIECES = re.compile(
    r"""[^-/'"$;]+ | --[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | "[^"]*"
      | (?P<quote>\$(?:[A-Za-z_]\w*)?\$).*?(?P=quote) | .""",
    re.DOTALL | re.VERBOSE,
)


def statements(script: str) -> list[str]:
    """The statements of an SQL script, without comments; quoted semicolons do not end one."""
    found = [""]
    for piece in PIECES.finditer(script):
        if piece[0] == ";":
            found.append("")
        elif not piece[0].startswith(("--", "/*")):
            found[-1] += piece[0]
    return [statement.strip() for statement in found if statement.strip()]


def _pending(history: list[Applied], migrations: list[Migration]) -> list[Migration]:
    ours = {m.version: m for m in migrations}
    for row in history:
        if row.version not in ours:
            raise Unsafe(
                f"The database was migrated to {row.version:06d}_{row.name} by a newer certctl: "
                "run that version, or restore a backup made before it."
            )
        if row.checksum != ours[row.version].checksum:
            raise Unsafe(
                f"Migration {ours[row.version].label} was applied to this database with another "
                "content: install the certctl that applied it."
            )
    done = {row.version for row in history}
    return [m for m in migrations if m.version not in done]


async def _history(connection: AsyncConnection[Any]) -> list[Applied]:
    cursor = connection.cursor(row_factory=tuple_row)
    row = await (await cursor.execute("SELECT to_regclass('schema_migrations')")).fetchone()
    if row is None or row[0] is None:
        return []
    await cursor.execute(
        "SELECT version, name, applied_at, checksum FROM schema_migrations ORDER BY version"
    )
    return [Applied(*row) for row in await cursor.fetchall()]


async def _apply(connection: AsyncConnection[Any], migration: Migration) -> None:
    async with _refusals_named(migration.label), connection.transaction():
        await connection.execute(migration.up.read_bytes())
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
            [migration.version, migration.name, migration.checksum],
        )


async def _undo(connection: AsyncConnection[Any], migration: Migration) -> None:
    if not migration.down.exists():
        raise Unsafe(f"Migration {migration.label} cannot be undone: it brings no down file.")
    async with _refusals_named(migration.label), connection.transaction():
        await connection.execute(migration.down.read_bytes())
        await connection.execute(
            "DELETE FROM schema_migrations WHERE version = %s", [migration.version]
        )


@asynccontextmanager
async def _refusals_named(label: str) -> AsyncIterator[None]:
    try:
        yield
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise Unsafe(f"The database refused migration {label}: {error}") from error


async def _check_server(connection: AsyncConnection[Any]) -> None:
    cursor = await connection.execute(
        "SELECT current_setting('server_encoding'), current_setting('server_version_num')::int"
    )
    encoding, number = await cursor.fetchone() or ("", 0)
    if encoding != "UTF8":
        raise Unsafe(
            f"The database is encoded in {encoding}: create one with "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0 and name it in "
            "CERTCTL_DATABASE_URL."
        )
    if number < OLDEST * 10000:
        raise Unsafe(
            f"The database runs on PostgreSQL {number // 10000}, and certctl needs {OLDEST} or "
            "newer: upgrade it, or name another in CERTCTL_DATABASE_URL."
        )


async def _queue_version(connection: AsyncConnection[Any]) -> str | None:
    """The recorded version; for the rest of the transaction we are alone and in the schema."""
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute("SELECT pg_advisory_xact_lock(%s)", [QUEUE_LOCK])
    await cursor.execute("CREATE SCHEMA IF NOT EXISTS procrastinate")
    await cursor.execute("SET LOCAL search_path = procrastinate")
    await cursor.execute(
        """CREATE TABLE IF NOT EXISTS certctl_queue_version (
            single  boolean PRIMARY KEY DEFAULT true CHECK (single),
            version text NOT NULL
        )"""
    )
    row = await (await cursor.execute("SELECT version FROM certctl_queue_version")).fetchone()
    return None if row is None else str(row[0])


async def _record_queue(connection: AsyncConnection[Any], number: str) -> None:
    await connection.execute(
        """INSERT INTO procrastinate.certctl_queue_version (version) VALUES (%s)
           ON CONFLICT (single) DO UPDATE SET version = excluded.version""",
        [number],
    )


async def _guarded(connection: AsyncConnection[Any], statement: str) -> None:
    """Run a statement, unless what it makes is there already or what it renames is gone."""
    errors = psycopg.errors
    try:
        async with connection.transaction():
            await connection.execute(statement.encode())
    except (
        errors.DuplicateTable,
        errors.DuplicateObject,
        errors.DuplicateFunction,
        errors.DuplicateColumn,
    ):
        return
    except (errors.UndefinedTable, errors.UndefinedObject, errors.UndefinedFunction):
        if not re.match(r"DROP\s|ALTER\s.*\sRENAME\s", statement, re.DOTALL | re.IGNORECASE):
            raise


def _queue_files(recorded: str, *, upto: str) -> list[Path]:
    """procrastinate's files of the versions after `recorded`; their names sort in order."""
    every = sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    return [path for path in every if _numbers(recorded) < _file_version(path) <= _numbers(upto)]


def _file_version(path: Path) -> tuple[int, ...]:
    return _numbers(path.name.partition("_")[0])


def _numbers(version: str) -> tuple[int, ...]:
    """The three leading numbers of `3.10.0` or `03.04.00`; a suffix such as `rc1` is ignored."""
    found = [int(number) for number in re.findall(r"\d+", version)[:3]]
    return tuple(found + [0] * (3 - len(found)))
