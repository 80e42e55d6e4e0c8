"""`certctl rules`: rules over the inventory, and where they are broken."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from certctl.cli import find
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, show
from certctl.cli.plain import ResourceId, addable

VIOLATIONS: Final = ("certificate_id", "severity", "message", "created_at", "resolved_at")
rules = addable(
    "policies",
    """Policy rules: what the inventory has to keep to.

    \b
    certctl rules list
    certctl rules add --from rule.yaml
    certctl rules violations only-our-domains    where it is broken
    """,
    ("id", "name", "type", "severity", "blocking", "enabled"),
)


@rules.command("violations", cls=ApiCommand)
def violations(
    ctx: typer.Context,
    rule: ResourceId,
    resolved: Annotated[bool, typer.Option("--resolved", help="Those that are over.")] = False,
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List where a rule is broken, newest first."""
    with api(ctx) as server:
        found = find.id_of(server, "policies", rule)
        answer = rows(
            server,
            "policies",
            found,
            "violations",
            query={"resolved": resolved},
            page=(page, per_page),
            walk=everything,
        )
    show(ctx, answer, VIOLATIONS)
