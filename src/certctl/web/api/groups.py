"""Groups of agents."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from certctl.domain.access import Permission
from certctl.services import groups as service
from certctl.services import plain
from certctl.web.api import common
from certctl.web.api.common import Id, In, NameText, Out, Page, Paged, Text
from certctl.web.api.fleet import Agent
from certctl.web.gate import Call, Created, Resource

groups = Resource("/agent-groups", tag="agent-groups")
Description = Annotated[str, Field(max_length=2000)]
Network = Annotated[str, Field(max_length=50, description="Such as 10.1.0.0/16; empty: any")]
Version = Annotated[str, Field(max_length=64, description="1.4.2, 1.4.* or >=1.4; empty: any")]
AgentIds = Annotated[list[Id], Field(max_length=1000)]


class NewGroup(In):
    id: Id | None = None
    name: NameText
    description: Description = ""
    match_os: Text = ""
    match_architecture: Text = ""
    match_ip_cidr: Network = ""
    match_version: Version = ""
    enabled: bool = True
    agent_ids: AgentIds = []
    excluded_agent_ids: AgentIds = []


class GroupChange(In):
    name: NameText | None = None
    description: Description | None = None
    match_os: Text | None = None
    match_architecture: Text | None = None
    match_ip_cidr: Network | None = None
    match_version: Version | None = None
    enabled: bool | None = None
    agent_ids: AgentIds | None = None
    excluded_agent_ids: AgentIds | None = None


class AgentGroup(Out):
    """`agent_ids` belong to it whatever they are, `excluded_agent_ids` never do."""

    id: str
    name: str
    description: str
    match_os: str
    match_architecture: str
    match_ip_cidr: str
    match_version: str
    enabled: bool
    agent_ids: list[str]
    excluded_agent_ids: list[str]
    created_at: common.Created
    updated_at: common.Created


@groups.get(needs=Permission.AGENT_READ, answer=Page[AgentGroup], errors=())
async def list_agent_groups(call: Call, page: Paged) -> Any:
    """All groups, by page or by cursor."""
    return await service.page(call.on, call.actor, page)


@groups.post(needs=Permission.AGENT_EDIT, answer=AgentGroup)
async def create_agent_group(call: Call, body: NewGroup) -> Any:
    """A new group. Without a criterion it holds only the agents that it names."""
    row = await service.create(
        call.on, call.actor, values=common.given(body), idempotency_key=call.idempotency_key
    )
    return Created(row, plain.etag(row["updated_at"]))


@groups.get("/{id}", needs=Permission.AGENT_READ, answer=AgentGroup)
async def get_agent_group(call: Call, id: str) -> Any:
    """One group."""
    row = await service.get(call.on, call.actor, id)
    return Created(row, plain.etag(row["updated_at"]))


@groups.put("/{id}", needs=Permission.AGENT_EDIT, answer=AgentGroup)
async def update_agent_group(call: Call, id: str, body: GroupChange) -> Any:
    """Change the given fields."""
    row = await service.update(
        call.on, call.actor, id, changes=common.changes(body), if_match=call.if_match
    )
    return Created(row, plain.etag(row["updated_at"]))


@groups.delete("/{id}", needs=Permission.AGENT_EDIT)
async def delete_agent_group(call: Call, id: str) -> None:
    """Remove a group that no renewal policy refers to."""
    await service.delete(call.on, call.actor, id)


@groups.get("/{id}/members", needs=Permission.AGENT_READ, answer=Page[Agent])
async def list_agent_group_members(call: Call, id: str, page: Paged) -> Any:
    """The agents in service that belong to a group now."""
    return await service.members(call.on, call.actor, id, page)
