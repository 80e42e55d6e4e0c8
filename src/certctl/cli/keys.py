"""`certctl keys`: API keys and what they may do."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from certctl.cli.options import ApiCommand, api, group, say, show, show_rows
from certctl.domain.errors import NotFound, Unsafe

keys = group(
    """API keys: who calls, with what secret, and what they may do.

    \b
    certctl keys create ci --role r-operator --expires-at 2030-01-01T00:00:00Z
    certctl keys rotate ci --overlap 3600        the old secret goes on for an hour
    certctl keys grant ci r-viewer --issuer iss-local
    certctl keys revoke ci
    """
)
SHOWN: Final = ("name", "source", "roles", "secrets", "last_used_at")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The key's name.")]
RoleId = Annotated[str, typer.Argument(metavar="ROLE", help="Id of the role.")]
Issuer = Annotated[str | None, typer.Option(metavar="ID", help="Only for this issuer.")]
Profile = Annotated[str | None, typer.Option(metavar="ID", help="Only for this profile.")]
Ends = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="When it ends; RFC 3339, such as 2030-01-31T00:00:00Z."),
]


@keys.command("list", cls=ApiCommand)
def list_(ctx: typer.Context) -> None:
    """List every name with its roles."""
    with api(ctx) as server:
        answer = server.get("auth", "keys")
    show_rows(ctx, answer, [_line(row) for row in answer["keys"]], SHOWN)


@keys.command("get", cls=ApiCommand)
def get(ctx: typer.Context, name: Name) -> None:
    """Show a name, its roles, and its secrets' lives."""
    with api(ctx) as server:
        for row in server.get("auth", "keys")["keys"]:
            if row["actor_id"] == name:
                return show(ctx, row)
    raise NotFound(f"key {name} does not exist")


@keys.command("create", cls=ApiCommand)
def create(
    ctx: typer.Context,
    name: Name,
    role: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A role of it; may be repeated.")
    ] = None,
    expires_at: Ends = None,
) -> None:
    """Make a key, and print its secret this once."""
    body = {"name": name, "role_ids": role or [], "expires_at": expires_at}
    with api(ctx) as server:
        made = server.post("auth", "keys", body=body)
    say(ctx, made, made["key_value"])


@keys.command("rotate", cls=ApiCommand)
def rotate(
    ctx: typer.Context,
    name: Name,
    overlap: Annotated[
        int, typer.Option(metavar="SECONDS", help="How long earlier secrets go on.")
    ] = 86_400,
    expires_at: Ends = None,
) -> None:
    """Make another secret for a name, and print it this once."""
    body = {"overlap_seconds": overlap, "expires_at": expires_at}
    with api(ctx) as server:
        made = server.post("auth", "keys", name, "rotate", body=body)
    say(ctx, made, made["key_value"])


@keys.command("revoke", cls=ApiCommand)
def revoke(ctx: typer.Context, name: Name) -> None:
    """Revoke every secret of a name, and take its roles away."""
    with api(ctx) as server:
        answer = server.delete("auth", "keys", name)
    say(ctx, answer, f"key {name} is revoked")


@keys.command("grant", cls=ApiCommand)
def grant(
    ctx: typer.Context,
    name: Name,
    role: RoleId,
    issuer: Issuer = None,
    profile: Profile = None,
    expires_at: Ends = None,
) -> None:
    """Give a key a role, for everything or for one issuer or profile."""
    body = {"role_id": role, **place(issuer, profile), "expires_at": expires_at}
    with api(ctx) as server:
        answer = server.post("auth", "keys", name, "roles", body=body)
    say(ctx, answer, f"key {name} has the role {role}")


@keys.command("ungrant", cls=ApiCommand)
def ungrant(
    ctx: typer.Context,
    name: Name,
    role: RoleId,
    issuer: Issuer = None,
    profile: Profile = None,
) -> None:
    """Take a role away from a key."""
    with api(ctx) as server:
        answer = server.delete("auth", "keys", name, "roles", role, query=place(issuer, profile))
    say(ctx, answer, f"key {name} no longer has the role {role}")


def place(issuer: str | None, profile: str | None) -> dict[str, Any]:
    """The scope that the options name; raises Unsafe when they name two."""
    if issuer and profile:
        raise Unsafe("--issuer and --profile: give one of them")
    if issuer:
        return {"scope_type": "issuer", "scope_id": issuer}
    return {"scope_type": "profile", "scope_id": profile} if profile else {"scope_type": "global"}


def _line(row: dict[str, Any]) -> dict[str, Any]:
    roles = [
        role["role_id"] + (f" ({role['scope_id']})" if role["scope_id"] else "")
        for role in row["roles"]
    ]
    used = [key["last_used_at"] for key in row["keys"] if key["last_used_at"]]
    return {
        "name": row["actor_id"],
        "source": row["source"],
        "roles": ", ".join(roles),
        "secrets": len(row["keys"]),
        "last_used_at": max(used, default=None),
    }
