"""`certctl roles`: what keys and people may do."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from certctl.cli.keys import Issuer, Profile, RoleId, place
from certctl.cli.options import ApiCommand, api, group, say, show, show_rows

roles = group(
    """Roles: the built-in ones, and those of your own.

    \b
    certctl roles list
    certctl roles create "Shop team"             prints the id of a role that permits nothing yet
    certctl roles allow r-… cert.read --issuer iss-shop
    certctl keys grant ci r-…
    """
)
SHOWN: Final = ("id", "name", "built_in", "description")
PERMISSIONS: Final = ("permission", "scope_type", "scope_id")
Permission = Annotated[str, typer.Argument(metavar="PERMISSION", help="Such as cert.read.")]


@roles.command("list", cls=ApiCommand)
def list_(ctx: typer.Context) -> None:
    """List the roles."""
    with api(ctx) as server:
        answer = server.get("auth", "roles")
    show_rows(ctx, answer, answer["roles"], SHOWN)


@roles.command("get", cls=ApiCommand)
def get(ctx: typer.Context, role: RoleId) -> None:
    """Show what a role permits."""
    with api(ctx) as server:
        answer = server.get("auth", "roles", role)
    show_rows(ctx, answer, answer["permissions"], PERMISSIONS)


@roles.command("permissions", cls=ApiCommand)
def permissions(ctx: typer.Context) -> None:
    """List every permission there is."""
    with api(ctx) as server:
        answer = server.get("auth", "permissions")
    show_rows(ctx, answer, answer["permissions"], ("name", "namespace"))


@roles.command("create", cls=ApiCommand)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Make a role that permits nothing yet, and print its id."""
    with api(ctx) as server:
        made = server.post("auth", "roles", body={"name": name, "description": description})
    say(ctx, made, made["id"])


@roles.command("change", cls=ApiCommand)
def change(
    ctx: typer.Context,
    role: RoleId,
    name: Annotated[str | None, typer.Option(help="Its new name.")] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
) -> None:
    """Change a role's name or description."""
    given = {"name": name, "description": description}
    body = {field: text for field, text in given.items() if text is not None}
    with api(ctx) as server:
        show(ctx, server.put("auth", "roles", role, body=body))


@roles.command("delete", cls=ApiCommand)
def delete(ctx: typer.Context, role: RoleId) -> None:
    """Delete a role that nobody has."""
    with api(ctx) as server:
        answer = server.delete("auth", "roles", role)
    say(ctx, answer, f"role {role} is deleted")


@roles.command("allow", cls=ApiCommand)
def allow(
    ctx: typer.Context,
    role: RoleId,
    permission: Permission,
    issuer: Issuer = None,
    profile: Profile = None,
) -> None:
    """Let a role permit something that you hold yourself."""
    body = {"permission": permission, **place(issuer, profile)}
    with api(ctx) as server:
        answer = server.post("auth", "roles", role, "permissions", body=body)
    say(ctx, answer, f"role {role} permits {permission}")


@roles.command("disallow", cls=ApiCommand)
def disallow(
    ctx: typer.Context,
    role: RoleId,
    permission: Permission,
    issuer: Issuer = None,
    profile: Profile = None,
) -> None:
    """Take a permission from a role."""
    with api(ctx) as server:
        answer = server.delete(
            "auth", "roles", role, "permissions", permission, query=place(issuer, profile)
        )
    say(ctx, answer, f"role {role} no longer permits {permission}")
