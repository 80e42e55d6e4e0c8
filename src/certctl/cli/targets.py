"""`certctl targets`: where certificates are installed."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer

from certctl.cli import find, plain
from certctl.cli.options import ApiCommand, api, show
from certctl.domain.errors import Unsafe

SHOWN: Final = ("id", "name", "type", "agent_id", "enabled", "updated_at")
targets = plain.resource(
    "targets",
    """Targets: what an agent installs certificates into.

    \b
    certctl targets list
    certctl targets add web --type NGINX --agent web-1 \\
        --set cert_path=/etc/nginx/tls/web.pem --set key_path=/etc/nginx/tls/web.key \\
        --set "validate_command=nginx -t" --set "reload_command=nginx -s reload"
    certctl targets get web -o yaml              with its configuration
    certctl targets delete web
    """,
    SHOWN,
)


plain.changeable(targets, "targets")


@targets.command("add", cls=ApiCommand)
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name.")],
    type_: Annotated[str, typer.Option("--type", help="Kind of target, such as NGINX.")],
    agent: Annotated[str, typer.Option(metavar="ID", help="The agent, by id or name.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One setting; may be repeated."),
    ] = None,
    document: Annotated[
        typer.FileText | None,
        typer.Option("--config", metavar="FILE", help="Settings as JSON or YAML; - for stdin."),
    ] = None,
) -> None:
    """Add a target."""
    config = plain.fields(document.read()) if document else {}
    config |= dict(map(setting, settings or []))
    with api(ctx) as server:
        body = {
            "name": name,
            "type": type_,
            "agent_id": find.id_of(server, "agents", agent),
            "config": config,
        }
        show(ctx, server.post("targets", body=body))


def setting(text: str) -> tuple[str, Any]:
    """`name=value`; a number, true, false or JSON document is taken as such, the rest as text.

    Raises:
        Unsafe: without a name or an equals sign.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Unsafe(f"--set: write NAME=VALUE, not {text}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
