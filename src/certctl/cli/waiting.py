"""`--wait`: stay until the jobs of an operation have ended, and say on stderr how they fare."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certctl.cli.follow import follow

if TYPE_CHECKING:
    from certctl.cli.client import Api

WaitFlag = Annotated[bool, typer.Option("--wait", help="Stay until its jobs have ended.")]
TimeoutFlag = Annotated[
    float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Longest wait.")
]


def until_done(
    api: Api, certificate_id: str, *, job_ids: Sequence[str] | None, timeout: float
) -> dict[str, Any]:
    """The certificate once every job of the operation has ended well.

    Raises:
        Refused: when a job failed. Unavailable: after `timeout` seconds.
    """
    told: dict[str, str] = {}
    start = time.monotonic()
    for jobs in follow(api, certificate_id, job_ids=job_ids, seconds=timeout):
        for job in jobs:
            if told.get(job["id"]) != job["status"]:
                told[job["id"]] = job["status"]
                elapsed = time.monotonic() - start
                typer.echo(f"{elapsed:6.1f} s  {job['type']}  {job['status']}", err=True)
    if not told:
        typer.echo("no job was begun: bind a target or send --csr", err=True)
    row: dict[str, Any] = api.get("certificates", certificate_id)
    return row
