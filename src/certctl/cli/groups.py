"""`certctl groups`: groups of agents."""

from __future__ import annotations

from typing import Final

import typer

from certctl.cli import find
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, show
from certctl.cli.plain import ResourceId, addable

COLUMNS: Final = ("id", "name", "match_os", "match_architecture", "match_ip_cidr", "enabled")
MEMBERS: Final = ("id", "name", "os", "architecture", "ip_address", "version", "status")
groups = addable(
    "agent-groups",
    """Groups of agents: by what they are, or by name.

    \b
    certctl groups list
    certctl groups add --from group.yaml
    certctl groups members linux-dmz             who belongs to it now
    """,
    COLUMNS,
)


@groups.command("members", cls=ApiCommand)
def members(
    ctx: typer.Context,
    group: ResourceId,
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List the agents in service that belong to a group."""
    with api(ctx) as server:
        found = find.id_of(server, "agent-groups", group)
        answer = rows(
            server, "agent-groups", found, "members", page=(page, per_page), walk=everything
        )
    show(ctx, answer, MEMBERS)
