"""`certctl status`: is the server there, is it ready, and who am I to it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from certctl.cli import render
from certctl.cli.exits import UNREACHABLE
from certctl.cli.options import api, output, show
from certctl.cli.render import Output

if TYPE_CHECKING:
    from certctl.cli.client import Api


def status(ctx: typer.Context) -> None:
    """Show health, readiness, version, and whose key this is; 4 when it is not ready."""
    with api(ctx) as server:
        answer = ask(server)
    if output(ctx) is Output.TABLE:
        typer.echo(render.card(flat(answer)), nl=False)
    else:
        show(ctx, answer)
    if answer["ready"]["status"] != "ready":
        raise typer.Exit(UNREACHABLE)


def ask(server: Api) -> dict[str, Any]:
    """What the probes say, and the identity behind the key when there is one."""
    _, health = server.probe("/health")
    _, ready = server.probe("/ready")
    return {
        "server": server.access.server_url,
        "health": health,
        "ready": ready,
        "version": server.get("version"),
        "auth": server.get("auth", "check") if server.access.api_key else None,
    }


def flat(answer: dict[str, Any]) -> dict[str, Any]:
    """The facts a person looks for, one to a line."""
    auth = answer["auth"]
    parts = {name: state for name, state in answer["ready"].items() if name != "status"}
    return {
        "server": answer["server"],
        "health": answer["health"]["status"],
        "ready": answer["ready"]["status"],
        **parts,
        "version": answer["version"]["version"],
        "signed in as": auth["actor_id"] if auth else "nobody: no API key was given",
        "roles": auth["roles"] if auth else None,
    }
