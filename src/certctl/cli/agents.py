"""`certctl agents`: the hosts that hold keys and install certificates."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Final

import typer

from certctl.cli import find
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, group, say, show, show_rows

agents = group(
    """Agents: the hosts that make keys and install certificates.

    \b
    certctl agents list                          who is there, and since when silent
    certctl agents enrol --name web-1            a one-time token, and the lines for that host
    certctl agents get web-1
    certctl agents enrol --again web-1           for a host that has lost its credential
    certctl agents revoke-credential web-1       from now on a stranger
    certctl agents retire web-1 --force --reason "host is gone"
    """
)
SHOWN: Final = ("id", "name", "hostname", "status", "version", "last_heartbeat_at")
RETIRED: Final = ("id", "name", "hostname", "retired_at", "retired_reason")
TOKENS: Final = ("id", "created_by", "expires_at", "agent_group_id", "for_agent_id")
AgentId = Annotated[str, typer.Argument(metavar="ID", help="Id or unique name.")]


@agents.command("list", cls=ApiCommand)
def list_(
    ctx: typer.Context,
    retired: Annotated[bool, typer.Option("--retired", help="Those out of service.")] = False,
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List agents in service."""
    path = ("agents", "retired") if retired else ("agents",)
    with api(ctx) as server:
        answer = rows(server, *path, page=(page, per_page), walk=everything)
    show(ctx, answer, RETIRED if retired else SHOWN)


@agents.command("get", cls=ApiCommand)
def get(ctx: typer.Context, agent: AgentId) -> None:
    """Show one agent."""
    with api(ctx) as server:
        show(ctx, find.one(server, "agents", agent))


@agents.command("enrol", cls=ApiCommand)
def enrol(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="Its name; default: the host's.")] = None,
    ttl: Annotated[
        int, typer.Option(min=60, max=7 * 86400, metavar="SECONDS", help="Life of the token.")
    ] = 3600,
    group_id: Annotated[
        str | None, typer.Option("--group", metavar="ID", help="Put it into this agent group.")
    ] = None,
    again: Annotated[
        str | None,
        typer.Option(metavar="ID", help="For this agent, which has lost its credential."),
    ] = None,
) -> None:
    """Make a one-time token, and print the lines to run on the agent's host."""
    with api(ctx) as server:
        body: dict[str, Any] = {"ttl_seconds": ttl}
        if group_id:
            body["agent_group_id"] = find.id_of(server, "agent-groups", group_id)
        if again:
            body["agent_id"] = find.id_of(server, "agents", again)
        made = server.post("agents", "enrolment-tokens", body=body)
        url = server.access.server_url
    say(ctx, made, enrolment_lines(made, url, name))


def enrolment_lines(made: dict[str, Any], server_url: str, name: str | None) -> str:
    """What a person pastes on the agent's host; the token names the CA to trust."""
    lines = [
        f"# Run on the agent's host before {made['expires_at']}; the token is good for one agent.",
        f"export CERTCTL_SERVER_URL={shlex.quote(server_url)}",
        f"export CERTCTL_AGENT_ENROLMENT_TOKEN={shlex.quote(made['token'])}",
    ]
    if name:
        lines.append(f"export CERTCTL_AGENT_NAME={shlex.quote(name)}")
    return "\n".join([*lines, "certctl agent"])


@agents.command("tokens", cls=ApiCommand)
def tokens(ctx: typer.Context) -> None:
    """List the enrolment tokens that can still be used."""
    with api(ctx) as server:
        answer = server.get("agents", "enrolment-tokens")
    show_rows(ctx, answer, answer["tokens"], TOKENS)


@agents.command("revoke-token", cls=ApiCommand)
def revoke_token(ctx: typer.Context, token: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Let an enrolment token that was not used be of no use."""
    with api(ctx) as server:
        answer = server.delete("agents", "enrolment-tokens", token)
    say(ctx, answer, f"{token} is revoked")


@agents.command("revoke-credential", cls=ApiCommand)
def revoke_credential(ctx: typer.Context, agent: AgentId) -> None:
    """Make an agent a stranger, until it enrols with `enrol --again`."""
    with api(ctx) as server:
        found = find.id_of(server, "agents", agent)
        answer = server.delete("agents", found, "credential")
    say(ctx, answer, f"the credential of {found} is revoked")


@agents.command("retire", cls=ApiCommand)
def retire(
    ctx: typer.Context,
    agent: AgentId,
    force: Annotated[
        bool, typer.Option("--force", help="Also while targets or jobs depend on it.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; needed with --force.")] = "",
) -> None:
    """Retire an agent for good."""
    with api(ctx) as server:
        found = find.id_of(server, "agents", agent)
        query = {"force": str(force).lower(), "reason": reason}
        answer = server.delete("agents", found, query=query)
    say(ctx, answer, f"{found} is retired")
