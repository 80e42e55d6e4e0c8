"""Groups of agents, by what they are and by name."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

from certctl.domain.access import Actor, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid
from certctl.domain.listing import PageRequest
from certctl.services import audit
from certctl.services.plain import check_match, choose_id
from certctl.services.platform import Platform
from certctl.store import groups, rows
from certctl.store.db import Row, Tx

VERSION: Final = re.compile(r"(>=)?v?[0-9][0-9A-Za-z.+-]*(\.\*)?")
MEMBERS: Final = {"agent_ids": "include", "excluded_agent_ids": "exclude"}


async def page(on: Platform, actor: Actor, request: PageRequest) -> dict[str, Any]:
    async with on.db.read() as session:
        return await groups.page(session, request, within=actor.scope(Permission.AGENT_READ))


async def get(on: Platform, actor: Actor, group_id: str) -> Row:
    async with on.db.read() as session:
        return await groups.get(session, group_id, within=actor.scope(Permission.AGENT_READ))


async def members(
    on: Platform, actor: Actor, group_id: str, request: PageRequest
) -> dict[str, Any]:
    """The agents in service that fit every criterion or are named, and are not excluded."""
    within = actor.scope(Permission.AGENT_READ)
    async with on.db.read() as session:
        await groups.get(session, group_id, within=within)
        return await groups.members(session, group_id, request, within=within)


async def create(
    on: Platform, actor: Actor, *, values: Mapping[str, Any], idempotency_key: str | None
) -> Row:
    """Raises Invalid naming the field, Conflict for a taken id or name."""
    within = actor.scope(Permission.AGENT_EDIT)
    columns = {name: value for name, value in values.items() if value is not None}
    chosen = columns.pop("id", None)
    named = {name: columns.pop(name) for name in MEMBERS if name in columns}
    async with on.db.transaction() as tx:
        group_id = choose_id("agp", actor, tx.now, chosen=chosen, key=idempotency_key)
        if await rows.insert(tx, rows.AGENT_GROUPS, group_id, values=_columns(columns)) is None:
            if chosen is not None or idempotency_key is None:
                raise Conflict(f"id {group_id} is already in use", field="id")
            return await groups.get(tx, group_id, within=within)
        await _name(tx, group_id, named)
        await _record(tx, actor, group_id, "agent_group_created", after=values)
        return await groups.get(tx, group_id, within=within)


async def update(
    on: Platform, actor: Actor, group_id: str, *, changes: Mapping[str, Any], if_match: str | None
) -> Row:
    """Change the given fields; lists of agents are replaced whole."""
    within = actor.scope(Permission.AGENT_EDIT)
    columns = dict(changes)
    named = {name: columns.pop(name) for name in MEMBERS if name in columns}
    async with on.db.transaction() as tx:
        row = await rows.lock(tx, rows.AGENT_GROUPS, group_id, within=within)
        check_match(if_match, row["updated_at"])
        before = await groups.get(tx, group_id, within=within)
        await rows.update(tx, rows.AGENT_GROUPS, group_id, values=_columns(columns))
        await _name(tx, group_id, named)
        shown = {name: before[name] for name in changes}
        await _record(tx, actor, group_id, "agent_group_updated", before=shown, after=changes)
        return await groups.get(tx, group_id, within=within)


async def delete(on: Platform, actor: Actor, group_id: str) -> None:
    """Raises Conflict with the counts while renewal policies refer to it."""
    async with on.db.transaction() as tx:
        within = actor.scope(Permission.AGENT_EDIT)
        await rows.lock(tx, rows.AGENT_GROUPS, group_id, within=within)
        used = await rows.uses(tx, rows.AGENT_GROUPS, group_id)
        if used:
            counts = ", ".join(f"{n} {table.replace('_', ' ')}" for table, n in used.items())
            raise Conflict(f"agent group {group_id} is in use: {counts}", counts=used)
        await rows.delete(tx, rows.AGENT_GROUPS, group_id)
        await _record(tx, actor, group_id, "agent_group_deleted")


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the criteria, checked; an empty network is none."""
    columns = dict(values)
    if "match_ip_cidr" in columns:
        columns["match_ip_cidr"] = _network(columns["match_ip_cidr"])
    version = columns.get("match_version")
    if version and not VERSION.fullmatch(version):
        raise Invalid("match_version: write 1.4.2, 1.4.* or >=1.4", field="match_version")
    return columns


def _network(text: str) -> str | None:
    if not text:
        return None
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise Invalid(
            f"match_ip_cidr: a network such as 10.1.0.0/16 or 2001:db8::/32: {error}",
            field="match_ip_cidr",
        ) from None


async def _name(tx: Tx, group_id: str, named: Mapping[str, list[str]]) -> None:
    both = set(named.get("agent_ids", ())) & set(named.get("excluded_agent_ids", ()))
    if both:
        raise Invalid(
            f"excluded_agent_ids: {min(both)} is named as a member too", field="excluded_agent_ids"
        )
    for field, agent_ids in named.items():
        for missing in await groups.unknown(tx, agent_ids):
            raise Invalid(f"{field}: agent {missing} does not exist", field=field)
        await groups.name_members(
            tx, group_id, list(dict.fromkeys(agent_ids)), membership=MEMBERS[field]
        )


async def _record(tx: Tx, actor: Actor, group_id: str, action: str, **details: Any) -> None:
    await audit.record(
        tx, actor, action, on=("agent_group", group_id), category=Category.CONFIG, **details
    )
