"""`certctl whoami`: whose key this is, and what it may do."""

from __future__ import annotations

import typer

from certctl.cli.options import api, output, show_rows
from certctl.cli.render import Output

COLUMNS = ("permission", "scope_type", "scope_id")


def whoami(ctx: typer.Context) -> None:
    """Show whose key this is, its roles, and what it may do."""
    with api(ctx) as server:
        me = server.get("auth", "me")
    if output(ctx) is Output.TABLE:
        roles = ", ".join(me["roles"]) or "no roles"
        admin = ", administrator" if me["admin"] else ""
        typer.echo(f"{me['actor_id']} ({me['actor_type']}{admin}): {roles}")
    if output(ctx) is not Output.TABLE or not me["admin"]:
        show_rows(ctx, me, me["effective_permissions"], COLUMNS)
