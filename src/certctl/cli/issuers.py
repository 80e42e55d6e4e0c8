"""`certctl issuers`: who signs."""

from __future__ import annotations

from typing import Final

import typer

from certctl.cli import find, plain
from certctl.cli.options import ApiCommand, api, say

SHOWN: Final = ("id", "name", "type", "enabled", "updated_at")
issuers = plain.addable(
    "issuers",
    """Issuers: the CAs that sign.

    \b
    certctl issuers list
    certctl issuers get iss-local -o json
    certctl issuers test iss-local               could it issue now?
    certctl issuers add --from issuer.yaml
    """,
    SHOWN,
)


@issuers.command("test", cls=ApiCommand)
def check(ctx: typer.Context, issuer: plain.ResourceId) -> None:
    """Ask whether the issuer could issue now."""
    with api(ctx) as server:
        found = find.id_of(server, "issuers", issuer)
        answer = server.post("issuers", found, "test")
    say(ctx, answer, f"{found} could issue now")
