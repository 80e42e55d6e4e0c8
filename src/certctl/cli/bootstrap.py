"""`certctl bootstrap`: the first administrator, by the operator's one-time token."""

from __future__ import annotations

from typing import Annotated

import typer

from certctl.cli.options import api, say


def bootstrap(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The administrator's name.")],
    token_file: Annotated[
        typer.FileText | None,
        typer.Option(metavar="FILE", help="First line: the token; - for stdin; else asked."),
    ] = None,
) -> None:
    """Exchange CERTCTL_BOOTSTRAP_TOKEN for the first administrator's key, and print it once."""
    if token_file is not None:
        token = token_file.readline().strip()
    else:
        token = typer.prompt("Bootstrap token", hide_input=True)
    with api(ctx) as server:
        body = {"token": token, "actor_name": name}
        made = server.post("auth", "bootstrap", body=body)
    say(ctx, made, made["key_value"])
