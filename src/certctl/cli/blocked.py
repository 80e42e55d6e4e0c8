"""`certctl blocked-keys`: public keys that no certificate is issued for."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from certctl.cli.options import ApiCommand, api, say
from certctl.cli.plain import resource

COLUMNS: Final = ("id", "spki_sha256", "compromised", "reason", "blocked_by", "created_at")
blocked_keys = resource(
    "blocked-keys",
    """Public keys that no certificate is issued for.

    \b
    certctl blocked-keys list
    openssl pkey -in lost.key -pubout -outform DER | openssl sha256 -r
    certctl blocked-keys add 6a1f… --because "on a disk that was sold"
    certctl blocked-keys delete bk-…
    """,
    COLUMNS,
)


@blocked_keys.command("add", cls=ApiCommand)
def add(
    ctx: typer.Context,
    spki_sha256: Annotated[
        str, typer.Argument(help="SHA-256 of the SubjectPublicKeyInfo in DER, hex.")
    ],
    because: Annotated[str, typer.Option(metavar="WORDS", help="Why it must not be used.")],
) -> None:
    """Issue nothing more for a key."""
    body = {"spki_sha256": spki_sha256.lower(), "reason": because}
    with api(ctx) as server:
        answer = server.post("blocked-keys", body=body)
    say(ctx, answer, f"key {answer['spki_sha256']} is blocked as {answer['id']}")
