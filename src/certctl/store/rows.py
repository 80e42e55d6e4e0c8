"""Plain resources: tables whose rows are created, read, changed and deleted one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from certctl.domain.access import Scope
from certctl.domain.errors import NotFound
from certctl.domain.listing import PageRequest
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch


@dataclass(frozen=True)
class Table:
    """A table, the columns people see, and the condition that keeps a read within its scope.

    `uses` names, for each table that refers to a row, the query condition that finds the users.
    """

    name: str
    noun: str
    columns: tuple[str, ...]
    within: str = "%(scope_all)s"
    uses: tuple[tuple[str, str], ...] = ()

    @property
    def shown(self) -> str:
        return ", ".join(("id", *self.columns, "created_at", "updated_at"))


TEAMS: Final = Table(
    "teams",
    "team",
    ("name", "description"),
    uses=(("owners", "team_id"), ("managed_certificates", "team_id")),
)
OWNERS: Final = Table(
    "owners", "owner", ("name", "email", "team_id"), uses=(("managed_certificates", "owner_id"),)
)
RENEWAL_POLICIES: Final = Table(
    "renewal_policies",
    "renewal policy",
    (
        "name",
        "renewal_window_days",
        "auto_renew",
        "max_retries",
        "retry_interval_seconds",
        "alert_thresholds_days",
        "alert_channels",
        "alert_severity_map",
        "certificate_profile_id",
        "agent_group_id",
    ),
    uses=(("managed_certificates", "renewal_policy_id"),),
)
POLICY_RULES: Final = Table(
    "policy_rules",
    "policy rule",
    ("name", "type", "config", "enabled", "severity", "blocking"),
)
AGENT_GROUPS: Final = Table(
    "agent_groups",
    "agent group",
    (
        "name",
        "description",
        "match_os",
        "match_architecture",
        "match_ip_cidr",
        "match_version",
        "enabled",
    ),
    uses=(("renewal_policies", "agent_group_id"),),
)
PROFILES: Final = Table(
    "certificate_profiles",
    "profile",
    (
        "name",
        "description",
        "version",
        "allowed_key_algorithms",
        "max_ttl_seconds",
        "allowed_ekus",
        "required_san_patterns",
        "must_staple",
        "must_staple_critical",
        "certificate_policies",
        "cps_uri",
        "crl_shards",
        "allow_single_labels",
        "spiffe_uri_pattern",
        "allow_short_lived",
        "requires_approval",
        "enabled",
    ),
    within="(%(scope_all)s OR id = ANY(%(scope_profiles)s))",
    uses=(
        ("managed_certificates", "certificate_profile_id"),
        ("renewal_policies", "certificate_profile_id"),
        ("approvals", "profile_id"),
        ("lint_waivers", "profile_id"),
    ),
)
ISSUERS: Final = Table(
    "issuers",
    "issuer",
    ("name", "type", "config", "enabled"),
    within="(%(scope_all)s OR id = ANY(%(scope_issuers)s))",
    uses=(
        ("managed_certificates", "issuer_id"),
        ("certificate_versions", "issuer_id"),
        ("authorities", "issuer_id"),
    ),
)
TARGETS: Final = Table(
    "deployment_targets",
    "target",
    ("name", "type", "agent_id", "config", "enabled"),
    uses=(("certificate_target_mappings", "target_id"),),
)


async def get(session: Session, table: Table, row_id: str, *, within: Scope) -> Row:
    """Raises NotFound for a row that is absent or out of scope."""
    return await session.only(
        f"{table.noun} {row_id}",
        f"SELECT {table.shown} FROM {table.name} WHERE id = %(id)s AND {table.within}",
        id=row_id,
        **within.sql,
    )


async def lock(tx: Tx, table: Table, row_id: str, *, within: Scope) -> Row:
    """As `get`, and nobody else changes the row until the transaction ends."""
    return await tx.only(
        f"{table.noun} {row_id}",
        f"SELECT {table.shown} FROM {table.name} WHERE id = %(id)s AND {table.within} FOR UPDATE",
        id=row_id,
        **within.sql,
    )


async def any_in(session: Session, table: Table) -> bool:
    """Whether the table has a row at all."""
    return bool(await session.value(f"SELECT EXISTS (SELECT FROM {table.name})"))


async def every(session: Session, table: Table, *, within: Scope) -> list[Row]:
    """All rows of a table that people fill by hand."""
    return await session.all(
        f"SELECT {table.shown} FROM {table.name} WHERE {table.within} ORDER BY id", **within.sql
    )


async def missing(
    session: Session, table: Table, row_ids: Sequence[str], *, within: Scope
) -> list[str]:
    """Those of the ids that name no row within the scope."""
    if not row_ids:
        return []
    found = await session.all(
        f"SELECT id FROM {table.name} WHERE id = ANY(%(ids)s) AND {table.within}",
        ids=list(row_ids),
        **within.sql,
    )
    known = {row["id"] for row in found}
    return [row_id for row_id in row_ids if row_id not in known]


async def dangling(
    session: Session, fields: Mapping[str, Table], values: Mapping[str, Any], *, within: Scope
) -> list[str]:
    """The fields whose value names no row of their table within the scope; one query for all."""
    if not fields:
        return []
    tests = ", ".join(
        f"EXISTS (SELECT FROM {table.name} WHERE id = %({field})s AND {table.within}) AS {field}"
        for field, table in fields.items()
    )
    wanted = {field: values[field] for field in fields}
    found = await session.only("the references", f"SELECT {tests}", **wanted, **within.sql)
    return [field for field in fields if not found[field]]


async def page(
    session: Session, table: Table, request: PageRequest, *, within: Scope
) -> dict[str, Any]:
    return await fetch(
        session,
        Listing(table.shown, table.name, (table.within,), within.sql, Order("created_at")),
        request,
    )


async def insert(tx: Tx, table: Table, row_id: str, *, values: Mapping[str, Any]) -> Row | None:
    """The new row, or None when the id is taken. Columns not in `values` get their defaults."""
    columns = ["id", *values]
    marks = ", ".join(f"%({column})s" for column in columns)
    return await tx.one(
        f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks}) "
        f"ON CONFLICT (id) DO NOTHING RETURNING {table.shown}",
        **{**values, "id": row_id},
    )


async def update(tx: Tx, table: Table, row_id: str, *, values: Mapping[str, Any]) -> Row:
    """The changed row. Only the columns in `values` change."""
    sets = "".join(f"{column} = %({column})s, " for column in values)
    row = await tx.one(
        f"UPDATE {table.name} SET {sets}updated_at = now() "
        f"WHERE id = %(id)s RETURNING {table.shown}",
        **{**values, "id": row_id},
    )
    if row is None:
        raise NotFound(f"{table.noun} {row_id} does not exist")
    return row


async def uses(tx: Tx, table: Table, row_id: str) -> dict[str, int]:
    """How many rows of each other table refer to this one; tables without any are left out."""
    counts = {
        other: await tx.value(
            f"SELECT count(*) FROM {other} WHERE {column} = %(id)s",
            id=row_id,
        )
        for other, column in table.uses
    }
    return {other: count for other, count in counts.items() if count}


async def delete(tx: Tx, table: Table, row_id: str) -> None:
    await tx.run(f"DELETE FROM {table.name} WHERE id = %(id)s", id=row_id)
