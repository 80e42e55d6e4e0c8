"""`certctl certs export`: a certificate with its chain, as PEM."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from certctl.cli import find
from certctl.cli.options import api, output, show
from certctl.cli.render import Output
from certctl.domain.errors import Unsafe

PARTS: Final = {"full": "full_pem", "cert": "cert_pem", "chain": "chain_pem"}


def export(
    ctx: typer.Context,
    certificate: Annotated[str, typer.Argument(metavar="ID", help="Id or unique name.")],
    part: Annotated[
        str, typer.Option(metavar="NAME", help="full, cert (without its chain) or chain.")
    ] = "full",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here; default: to stdout.")
    ] = None,
) -> None:
    """Export the newest live version as PEM."""
    if part not in PARTS:
        raise Unsafe(f"--part: one of {', '.join(PARTS)}")
    with api(ctx) as server:
        found = find.id_of(server, "certificates", certificate)
        answer = server.get("certificates", found, "export", "pem")
    if out is not None:
        _write(out, answer[PARTS[part]])
    elif output(ctx) is Output.TABLE:
        sys.stdout.write(answer[PARTS[part]])
    else:
        show(ctx, answer)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise Unsafe(f"{path} cannot be written: {error.strerror}") from error
