"""`certctl stats`: the inventory in numbers."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from certctl.cli.options import ApiCommand, api, group, show

stats = group(
    """Statistics over the whole inventory.

    \b
    certctl stats summary
    certctl stats expirations --days 90          how many end on each day
    """
)
Days = Annotated[int, typer.Option(min=1, max=365, help="How many days.")]
COUNTS: Final = ("date", "count")


@stats.command("summary", cls=ApiCommand)
def summary(ctx: typer.Context) -> None:
    """Certificates, agents and jobs in numbers."""
    with api(ctx) as server:
        show(ctx, server.get("stats", "summary"))


@stats.command("status", cls=ApiCommand)
def status(ctx: typer.Context) -> None:
    """How many certificates there are in each status."""
    with api(ctx) as server:
        counts = server.get("stats", "certificates-by-status")["status_counts"]
    show(ctx, {"data": counts}, ("status", "count"))


@stats.command("expirations", cls=ApiCommand)
def expirations(ctx: typer.Context, days: Days = 30) -> None:
    """How many certificates end on each of the coming days."""
    with api(ctx) as server:
        buckets = server.get("stats", "expiration-timeline", days=days)["buckets"]
    show(ctx, {"data": buckets}, COUNTS)


@stats.command("issuances", cls=ApiCommand)
def issuances(ctx: typer.Context, days: Days = 30) -> None:
    """How many certificates were issued on each of the past days."""
    with api(ctx) as server:
        rate = server.get("stats", "issuance-rate", days=days)["rate"]
    show(ctx, {"data": rate}, COUNTS)


@stats.command("jobs", cls=ApiCommand)
def jobs(ctx: typer.Context, days: Days = 30) -> None:
    """How many jobs were completed and failed on each of the past days."""
    with api(ctx) as server:
        trends = server.get("stats", "job-trends", days=days)["trends"]
    show(ctx, {"data": trends}, ("date", "completed", "failed"))
