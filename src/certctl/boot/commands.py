"""The commands that are processes or look at the code itself; each imports what it needs late."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from certctl.domain.errors import CertctlError

PANEL = "Processes and operation"


def add_to(app: typer.Typer) -> None:
    """Register the commands beside those of the API client."""
    commands: tuple[Callable[..., None], ...] = (
        serve,
        work,
        plane,
        migrate,
        agent,
        routes,
        settings,
        connectors,
        openapi,
        backup,
        restore,
    )
    for command in commands:
        app.command(rich_help_panel=PANEL)(command)
    app.command("verify-audit", rich_help_panel=PANEL)(verify_audit)
    secrets = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Secrets at rest: under which keys they are, and new ones.",
    )
    secrets.command("status")(secrets_status)
    secrets.command("rotate")(secrets_rotate)
    app.add_typer(secrets, name="secrets", rich_help_panel=PANEL)


def refuse(error: CertctlError) -> None:
    """One sentence on standard error, and exit status 1."""
    print(f"certctl: {error.message}", file=sys.stderr)
    raise typer.Exit(1)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(main)
    except CertctlError as error:
        refuse(error)


def _settings() -> Any:
    from certctl import log
    from certctl import settings as settings_

    try:
        loaded = settings_.load(os.environ)
    except CertctlError as error:
        refuse(error)
    log.configure(loaded.log_level, loaded.log_format)
    return loaded


def serve(
    no_work: Annotated[bool, typer.Option("--no-work", help="Leave background work to others")] = (
        False
    ),
) -> None:
    """Run the control plane: API, agents, OCSP and CRL, and background work."""
    loaded = _settings()
    import uvloop

    from certctl.boot.serve import serve as serving

    try:
        uvloop.run(serving(loaded, work_here=not no_work))
    except CertctlError as error:
        refuse(error)


def work() -> None:
    """Run background work only, beside `certctl serve --no-work`."""
    loaded = _settings()
    from certctl.boot.serve import stop_signal
    from certctl.boot.work import work as working

    async def main() -> None:
        await working(loaded, stop_signal())

    run(main())


def plane(
    socket: Annotated[int, typer.Option("--socket", hidden=True)] = -1,
    parent: Annotated[int, typer.Option("--parent", hidden=True)] = -1,
) -> None:
    """Answer OCSP, CRLs and CA certificates over plain http only, from memory.

    `certctl serve` runs its own; others may share its database from other machines, or one port
    of this one when CERTCTL_PKI_HTTP_PROCESSES is 0.
    """
    loaded = _settings()
    import uvloop

    from certctl.boot import plane as planes
    from certctl.boot.serve import stop_signal

    async def main() -> None:
        stop = stop_signal()
        if parent >= 0:
            planes.stop_with_parent(stop, parent)
        listening = planes.inherited(socket) if socket >= 0 else planes.own_socket(loaded)
        await planes.plane(loaded, stop, listening=listening)

    try:
        uvloop.run(main())
    except CertctlError as error:
        refuse(error)


def migrate() -> None:
    """Bring the schema of CERTCTL_DATABASE_URL (or the embedded database) up to this version."""
    loaded = _settings()
    from certctl.boot.platform import bring_up_to_date, running_or_started

    async def main() -> None:
        async with running_or_started(loaded) as conninfo:
            applied = await bring_up_to_date(conninfo, loaded.owner_url)
            print(f"applied: {', '.join(map(str, applied)) or 'nothing was pending'}")

    run(main())


def agent() -> None:
    """Run the agent beside the servers that it serves."""
    from certctl.agent.run import main

    raise typer.Exit(main(os.environ))


def routes() -> None:
    """Print every route with the permission it needs."""
    from certctl.web.app import table

    print(table(), end="")


def settings() -> None:
    """Print every setting of the control plane with its default and meaning."""
    from certctl import settings as settings_

    print(settings_.table(), end="")


def connectors() -> None:
    """Print the kinds of issuers and targets and their configuration."""
    from certctl.connectors import catalog

    for title, kinds, find in (
        ("Issuers", catalog.ISSUERS, catalog.issuer_class),
        ("Targets", catalog.TARGETS, catalog.target_class),
    ):
        print(title)
        for kind in kinds:
            print(f"  {kind}")
            for name, field in find(kind).Config.model_fields.items():
                need = " (required)" if field.is_required() else ""
                print(f"    {name:<32}{field.description or ''}{need}")


def openapi() -> None:
    """Print the OpenAPI document of the API."""
    from certctl.web.app import openapi_document

    print(json.dumps(openapi_document(), indent=2, sort_keys=True))


def backup(file: Annotated[Path, typer.Argument(help="The archive to write, mode 0600")]) -> None:
    """Save database and keys in one archive, consistent, while the server runs."""
    loaded = _settings()
    from certctl.boot.archive import backup as saving

    run(saving(loaded, file))


def restore(
    file: Annotated[Path, typer.Argument(help="An archive that `certctl backup` wrote")],
    force: Annotated[bool, typer.Option("--force", help="Replace a database in use")] = False,
) -> None:
    """Bring back what `certctl backup` saved; the server must be stopped."""
    loaded = _settings()
    from certctl.boot.archive import restore as bringing_back

    run(bringing_back(loaded, file, force=force))


def verify_audit() -> None:
    """Recompute the audit trail's hashes and seals; exit status 1 when something does not fit."""
    loaded = _settings()
    from certctl.boot.archive import verify_audit as verifying

    problems = run(verifying(loaded))
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)
    print("the audit trail is whole")


def secrets_status() -> None:
    """Count the stored secrets by the key that they are under; shows none of them."""
    loaded = _settings()
    from certctl.boot.rotation import status

    run(status(loaded))


def secrets_rotate(
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="First line: the new passphrase; - for stdin."),
    ] = None,
    patience: Annotated[
        int, typer.Option(metavar="SECONDS", help="Longest wait for the running servers.")
    ] = 60,
) -> None:
    """Seal every stored secret anew, under a new data key and a new passphrase.

    Servers go on working meanwhile. Whenever this is interrupted, give it again: it goes on where
    it was, and until it ends both passphrases open everything.

    The new passphrase is the first line of a file, else CERTCTL_NEW_CONFIG_ENCRYPTION_KEY; else
    one is made where encryption.key in the data directory holds the present one, or asked for.
    """
    loaded = _settings()
    from certctl.boot.rotation import rotate

    run(rotate(loaded, new_passphrase_file, patience=timedelta(seconds=patience)))
