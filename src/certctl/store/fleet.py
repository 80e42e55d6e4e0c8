"""Agents and their heartbeats."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from certctl.domain.access import Scope
from certctl.domain.listing import PageRequest
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

ONLINE_FOR: Final = "interval '2 minutes'"
SHOWN: Final = (
    "id, name, hostname, os, architecture, ip_address, version, registered_at, last_heartbeat_at, "
    f"CASE WHEN last_heartbeat_at > now() - {ONLINE_FOR} THEN 'Online' ELSE 'Offline' END "
    "AS status, retired_at, retired_reason"
)
FACTS: Final = ("version", "hostname", "os", "architecture", "ip_address")


async def page(
    session: Session, request: PageRequest, *, within: Scope, retired: bool = False
) -> dict[str, Any]:
    where = ("%(scope_all)s", f"retired_at IS {'NOT ' if retired else ''}NULL")
    order = Order("registered_at")
    return await fetch(session, Listing(SHOWN, "agents", where, within.sql, order), request)


async def get(session: Session, agent_id: str, *, within: Scope) -> Row:
    return await session.only(
        f"agent {agent_id}",
        f"SELECT {SHOWN} FROM agents WHERE id = %(id)s AND %(scope_all)s",
        id=agent_id,
        **within.sql,
    )


async def insert(tx: Tx, agent_id: str, *, credential_hash: bytes, facts: Mapping[str, str]) -> Row:
    """Enrol an agent. Raises Conflict when its name is taken."""
    return await tx.only(
        "the new agent",
        f"""INSERT INTO agents (id, name, hostname, os, architecture, ip_address, version,
                credential_hash, address)
            VALUES (%(id)s, %(name)s, %(hostname)s, %(os)s, %(architecture)s, %(ip_address)s,
                %(version)s, %(hash)s, %(address)s) RETURNING {SHOWN}""",
        id=agent_id,
        hash=credential_hash,
        address=_address(facts.get("ip_address", "")),
        **facts,
    )


async def heartbeat(session: Session, agent_id: str, facts: Mapping[str, str]) -> datetime:
    """Note that the agent is alive; empty facts keep what was known. When its credential was
    made."""
    sets = ", ".join(f"{name} = coalesce(nullif(%({name})s, ''), {name})" for name in FACTS)
    row = await session.only(
        f"agent {agent_id}",
        f"""UPDATE agents SET {sets}, address = coalesce(%(address)s, address),
                last_heartbeat_at = now() WHERE id = %(id)s RETURNING credential_made_at""",
        id=agent_id,
        address=_address(facts.get("ip_address", "")),
        **{name: facts.get(name, "") for name in FACTS},
    )
    made_at: datetime = row["credential_made_at"]
    return made_at


def _address(text: str) -> str | None:
    """What an agent says of its address, where it is one (a zone is no part of it)."""
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


async def retire(tx: Tx, agent_id: str, reason: str) -> None:
    await tx.run(
        "UPDATE agents SET retired_at = now(), retired_reason = %(reason)s WHERE id = %(id)s",
        id=agent_id,
        reason=reason,
    )


async def dependencies(tx: Tx, agent_id: str) -> Row:
    """What would be left without its agent."""
    return await tx.only(
        "the counts",
        """SELECT (SELECT count(*) FROM deployment_targets t
                   WHERE t.agent_id = %(id)s AND t.enabled) AS active_targets,
                  (SELECT count(DISTINCT m.certificate_id) FROM certificate_target_mappings m
                   JOIN deployment_targets t ON t.id = m.target_id
                   WHERE t.agent_id = %(id)s) AS active_certificates,
                  (SELECT count(*) FROM jobs j WHERE j.agent_id = %(id)s AND j.status
                   IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running')) AS pending_jobs""",
        id=agent_id,
    )


async def is_serving(session: Session, agent_id: str) -> bool:
    """Whether the agent exists and has not retired."""
    return bool(
        await session.value(
            "SELECT EXISTS (SELECT FROM agents WHERE id = %(id)s AND retired_at IS NULL)",
            id=agent_id,
        )
    )


async def issuing_for(tx: Tx, agent_id: str) -> list[str]:
    """The certificates whose issuance waits for this agent."""
    rows = await tx.all(
        """SELECT DISTINCT certificate_id FROM jobs
           WHERE agent_id = %(id)s AND type IN ('Issuance', 'Renewal')
             AND status IN ('Pending', 'AwaitingApproval', 'AwaitingCSR', 'Running')
           ORDER BY certificate_id""",
        id=agent_id,
    )
    return [row["certificate_id"] for row in rows]


async def release(tx: Tx, agent_id: str, reason: str) -> None:
    """Disable the targets and cancel the jobs of an agent that retires."""
    await tx.run(
        "UPDATE deployment_targets SET enabled = false, updated_at = now() WHERE agent_id = %(id)s",
        id=agent_id,
    )
    await tx.run(
        """UPDATE jobs SET status = 'Cancelled', completed_at = now(),
               last_error = 'agent retired: ' || %(reason)s
           WHERE agent_id = %(id)s
             AND status IN ('Pending', 'AwaitingApproval', 'AwaitingCSR', 'Running')""",
        id=agent_id,
        reason=reason,
    )


async def begin_session(session: Session, agent_id: str, agent_session: str | None) -> None:
    """From now on this is the run of the agent that work is handed to."""
    await session.run(
        """UPDATE agents SET session = %(session)s
           WHERE id = %(id)s AND session IS DISTINCT FROM %(session)s""",
        id=agent_id,
        session=agent_session,
    )
