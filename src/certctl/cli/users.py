"""`certctl users` and `certctl sessions`: people, and the browsers they are signed in with."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from certctl.cli.options import ApiCommand, api, group, say, show_rows

users = group(
    """People who have signed in by an OpenID provider.

    \b
    certctl users list
    certctl keys grant u-… r-operator            roles are given as to keys
    certctl users deactivate u-…                 out at once, in every browser
    """
)
sessions = group(
    """Browser sessions.

    \b
    certctl sessions list --user u-…
    certctl sessions revoke ses-…
    """
)
PEOPLE: Final = ("id", "email", "display_name", "roles", "last_login_at", "deactivated_at")
BROWSERS: Final = ("id", "actor_id", "signed_in_by", "ip_address", "last_seen_at", "until")
UserId = Annotated[str, typer.Argument(metavar="USER", help="The person's id.")]
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]


@users.command("list", cls=ApiCommand)
def list_users(
    ctx: typer.Context,
    provider: Annotated[
        str | None, typer.Option(metavar="ID", help="Only those of this provider.")
    ] = None,
) -> None:
    """List everybody who has signed in once."""
    with api(ctx) as server:
        answer = server.get("auth", "users", oidc_provider_id=provider)
    rows = [{**row, "roles": ", ".join(row["role_ids"])} for row in answer["users"]]
    show_rows(ctx, answer, rows, PEOPLE)


@users.command("deactivate", cls=ApiCommand)
def deactivate(ctx: typer.Context, user: UserId) -> None:
    """Shut somebody out, and end their sessions."""
    with api(ctx) as server:
        answer = server.delete("auth", "users", user)
    say(ctx, answer, f"user {user} is deactivated")


@users.command("reactivate", cls=ApiCommand)
def reactivate(ctx: typer.Context, user: UserId) -> None:
    """Let somebody sign in again."""
    with api(ctx) as server:
        answer = server.post("auth", "users", user, "reactivate")
    say(ctx, answer, f"user {user} may sign in again")


@sessions.command("list", cls=ApiCommand)
def list_sessions(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Option(metavar="ID", help="Only those of this person.")] = (
        None
    ),
) -> None:
    """List the sessions that are not over."""
    with api(ctx) as server:
        answer = server.get("auth", "sessions", actor_id=user)
    show_rows(ctx, answer, [_browser(row) for row in answer["sessions"]], BROWSERS)


@sessions.command("revoke", cls=ApiCommand)
def revoke(ctx: typer.Context, session: SessionId) -> None:
    """End a session."""
    with api(ctx) as server:
        answer = server.delete("auth", "sessions", session)
    say(ctx, answer, f"session {session} is over")


def _browser(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "until": row["idle_expires_at"]}
