"""`certctl certs export`: a certificate with its chain as PEM, or with its key as PKCS #12."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from certctl.cli import find
from certctl.cli.options import api, output, say, show
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
    pkcs12: Annotated[
        bool, typer.Option("--pkcs12", help="As PKCS #12, with the key where the server holds it.")
    ] = False,
    password_file: Annotated[
        typer.FileText | None,
        typer.Option(metavar="FILE", help="First line: the password; - for stdin; else asked."),
    ] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="PKCS #12 without the key.")] = False,
) -> None:
    """Export the newest live version."""
    if pkcs12:
        return _pkcs12(ctx, certificate, out=out, password_file=password_file, no_key=no_key)
    if part not in PARTS:
        raise Unsafe(f"--part: one of {', '.join(PARTS)}")
    with api(ctx) as server:
        found = find.id_of(server, "certificates", certificate)
        answer = server.get("certificates", found, "export", "pem")
    if out is not None:
        _write(out, answer[PARTS[part]].encode(), mode=0o644)
    elif output(ctx) is Output.TABLE:
        sys.stdout.write(answer[PARTS[part]])
    else:
        show(ctx, answer)
    return None


def _pkcs12(
    ctx: typer.Context,
    certificate: str,
    *,
    out: Path | None,
    password_file: typer.FileText | None,
    no_key: bool,
) -> None:
    if out is None:
        raise Unsafe("--pkcs12 makes a binary file: name it with --out")
    wish = {"password": _password(password_file), "with_key": False if no_key else None}
    with api(ctx) as server:
        found = find.id_of(server, "certificates", certificate)
        made = server.download("certificates", found, "export", "pkcs12", body=wish)
    _write(out, made, mode=0o600)
    say(ctx, {"id": found, "file": str(out)}, f"{found} is in {out}")


def _password(file: typer.FileText | None) -> str:
    if file is not None:
        return file.readline().rstrip("\r\n")
    text: str = typer.prompt("Password of the file", hide_input=True, confirmation_prompt=True)
    return text


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """With this mode from its first byte on, whatever stood there."""
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise Unsafe(f"{path} cannot be written: {error.strerror}") from error
