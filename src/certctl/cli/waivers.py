"""`certctl waivers`: lint findings that two people let pass for a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from certctl.cli import find
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, group, say, show

waivers = group(
    """Lint waivers: findings that do not block one profile for a time.

    \b
    certctl waivers ask strict pkix.… --days 30 --because "the old proxy needs it"
    certctl waivers list --state pending
    certctl waivers approve lw-… --note "ticket 12"        another person than who asked
    certctl waivers withdraw lw-…                          it blocks again
    """
)
SHOWN: Final = ("id", "profile_id", "code", "requested_by", "state", "in_force", "ends_at")
WaiverId = Annotated[str, typer.Argument(metavar="ID")]
ProfileText: Final = "Of the profile, by id or name."
Note = Annotated[str | None, typer.Option(help="Why; it stays in the record.")]


@waivers.command("list", cls=ApiCommand)
def list_(
    ctx: typer.Context,
    state: Annotated[
        str | None, typer.Option(help="pending, approved, rejected or withdrawn.")
    ] = None,
    profile: Annotated[str | None, typer.Option(metavar="ID", help=ProfileText)] = None,
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List lint waivers, newest first."""
    with api(ctx) as server:
        chosen = find.id_of(server, "profiles", profile) if profile else None
        query = {"state": state, "profile_id": chosen}
        answer = rows(server, "lint-waivers", query=query, page=(page, per_page), walk=everything)
    show(ctx, answer, SHOWN)


@waivers.command("get", cls=ApiCommand)
def get(ctx: typer.Context, waiver: WaiverId) -> None:
    """Show one lint waiver."""
    with api(ctx) as server:
        show(ctx, server.get("lint-waivers", waiver))


@waivers.command("ask", cls=ApiCommand)
def ask(
    ctx: typer.Context,
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="Its id or name.")],
    code: Annotated[str, typer.Argument(help="As the refusal names it: pkix.…")],
    because: Annotated[str, typer.Option(metavar="WORDS", help="Why it may pass.")],
    days: Annotated[int, typer.Option(min=1, max=365, help="Until when from now.")] = 30,
) -> None:
    """Ask that a lint code does not block a profile; another person decides."""
    # A minute less, so that clocks which differ do not make more than a year of it.
    ends = datetime.now(UTC) + timedelta(days=days, minutes=-1)
    with api(ctx) as server:
        body = {
            "profile_id": find.id_of(server, "profiles", profile),
            "code": code,
            "reason": because,
            "ends_at": ends.isoformat(timespec="seconds"),
        }
        answer = server.post("lint-waivers", body=body)
    say(ctx, answer, f"{answer['id']} waits for a second person; it would end {answer['ends_at']}")


@waivers.command("approve", cls=ApiCommand)
def approve(ctx: typer.Context, waiver: WaiverId, note: Note = None) -> None:
    """Let the code pass from now on. Whoever asked is refused."""
    answer = _decided(ctx, waiver, "approve", note=note)
    say(ctx, answer, f"{waiver} is approved by {answer['decided_by']} until {answer['ends_at']}")


@waivers.command("reject", cls=ApiCommand)
def reject(ctx: typer.Context, waiver: WaiverId, note: Note = None) -> None:
    """Leave the code as it is."""
    answer = _decided(ctx, waiver, "reject", note=note)
    say(ctx, answer, f"{waiver} is rejected by {answer['decided_by']}")


@waivers.command("withdraw", cls=ApiCommand)
def withdraw(ctx: typer.Context, waiver: WaiverId, note: Note = None) -> None:
    """End it at once: the code blocks again."""
    answer = _decided(ctx, waiver, "withdraw", note=note)
    say(ctx, answer, f"{waiver} is withdrawn by {answer['withdrawn_by']}")


def _decided(ctx: typer.Context, waiver: str, word: str, *, note: str | None) -> Any:
    with api(ctx) as server:
        return server.post("lint-waivers", waiver, word, body={"note": note})
