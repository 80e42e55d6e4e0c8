"""Targets, and agents as people see them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from certctl.domain.access import Permission
from certctl.services import enrolment, fleet, plain
from certctl.web.api.common import Created, Id, In, NameText, Out, Page, Paged, Text
from certctl.web.api.crud import crud
from certctl.web.gate import Call, Resource


class NewTarget(In):
    id: Id | None = None
    name: NameText
    type: Text
    agent_id: Id
    config: dict[str, Any] = {}
    enabled: bool = True


class TargetChange(In):
    name: NameText | None = None
    type: Text | None = None
    agent_id: Id | None = None
    config: dict[str, Any] | None = None
    enabled: bool | None = None


class Target(Out):
    id: str
    name: str
    type: str
    agent_id: str
    config: dict[str, Any]
    enabled: bool
    created_at: Created
    updated_at: Created


targets = crud("/targets", plain.TARGETS, create=NewTarget, update=TargetChange, shown=Target)
agents = Resource("/agents", tag="agents")


class Agent(Out):
    id: str
    name: str
    hostname: str
    status: str
    os: str
    architecture: str
    ip_address: str
    version: str
    registered_at: Created
    last_heartbeat_at: Created | None
    retired_at: Created | None
    retired_reason: str | None


class NewToken(In):
    """For a new agent, put into a group if one is named, or for an agent that has lost its
    credential."""

    ttl_seconds: Annotated[int, Field(ge=60, le=7 * 86400)] = 3600
    agent_group_id: Id | None = None
    agent_id: Id | None = None


class Token(Out):
    """The token is shown this once."""

    id: str
    token: str
    expires_at: Created


class TokenShown(Out):
    id: str
    created_by: str
    created_at: Created
    expires_at: Created
    agent_group_id: str | None
    for_agent_id: str | None


class Tokens(Out):
    tokens: list[TokenShown]


class Counts(Out):
    active_targets: int
    active_certificates: int
    pending_jobs: int


class Retired(Out):
    retired_at: Created
    already_retired: bool
    cascade: bool
    counts: Counts


@agents.get(needs=Permission.AGENT_READ, answer=Page[Agent], errors=())
async def list_agents(call: Call, page: Paged) -> Any:
    """Agents in service."""
    return await fleet.page(call.on, call.actor, page)


@agents.get("/retired", needs=Permission.AGENT_READ, answer=Page[Agent], errors=())
async def list_retired_agents(call: Call, page: Paged) -> Any:
    """Agents that have been retired."""
    return await fleet.page(call.on, call.actor, page, retired=True)


@agents.post("/enrolment-tokens", needs=Permission.AGENT_EDIT, answer=Token)
async def create_enrolment_token(call: Call, body: NewToken) -> Any:
    """A one-time token with which one agent can enrol."""
    return await enrolment.make_token(
        call.on,
        call.actor,
        lifetime=timedelta(seconds=body.ttl_seconds),
        agent_group_id=body.agent_group_id,
        agent_id=body.agent_id,
    )


@agents.get("/enrolment-tokens", needs=Permission.AGENT_EDIT, answer=Tokens, errors=())
async def list_enrolment_tokens(call: Call) -> Any:
    """The tokens that can still be used."""
    return {"tokens": await enrolment.tokens(call.on, call.actor)}


@agents.delete("/enrolment-tokens/{id}", needs=Permission.AGENT_EDIT)
async def revoke_enrolment_token(call: Call, id: str) -> None:
    """Let a token that was not used be of no use."""
    await enrolment.revoke_token(call.on, call.actor, id)


@agents.delete("/{id}/credential", needs=Permission.AGENT_EDIT)
async def revoke_agent_credential(call: Call, id: str) -> None:
    """From now on the agent is a stranger, until it enrols with a token for it."""
    await enrolment.revoke_credential(call.on, call.actor, id)


@agents.get("/{id}", needs=Permission.AGENT_READ, answer=Agent)
async def get_agent(call: Call, id: str) -> Any:
    """One agent."""
    return await fleet.get(call.on, call.actor, id)


@agents.delete("/{id}", needs=Permission.AGENT_RETIRE, answer=Retired, errors=(400, 404, 409))
async def retire_agent(
    call: Call,
    id: str,
    force: bool = False,
    reason: Annotated[str, Query(max_length=500)] = "",
) -> Any:
    """Retire an agent for good; with `force` also when targets or jobs depend on it."""
    return await fleet.retire(call.on, call.actor, id, force=force, reason=reason)
