"""What the server's own database role may do when another role owns the tables: everything that
it needs, and of the audit trail only to read and to add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncConnection, sql
from psycopg.rows import tuple_row

from certctl.domain.errors import Unsafe

SCHEMAS: Final = ("public", "procrastinate")
APPEND_ONLY: Final = (
    "audit_events",
    "audit_seals",
    "audit_checkpoints",
    "audit_checkpoint_keys",
)

OWNS: Final = "pg_has_role(%(role)s, relowner, 'MEMBER')"
MAY_CHANGE: Final = "has_table_privilege(%(role)s, oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER')"


@dataclass(frozen=True)
class Identity:
    """A role in a database; `database` is its object id, which tells apart those of a name."""

    role: str
    database: tuple[str, int]


async def identity(connection: AsyncConnection[Any]) -> Identity:
    """Who this connection is, and where."""
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(
        """SELECT current_user, current_database(), oid::bigint FROM pg_database
           WHERE datname = current_database()"""
    )
    role, name, number = await cursor.fetchone() or ("", "", 0)
    return Identity(role, (name, number))


async def is_guest(connection: AsyncConnection[Any]) -> bool:
    """Whether the schema is there and this connection's role does not own it."""
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(
        """SELECT 1 FROM pg_class WHERE oid = to_regclass('public.schema_migrations')
           AND NOT pg_has_role(relowner, 'MEMBER')"""
    )
    return await cursor.fetchone() is not None


async def grant(owner: AsyncConnection[Any], server: Identity) -> None:
    """Give the server's role what it needs in the owner's database, anew at each start, so that
    tables of later migrations are included.

    Raises:
        Unsafe: when the two are not in one database, or the role could still change the trail
            because it is the owner, a member of the owner's role, or a superuser.
    """
    if (await identity(owner)).database != server.database:
        raise Unsafe(
            "CERTCTL_DATABASE_OWNER_URL and CERTCTL_DATABASE_URL name two different databases"
        )
    async with owner.transaction():
        await _check(owner, server.role, OWNS)
        for schema in SCHEMAS:
            for statement in _statements(schema):
                await owner.execute(_named(statement, server.role, schema))
        await owner.execute(
            _named("GRANT SELECT ON schema_migrations TO {role}", server.role, "public")
        )
        await _check(owner, server.role, MAY_CHANGE)


def _statements(schema: str) -> list[str]:
    every = "SELECT, INSERT, UPDATE, DELETE"
    given = [
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT {every} ON ALL TABLES IN SCHEMA {{schema}} TO {{role}}",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        "GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {schema} TO {role}",
    ]
    if schema == "public":
        given += [f"REVOKE ALL ON {table} FROM {{role}}" for table in APPEND_ONLY]
        given += [f"GRANT SELECT, INSERT ON {table} TO {{role}}" for table in APPEND_ONLY]
        # The private key is sealed anew when the data key is replaced.
        given.append("GRANT UPDATE (sealed_key) ON audit_checkpoint_keys TO {role}")
        given.append("REVOKE ALL ON schema_migrations FROM {role}")
    return given


def _named(statement: str, role: str, schema: str) -> sql.Composed:
    return sql.SQL(statement).format(role=sql.Identifier(role), schema=sql.Identifier(schema))


async def _check(owner: AsyncConnection[Any], role: str, condition: str) -> None:
    cursor = owner.cursor(row_factory=tuple_row)
    await cursor.execute(
        f"""SELECT relname FROM pg_class
            WHERE relname = ANY(%(tables)s) AND relnamespace = 'public'::regnamespace
              AND {condition}""".encode(),
        {"tables": list(APPEND_ONLY), "role": role},
    )
    if open_tables := [name for (name,) in await cursor.fetchall()]:
        raise Unsafe(
            f"CERTCTL_DATABASE_URL: the role {role} can still change {', '.join(open_tables)}; "
            "it must be neither a superuser nor the owner of the tables, nor a member of the owner"
        )
