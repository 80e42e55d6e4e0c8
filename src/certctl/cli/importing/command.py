"""The command: find, send by the hundred, and tell what came of each certificate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from certctl.cli.exits import REFUSED
from certctl.cli.importing.found import Found
from certctl.cli.options import api, show
from certctl.cli.render import cell
from certctl.domain.errors import NotFound, Unsafe

if TYPE_CHECKING:
    from certctl.cli.importing.find import Format, Harvest

BATCH: Final = 100
BATCH_BYTES: Final = 600_000
SHOWN: Final = ("path", "name", "outcome", "certificate_id", "error")
FORMATS: Final = ("auto", "pem", "certbot", "acme.sh", "lego", "dehydrated", "caddy")
OUTCOMES: Final = ("imported", "updated", "unchanged", "failed")


def import_(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Directories or files; only read.")
    ],
    watched: Annotated[
        bool, typer.Option("--watched", help="Only watch them: never renew, never deploy.")
    ] = False,
    owner: Annotated[str, typer.Option(metavar="ID", help="Who answers for them.")] = "o-default",
    team: Annotated[str, typer.Option(metavar="ID", help="Whose they are.")] = "t-default",
    policy: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Renewal policy; default: rp-default, none if watched."),
    ] = None,
    issuer: Annotated[
        str | None, typer.Option(metavar="ID", help="Who renews them; default: nobody we reach.")
    ] = None,
    profile: Annotated[str | None, typer.Option(metavar="ID", help="Profile.")] = None,
    environment: Annotated[str, typer.Option(help="Such as production.")] = "",
    name_template: Annotated[
        str | None, typer.Option(help="Their names, from {cn}; default: the tool's, else {cn}.")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="NAME", help=f"One of {', '.join(FORMATS)}.")
    ] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would happen, and change nothing.")
    ] = False,
) -> None:
    """Import certificates that other tools keep: certbot, acme.sh, lego, dehydrated, Caddy, or
    plain PEM files.

    Directories are read, never changed; private keys are neither opened nor sent.
    """
    from certctl.cli.importing.find import find

    harvest = find(paths, _format(format_))
    _tell_of_links(harvest)
    if not harvest.found and not harvest.refused:
        raise NotFound(f"no certificate was found below {', '.join(map(str, paths))}")
    terms = {
        "watched": watched,
        "owner_id": owner,
        "team_id": team,
        "renewal_policy_id": policy or (None if watched else "rp-default"),
        "issuer_id": issuer,
        "certificate_profile_id": profile,
        "environment": environment,
        "name_template": name_template or "{cn}",
        "dry_run": dry_run,
    }
    named = name_template is None
    with api(ctx) as server:
        rows = list(_sent(server, harvest.found, terms, named=named))
    answer = _answer(rows, harvest, dry_run=dry_run)
    show(ctx, answer, SHOWN)
    _tell(answer)
    if answer["total_failed"]:
        raise typer.Exit(REFUSED)


def _format(text: str) -> Format:
    from certctl.cli.importing.find import Format

    try:
        return Format(text)
    except ValueError:
        raise Unsafe(f"--format: one of {', '.join(FORMATS)}") from None


def _sent(
    server: Any, found: list[Found], terms: dict[str, Any], *, named: bool
) -> Iterator[dict[str, Any]]:
    """The server's row for each certificate, with the path it was found at."""
    for batch in batches(found):
        items = [
            {"pem": one.pem, "source": one.source, "name": one.name if named else None}
            for one in batch
        ]
        answer = server.post("certificates", "import", body={**terms, "certificates": items})
        for one, row in zip(batch, answer["data"], strict=True):
            yield {"path": str(one.path), **row}


def batches(found: Iterable[Found]) -> Iterator[list[Found]]:
    """Lots that the server takes in one request."""
    lot: list[Found] = []
    size = 0
    for one in found:
        if lot and (len(lot) == BATCH or size + len(one.pem) > BATCH_BYTES):
            yield lot
            lot, size = [], 0
        lot.append(one)
        size += len(one.pem)
    if lot:
        yield lot


def _answer(rows: list[dict[str, Any]], harvest: Harvest, *, dry_run: bool) -> dict[str, Any]:
    """One answer of the API's form for all that was sent and all that could not be."""
    unread = [
        {
            "path": str(path),
            "name": None,
            "certificate_id": None,
            "outcome": "failed",
            "error": words,
        }
        for path, words in harvest.refused
    ]
    data = [{**row, "index": index} for index, row in enumerate([*rows, *unread])]
    totals = {
        f"total_{outcome}": sum(row["outcome"] == outcome for row in data) for outcome in OUTCOMES
    }
    return {"total": len(data), **totals, "dry_run": dry_run, "data": data}


def _tell_of_links(harvest: Harvest) -> None:
    if harvest.outside:
        typer.echo(
            f"{len(harvest.outside)} links lead out of the directory given and were not followed, "
            f"such as {cell(str(harvest.outside[0]))}",
            err=True,
        )


def _tell(answer: dict[str, Any]) -> None:
    counts = ", ".join(f"{answer[f'total_{outcome}']} {outcome}" for outcome in OUTCOMES)
    note = " (dry run: nothing was changed)" if answer["dry_run"] else ""
    typer.echo(f"{counts}{note}", err=True)
