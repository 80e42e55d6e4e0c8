"""`certctl bulk`: revoke, renew and reassign many certificates."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from certctl.cli import find
from certctl.cli.options import ApiCommand, api, group, say, show
from certctl.domain.errors import Unavailable

if TYPE_CHECKING:
    from certctl.cli.client import Api

bulk = group(
    """Many certificates with one call: by ids, by filter, or both.

    \b
    certctl bulk revoke --issuer iss-old --reason superseded --dry-run
    certctl bulk renew --expires-before 2030-02-01T00:00:00Z
    certctl bulk reassign mc-1 mc-2 --to-owner o-new
    certctl bulk get bulk-…                      how far a large one is
    """
)
PAUSE: Final = 1.0  # seconds
DONE: Final = {"revoke": "total_revoked", "renew": "total_enqueued", "reassign": "total_reassigned"}
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids or unique names.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")]
Timeout = Annotated[float, typer.Option(help="Longest wait for a large one, in seconds.")]
Environment = Annotated[str | None, typer.Option(help="Only this environment.")]
Issuer = Annotated[str | None, typer.Option(metavar="ID", help="Only of this issuer.")]
Owner = Annotated[str | None, typer.Option(metavar="ID", help="Only of this owner.")]
Team = Annotated[str | None, typer.Option(metavar="ID", help="Only of this team.")]
Profile = Annotated[str | None, typer.Option(metavar="ID", help="Only of this profile.")]
Agent = Annotated[str | None, typer.Option(metavar="ID", help="Only of this agent.")]
Before = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only what expires before; RFC 3339.")
]


@bulk.command("revoke", cls=ApiCommand)
def revoke(
    ctx: typer.Context,
    reason: Annotated[str, typer.Option(help="RFC 5280 reason, such as keyCompromise.")],
    certificates: Ids = None,
    issuer: Issuer = None,
    owner: Owner = None,
    team: Team = None,
    profile: Profile = None,
    agent: Agent = None,
    environment: Environment = None,
    expires_before: Before = None,
    dry_run: DryRun = False,
    timeout: Timeout = 600,
) -> None:
    """Revoke many certificates; needs the permission cert.bulk_revoke."""
    body = _filters(issuer, owner, team, profile, agent, environment, expires_before)
    _do(ctx, "revoke", certificates, {**body, "reason": reason, "dry_run": dry_run}, timeout)


@bulk.command("renew", cls=ApiCommand)
def renew(
    ctx: typer.Context,
    certificates: Ids = None,
    issuer: Issuer = None,
    owner: Owner = None,
    team: Team = None,
    profile: Profile = None,
    agent: Agent = None,
    environment: Environment = None,
    expires_before: Before = None,
    dry_run: DryRun = False,
    timeout: Timeout = 600,
) -> None:
    """Renew many certificates."""
    body = _filters(issuer, owner, team, profile, agent, environment, expires_before)
    _do(ctx, "renew", certificates, {**body, "dry_run": dry_run}, timeout)


@bulk.command("reassign", cls=ApiCommand)
def reassign(
    ctx: typer.Context,
    to_owner: Annotated[str, typer.Option(metavar="ID", help="Who answers for them now.")],
    certificates: Ids = None,
    to_team: Annotated[str | None, typer.Option(metavar="ID", help="Whose they are now.")] = None,
    owner: Owner = None,
    team: Team = None,
    issuer: Issuer = None,
    environment: Environment = None,
    dry_run: DryRun = False,
    timeout: Timeout = 600,
) -> None:
    """Give many certificates to another owner."""
    body = {
        "owner_id": to_owner,
        "team_id": to_team,
        "from_owner_id": owner,
        "from_team_id": team,
        "issuer_id": issuer,
        "environment": environment,
        "dry_run": dry_run,
    }
    _do(ctx, "reassign", certificates, body, timeout)


@bulk.command("get", cls=ApiCommand)
def get(ctx: typer.Context, operation: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Show how far an operation is."""
    with api(ctx) as server:
        show(ctx, server.get("bulk-operations", operation))


def _filters(*values: str | None) -> dict[str, Any]:
    names = (
        "issuer_id",
        "owner_id",
        "team_id",
        "profile_id",
        "agent_id",
        "environment",
        "expires_before",
    )
    return dict(zip(names, values, strict=True))


def _do(
    ctx: typer.Context, kind: str, ids: list[str] | None, body: dict[str, Any], timeout: float
) -> None:
    """Exit status 1 when one has failed."""
    with api(ctx) as server:
        if ids:
            body["certificate_ids"] = [find.id_of(server, "certificates", each) for each in ids]
        told = server.post("certificates", f"bulk-{kind}", body=body)
        told = _ended(server, told, timeout)
    counts = ", ".join(f"{told[f'total_{word}']} {word}" for word in ("skipped", "failed"))
    verb = "would be" if told["state"] == "dry_run" else "are"
    failures = "".join(f"\n{each['certificate_id']}: {each['error']}" for each in told["errors"])
    words = DONE[kind].removeprefix("total_")
    say(
        ctx,
        told,
        f"{told[DONE[kind]]} of {told['total_matched']} {verb} {words}, {counts}{failures}",
    )
    if told["total_failed"]:
        raise typer.Exit(1)


def _ended(server: Api, told: dict[str, Any], timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while told["state"] == "running":
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{told['id']} goes on: {timeout:g} s are over; see certctl bulk get {told['id']}"
            )
        time.sleep(PAUSE)
        told = server.get("bulk-operations", told["id"])
    return told
