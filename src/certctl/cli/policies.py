"""`certctl rules`: rules over the inventory, and where they are broken."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from certctl.cli import find
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, show
from certctl.cli.plain import ResourceId, addable

SHOWN: Final = ("severity", "message", "found_on", "created_at", "resolved_at")
ResolvedFlag = Annotated[bool, typer.Option("--resolved", help="Those that are over.")]
SeverityFlag = Annotated[
    str | None, typer.Option("--severity", help="Only Warning, Error or Critical.")
]
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
    resolved: ResolvedFlag = False,
    severity: SeverityFlag = None,
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
            query={"resolved": resolved, "severity": severity},
            page=(page, per_page),
            walk=everything,
        )
    show(ctx, answer, ("certificate_id", *SHOWN))


def violations_of(
    ctx: typer.Context,
    certificate: ResourceId,
    resolved: ResolvedFlag = False,
    rule: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this rule, by id or name.")
    ] = None,
    severity: SeverityFlag = None,
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List the policy rules that a certificate breaks, newest first."""
    query: dict[str, Any] = {"resolved": resolved, "severity": severity}
    with api(ctx) as server:
        found = find.id_of(server, "certificates", certificate)
        query["rule_id"] = find.id_of(server, "policies", rule) if rule else None
        answer = rows(
            server,
            "certificates",
            found,
            "violations",
            query=query,
            page=(page, per_page),
            walk=everything,
        )
    show(ctx, answer, ("rule_id", *SHOWN))
