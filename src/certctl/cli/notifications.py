"""`certctl notifications` and `certctl digest`: what people were told, or could not be."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from certctl.cli import find
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, group, output, say, show
from certctl.cli.render import Output, cell

notifications = group(
    """Notifications: alerts and outcomes, and whether anybody was told.

    \b
    certctl notifications list --status dead     what nobody was told
    certctl notifications get ne-…               with its message and last error
    certctl notifications requeue ne-…           send it again, once the receiver is mended
    certctl notifications read ne-…              seen; no more to do
    """
)
digest = group(
    """The digest of the inventory.

    \b
    certctl digest preview                       what it would say now
    certctl digest send                          over every configured channel
    """
)
SHOWN: Final = ("id", "type", "severity", "status", "channel", "created_at", "message")
EventId = Annotated[str, typer.Argument(metavar="ID")]


@notifications.command("list", cls=ApiCommand)
def list_(
    ctx: typer.Context,
    status: Annotated[str | None, typer.Option(help="pending, sent, failed, dead or read.")] = None,
    certificate: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this certificate, by id or name.")
    ] = None,
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List notifications, newest first."""
    with api(ctx) as server:
        query = {
            "status": status,
            "certificate_id": find.id_of(server, "certificates", certificate)
            if certificate
            else None,
        }
        answer = rows(server, "notifications", query=query, page=(page, per_page), walk=everything)
    show(ctx, answer, SHOWN)


@notifications.command("get", cls=ApiCommand)
def get(ctx: typer.Context, event: EventId) -> None:
    """Show one notification."""
    with api(ctx) as server:
        show(ctx, server.get("notifications", event))


@notifications.command("read", cls=ApiCommand)
def read(ctx: typer.Context, event: EventId) -> None:
    """Mark one as read that was sent, or could not be."""
    with api(ctx) as server:
        answer = server.post("notifications", event, "read")
    say(ctx, answer, f"{event} is marked as read")


@notifications.command("requeue", cls=ApiCommand)
def requeue(ctx: typer.Context, event: EventId) -> None:
    """Send again what failed or is dead."""
    with api(ctx) as server:
        answer = server.post("notifications", event, "requeue")
    say(ctx, answer, f"{event} will be sent again")


@digest.command("preview", cls=ApiCommand)
def preview(ctx: typer.Context) -> None:
    """Show what the digest would say now."""
    with api(ctx) as server:
        answer = server.get("digest")
    if output(ctx) is Output.TABLE:
        for line in (answer["subject"], "", *answer["text"].split("\n")):
            typer.echo(cell(line) if line else "")
    else:
        show(ctx, answer)


@digest.command("send", cls=ApiCommand)
def send(ctx: typer.Context) -> None:
    """Send the digest now, over every configured channel."""
    with api(ctx) as server:
        answer = server.post("digest", "send")
    say(ctx, answer, f"the digest is {answer['message']}")
