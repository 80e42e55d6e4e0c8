"""`certctl approvals`: what waits for a second person."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from certctl.cli import find
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, group, say, show

approvals = group(
    """Approvals: issuances that a second person decides.

    \b
    certctl approvals list --state pending       what waits for a decision
    certctl approvals approve ar-… --note "ticket 12"
    certctl approvals reject ar-… --note "wrong team"
    """
)
SHOWN: Final = ("id", "certificate_id", "common_name", "requested_by", "state", "decided_by")
ApprovalId = Annotated[str, typer.Argument(metavar="ID")]
Note = Annotated[str | None, typer.Option(help="Why; it stays in the record.")]


@approvals.command("list", cls=ApiCommand)
def list_(
    ctx: typer.Context,
    state: Annotated[
        str | None, typer.Option(help="pending, approved, rejected or expired.")
    ] = None,
    certificate: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this certificate, by id or name.")
    ] = None,
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List approvals, newest first."""
    with api(ctx) as server:
        chosen = find.id_of(server, "certificates", certificate) if certificate else None
        query = {"state": state, "certificate_id": chosen}
        answer = rows(server, "approvals", query=query, page=(page, per_page), walk=everything)
    show(ctx, answer, SHOWN)


@approvals.command("get", cls=ApiCommand)
def get(ctx: typer.Context, approval: ApprovalId) -> None:
    """Show one approval."""
    with api(ctx) as server:
        show(ctx, server.get("approvals", approval))


@approvals.command("approve", cls=ApiCommand)
def approve(ctx: typer.Context, approval: ApprovalId, note: Note = None) -> None:
    """Let it begin. Whoever asked for it is refused."""
    with api(ctx) as server:
        answer = server.post("approvals", approval, "approve", body={"note": note})
    say(ctx, answer, f"{approval} is approved by {answer['decided_by']}")


@approvals.command("reject", cls=ApiCommand)
def reject(ctx: typer.Context, approval: ApprovalId, note: Note = None) -> None:
    """Cancel what waits for it."""
    with api(ctx) as server:
        answer = server.post("approvals", approval, "reject", body={"note": note})
    say(ctx, answer, f"{approval} is rejected by {answer['decided_by']}")
