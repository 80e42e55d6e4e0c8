"""Groups of agents: their criteria, whom they name, and who belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from certctl.domain.access import Scope
from certctl.domain.listing import PageRequest
from certctl.store import fleet
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

NAMED: Final = """ARRAY(SELECT m.agent_id FROM agent_group_members m
    WHERE m.agent_group_id = g.id AND m.membership_type = '{kind}' ORDER BY m.agent_id)"""
SHOWN: Final = (
    "g.id, g.name, g.description, g.match_os, g.match_architecture, "
    "coalesce(g.match_ip_cidr::text, '') AS match_ip_cidr, g.match_version, g.enabled, "
    f"{NAMED.format(kind='include')} AS agent_ids, "
    f"{NAMED.format(kind='exclude')} AS excluded_agent_ids, g.created_at, g.updated_at"
)


async def page(session: Session, request: PageRequest, *, within: Scope) -> dict[str, Any]:
    listing = Listing(
        SHOWN, "agent_groups g", ("%(scope_all)s",), within.sql, Order("g.created_at"), key="g.id"
    )
    return await fetch(session, listing, request)


async def get(session: Session, group_id: str, *, within: Scope) -> Row:
    return await session.only(
        f"agent group {group_id}",
        f"SELECT {SHOWN} FROM agent_groups g WHERE g.id = %(id)s AND %(scope_all)s",
        id=group_id,
        **within.sql,
    )


async def name_members(tx: Tx, group_id: str, agent_ids: Sequence[str], *, membership: str) -> None:
    """Make these the agents that the group names as `include` or `exclude`, and no others."""
    await tx.run(
        """DELETE FROM agent_group_members WHERE agent_group_id = %(id)s
             AND (membership_type = %(membership)s OR agent_id = ANY(%(agents)s))""",
        id=group_id,
        membership=membership,
        agents=list(agent_ids),
    )
    await tx.run(
        """INSERT INTO agent_group_members (agent_group_id, agent_id, membership_type)
           SELECT %(id)s, unnest(%(agents)s::text[]), %(membership)s""",
        id=group_id,
        agents=list(agent_ids),
        membership=membership,
    )


async def add_member(tx: Tx, group_id: str, agent_id: str) -> None:
    await tx.run(
        """INSERT INTO agent_group_members (agent_group_id, agent_id) VALUES (%(group)s, %(agent)s)
           ON CONFLICT DO NOTHING""",
        group=group_id,
        agent=agent_id,
    )


async def unknown(tx: Tx, agent_ids: Sequence[str]) -> list[str]:
    """Those of the ids that name no agent."""
    rows = await tx.all(
        """SELECT id FROM unnest(%(ids)s::text[]) AS id
           WHERE NOT EXISTS (SELECT FROM agents a WHERE a.id = id.id)""",
        ids=list(agent_ids),
    )
    return [row["id"] for row in rows]


async def members(
    session: Session, group_id: str, request: PageRequest, *, within: Scope
) -> dict[str, Any]:
    """The agents in service that belong to the group."""
    where = (
        "%(scope_all)s",
        """EXISTS (SELECT FROM agent_group_membership g
            WHERE g.agent_group_id = %(group)s AND g.agent_id = agents.id)""",
    )
    values = {**within.sql, "group": group_id}
    order = Order("registered_at")
    return await fetch(session, Listing(fleet.SHOWN, "agents", where, values, order), request)
