"""The connection pool and the transaction: the only doors to PostgreSQL.

Foreign database errors become ours here and nowhere else.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb, set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from certctl.domain.errors import Conflict, Invalid, NotFound, Unavailable

set_json_loads(msgspec.json.decode)  # a page of certificates holds a hundred small objects
Row = dict[str, Any]
SESSION_OPTIONS = (
    "-c timezone=UTC -c search_path=public,procrastinate "
    "-c statement_timeout=60s -c lock_timeout=15s -c idle_in_transaction_session_timeout=60s"
)


class Session:
    """One connection, reading or inside a transaction. Parameters are named, `%(name)s`."""

    def __init__(self, connection: AsyncConnection[DictRow]) -> None:
        self.connection = connection

    async def all(self, sql: str, **values: Any) -> list[Row]:
        cursor = await self._execute(sql, values)
        return await cursor.fetchall()

    async def one(self, sql: str, **values: Any) -> Row | None:
        cursor = await self._execute(sql, values)
        return await cursor.fetchone()

    async def large(self, sql: str, **values: Any) -> AsyncIterator[Row]:
        """Rows one after the other, as they arrive and not in hex: for many octets in each."""
        with translated():
            async with self.connection.cursor(binary=True) as cursor:
                async for row in cursor.stream(cast(Any, sql), values):
                    yield row

    async def only(self, what: str, sql: str, **values: Any) -> Row:
        """The one row, or NotFound saying that `what` does not exist."""
        row = await self.one(sql, **values)
        if row is None:
            raise NotFound(f"{what} does not exist")
        return row

    async def value(self, sql: str, **values: Any) -> Any:
        row = await self.one(sql, **values)
        return None if row is None else next(iter(row.values()))

    async def run(self, sql: str, **values: Any) -> int:
        """The number of rows that were changed."""
        return (await self._execute(sql, values)).rowcount

    async def many(self, sql: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """The statement once for each of the rows, sent together."""
        if len(rows) == 1:
            await self._execute(sql, rows[0])
            return
        with translated():
            await self.connection.cursor().executemany(
                cast(Any, sql),
                [{key: adapted(value) for key, value in row.items()} for row in rows],
            )

    async def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """New rows, which all have the same columns."""
        if rows:
            columns = ", ".join(rows[0])
            marks = ", ".join(f"%({name})s" for name in rows[0])
            await self.many(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)

    async def copy(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """As `insert`, in one stream: for many rows a fraction of its cost."""
        statement = f"COPY {table} ({', '.join(rows[0])}) FROM STDIN"
        with translated():
            async with (
                self.connection.cursor() as cursor,
                cursor.copy(statement.encode()) as stream,
            ):
                for row in rows:
                    await stream.write_row([adapted(value) for value in row.values()])

    async def _execute(self, sql: str, values: Mapping[str, Any]) -> psycopg.AsyncCursor[DictRow]:
        with translated():
            return await self.connection.execute(
                cast(Any, sql), {key: adapted(value) for key, value in values.items()}
            )


class Tx(Session):
    """A session inside a transaction; `now` is the transaction's own time."""

    def __init__(self, connection: AsyncConnection[DictRow], now: datetime) -> None:
        super().__init__(connection)
        self.now = now


class Database:
    """A pool of connections in UTC, each with time-outs for statements and locks."""

    def __init__(self, conninfo: str, *, max_size: int) -> None:
        self.conninfo = conninfo
        self._pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
            conninfo,
            min_size=1,
            max_size=max_size,
            open=False,
            timeout=10,
            kwargs={"row_factory": dict_row, "autocommit": True, "options": SESSION_OPTIONS},
            check=_check,
        )

    async def open(self) -> None:
        """Raises Unavailable when the first connection cannot be made within 10 s."""
        with translated():
            await self._pool.open(wait=True, timeout=10)

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Everything inside commits together or not at all."""
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                yield Tx(connection, await _now(connection))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Session]:
        """A session for reading only; each statement sees the newest commit."""
        with translated():
            async with self._pool.connection() as connection:
                yield Session(connection)


RESTED: Final = 1.0  # seconds
_used_at: WeakKeyDictionary[AsyncConnection[DictRow], float] = WeakKeyDictionary()


async def _check(connection: AsyncConnection[DictRow]) -> None:
    """Ask a connection that has rested whether it still lives; a busy one has just shown it."""
    now = time.monotonic()
    if now - _used_at.get(connection, 0.0) > RESTED:
        await AsyncConnectionPool.check_connection(connection)
    _used_at[connection] = now


async def _now(connection: AsyncConnection[DictRow]) -> datetime:
    row = await (await connection.execute("SELECT now() AS now")).fetchone()
    assert row is not None
    return cast(datetime, row["now"])


def adapted(value: Any) -> Any:
    """Objects go to `jsonb`; so do lists of objects. Lists of scalars stay arrays."""
    if isinstance(value, dict) or (
        isinstance(value, list) and value and isinstance(value[0], dict)
    ):
        return Jsonb(value)
    return value


@contextmanager
def translated() -> Iterator[None]:
    """Database errors as ours: unique → Conflict, foreign key → Invalid or Conflict, no
    connection → Unavailable. Others are programming errors and pass through."""
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        field = _column(error)
        raise Conflict(f"{field} is already in use", field=field) from error
    except (psycopg.errors.ForeignKeyViolation, psycopg.errors.RestrictViolation) as error:
        raise _reference(error) from error
    except psycopg.errors.CheckViolation as error:
        field = error.diag.column_name or (error.diag.constraint_name or "value")
        raise Invalid(f"{field} is outside what the database accepts", field=field) from error
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
        raise Unavailable("the database is busy; try again") from error
    except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected) as error:
        raise Unavailable("the change collided with another; try again") from error
    except (psycopg.DataError, UnicodeEncodeError) as error:
        # A NUL or half a surrogate pair, which JSON can spell and no text column can hold.
        raise Invalid("a value holds characters or numbers that cannot be stored") from error
    except (psycopg.OperationalError, PoolTimeout) as error:
        raise Unavailable("the database cannot be reached (CERTCTL_DATABASE_URL)") from error


def _column(error: psycopg.Error) -> str:
    """The column of `Key (agent_id, name)=(…)`: the last, which is the one a person chose."""
    found = re.search(r"Key \((?:lower\()?([^)]*)\)", error.diag.message_detail or "")
    return found[1].split(",")[-1].strip() if found else "value"


def _reference(error: psycopg.Error) -> Conflict | Invalid | Unavailable:
    detail = error.diag.message_detail or ""
    if "sealing_keys" in detail and "is not present" in detail:
        return Unavailable("the key that this was sealed under has been replaced; try again")
    if "is not present" in detail:
        field = _column(error)
        return Invalid(f"{field} names something that does not exist", field=field)
    return Conflict(f"still in use by {(error.diag.table_name or 'others').replace('_', ' ')}")
