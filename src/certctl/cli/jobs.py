"""`certctl jobs`: what is queued, running, done or failed."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from certctl.cli import find
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, group, say, show

jobs = group(
    """Jobs: issuance, renewal, deployment.

    \b
    certctl jobs list --status Failed            what went wrong, newest first
    certctl jobs list --certificate www          everything about one certificate
    certctl jobs get job-…                       with its reason and attempts
    certctl jobs cancel job-…                    end one that has not ended
    certctl jobs retry job-…                     begin again what failed
    """
)
SHOWN: Final = ("id", "type", "status", "certificate_id", "attempts", "created_at", "last_error")
JobId = Annotated[str, typer.Argument(metavar="ID")]


@jobs.command("list", cls=ApiCommand)
def list_(
    ctx: typer.Context,
    status: Annotated[str | None, typer.Option(help="Such as AwaitingCSR, Failed.")] = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="Issuance, Renewal or Deployment.")
    ] = None,
    certificate: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this certificate, by id or name.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this agent, by id or name.")
    ] = None,
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List jobs, newest first."""
    with api(ctx) as server:
        query = {
            "status": status,
            "type": type_,
            "certificate_id": find.id_of(server, "certificates", certificate)
            if certificate
            else None,
            "agent_id": find.id_of(server, "agents", agent) if agent else None,
        }
        answer = rows(server, "jobs", query=query, page=(page, per_page), walk=everything)
    show(ctx, answer, SHOWN)


@jobs.command("get", cls=ApiCommand)
def get(ctx: typer.Context, job: JobId) -> None:
    """Show one job."""
    with api(ctx) as server:
        show(ctx, server.get("jobs", job))


@jobs.command("cancel", cls=ApiCommand)
def cancel(ctx: typer.Context, job: JobId) -> None:
    """Cancel a job that has not ended."""
    with api(ctx) as server:
        answer = server.post("jobs", job, "cancel")
    say(ctx, answer, f"{job} is cancelled")


@jobs.command("retry", cls=ApiCommand)
def retry(ctx: typer.Context, job: JobId) -> None:
    """Begin again what failed or was cancelled, with a new job."""
    with api(ctx) as server:
        answer = server.post("jobs", job, "retry")
    say(ctx, answer, f"{job} is begun again: {', '.join(answer['job_ids'])}")
