"""`certctl audit`: who did what, and when."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from certctl.cli import trail
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, group, show

audit = group(
    """The audit trail.

    \b
    certctl audit list                           the newest events
    certctl audit list --actor admin --since 2026-01-01T00:00:00Z
    certctl audit list --resource-id mc-…        the life of one certificate
    certctl audit list --all -o json             every event, for a program
    certctl audit export --from 2026-01-01T00:00:00Z --out audit.ndjson
    certctl audit checkpoint --out kept.json --key kept.pem
    certctl audit verify --export audit.ndjson --checkpoint kept.json --key kept.pem
    """
)
audit.command("export", cls=ApiCommand)(trail.export)
audit.command("checkpoint", cls=ApiCommand)(trail.checkpoint)
audit.command("verify", cls=ApiCommand)(trail.verify)
SHOWN: Final = ("timestamp", "actor", "action", "resource_type", "resource_id")


@audit.command("list", cls=ApiCommand)
def list_(
    ctx: typer.Context,
    category: Annotated[str | None, typer.Option(help="cert_lifecycle, auth or config.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only by this actor.")] = None,
    resource_type: Annotated[str | None, typer.Option(help="Such as certificate.")] = None,
    resource_id: Annotated[str | None, typer.Option(metavar="ID", help="Only about this.")] = None,
    since: Annotated[str | None, typer.Option(help="From this time on, with its zone.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time.")] = None,
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List events, newest first."""
    query = {
        "category": category,
        "actor": actor,
        "resource_type": resource_type,
        "resource_id": resource_id,
        "since": since,
        "until": until,
    }
    with api(ctx) as server:
        answer = rows(server, "audit", query=query, page=(page, per_page), walk=everything)
    show(ctx, answer, SHOWN)
