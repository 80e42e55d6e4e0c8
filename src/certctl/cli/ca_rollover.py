"""`certctl ca recertify` and `cutover`: a new CA above one of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import typer

from certctl.cli.ca import CaId
from certctl.cli.options import api, say

ParentFlag = Annotated[str, typer.Option("--parent", metavar="CA", help="The CA above.")]


def recertify(
    ctx: typer.Context,
    ca_id: CaId,
    parent: ParentFlag,
    days: Annotated[
        int | None, typer.Option(help="Its life, at most that of the CA above.")
    ] = None,
) -> None:
    """Have another CA above certify a CA too; chains stay as they are until `cutover`."""
    body = {"parent_ca_id": parent, "ttl_days": days}
    with api(ctx) as server:
        answer = server.post("intermediates", ca_id, "recertify", body=body)
    until = next(
        each["not_after"] for each in answer["other_certificates"] if each["parent_ca_id"] == parent
    )
    say(ctx, answer, f"CA {ca_id} has a certificate by {parent} too, until {until}")


def cutover(ctx: typer.Context, ca_id: CaId, parent: ParentFlag) -> None:
    """Let chains go by the certificate that another CA above has signed."""
    with api(ctx) as server:
        answer = server.post("intermediates", ca_id, "cutover", body={"parent_ca_id": parent})
    say(ctx, answer, f"chains of CA {ca_id} go by {parent}, until {answer['not_after']}")


COMMANDS: Final[dict[str, Callable[..., None]]] = {"recertify": recertify, "cutover": cutover}
