"""`certctl audit export`, `checkpoint` and `verify`: the trail as files, and what they prove."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from certctl.cli.exits import REFUSED
from certctl.cli.options import api, output, say, show
from certctl.cli.render import Output
from certctl.domain import exported
from certctl.domain.errors import Invalid, Unsafe
from certctl.domain.exported import Verdict
from certctl.domain.trail import Checkpoint

LONGEST_LINE: Final = 64 * 1024 * 1024  # bytes; no event is nearly as large


def export(
    ctx: typer.Context,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="From this time on, with its zone.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before this.")] = None,
    category: Annotated[str | None, typer.Option(help="cert_lifecycle, auth or config.")] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="FORM", help="ndjson, which can be verified, or csv.")
    ] = "ndjson",
    limit: Annotated[int | None, typer.Option(min=1, help="Most events; default: all.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here, mode 0600; default: stdout.")
    ] = None,
) -> None:
    """Every event of a time, oldest first."""
    query: dict[str, Any] = {"from": since, "to": until, "category": category, "limit": limit}
    with (
        api(ctx) as server,
        server.stream("audit", "export", format=form, **query) as pieces,
        _written(out) as file,
    ):
        for piece in pieces:
            file.write(piece)
    if out is not None:
        say(ctx, {"file": str(out)}, f"the export is in {out}")


@contextmanager
def _written(out: Path | None) -> Iterator[BinaryIO]:
    """The file, which gets its name only when it is whole."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    unfinished = out.with_name(f"{out.name}.part")
    try:
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
        unfinished.replace(out)
    except OSError as error:
        raise Unsafe(f"{out} cannot be written: {error.strerror}") from error


def checkpoint(
    ctx: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write it here, and its signature to FILE with .sig."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the public key here, PEM.")
    ] = None,
) -> None:
    """Fetch the newest signed checkpoint, to be kept where the server cannot reach it."""
    if out is not None and out.suffix == ".sig":
        raise Unsafe("--out: .sig is the ending of the signature's file")
    with api(ctx) as server:
        found = server.get("audit", "checkpoints", "latest")
        if key is not None:
            with server.stream("audit", "checkpoint-key") as pieces, _written(key) as file:
                file.writelines(pieces)
    if out is not None:
        with _written(out.with_suffix(".sig")) as file:
            file.write(base64.b64decode(found["signature"]))
        with _written(out) as file:
            file.write(found["payload"].encode())
    show(ctx, found)


def verify(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="An NDJSON export; without it the server."),
    ] = None,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="A kept checkpoint, or a folder of them; repeatable.",
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The public key of the checkpoints, PEM.")
    ] = None,
) -> None:
    """Find what was changed, removed, cut or rewritten: offline in an export, or on the server."""
    if file is None:
        if checkpoints or key:
            raise Unsafe("--checkpoint and --key go with --export")
        return _on_server(ctx)
    if checkpoints and key is None:
        raise Unsafe("--checkpoint needs --key, the public key that was kept with it")
    kept = _kept(checkpoints or [], key)
    try:
        with file.open("rb") as lines:
            verdict = exported.verify(_lines(lines), kept)
    except OSError as error:
        raise Unsafe(f"{file} cannot be read: {error.strerror}") from error
    return _tell(ctx, verdict)


def _on_server(ctx: typer.Context) -> None:
    problems: list[str] = []
    events = seals = 0
    after: str | None = None
    with api(ctx) as server:
        while True:
            part = server.get("audit", "verify", after=after)
            problems += part["problems"]
            events, seals = events + part["events"], seals + part["seals"]
            after = part["next"]
            if after is None:
                break
    words = f"{events} events in {seals} seals: nothing was changed since it was sealed"
    _answer(ctx, {"problems": problems, "events": events, "seals": seals}, problems, words)


def _kept(paths: Iterable[Path], key: Path | None) -> list[Checkpoint]:
    """The checkpoints in these files and folders, their signatures checked."""
    if key is None:
        return []
    from certctl.pki import checkpoint as signed

    try:
        public = signed.load_public(key.read_bytes())
        files = [
            each
            for path in paths
            for each in (sorted(path.glob("*.json")) if path.is_dir() else [path])
        ]
        if not files:
            raise Unsafe("--checkpoint: there is none in that folder")
        return [_one(each, public) for each in files]
    except OSError as error:
        raise Unsafe(f"{error.filename} cannot be read: {error.strerror}") from error


def _one(file: Path, public: Any) -> Checkpoint:
    from certctl.pki import checkpoint as signed

    try:
        signature = file.with_suffix(".sig").read_bytes()
        return signed.verified(file.read_bytes(), signature, key=public)
    except Invalid as error:
        raise Invalid(f"{file}: {error.message}") from None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while text := file.readline(LONGEST_LINE):
        yield text


def _tell(ctx: typer.Context, verdict: Verdict) -> None:
    answer = {
        "problems": verdict.problems,
        "events": verdict.events,
        "seals": verdict.seals,
        "sealed_through": verdict.sealed_through,
        "checkpoints_compared": verdict.compared,
    }
    words = (
        f"{verdict.events} events in {verdict.seals} seals: nothing was changed since it was "
        f"sealed; sealed through event {verdict.sealed_through}, "
        f"{verdict.compared} checkpoints compared"
    )
    if not verdict.compared:
        words += "; without a kept checkpoint a rewritten history cannot be told"
    _answer(ctx, answer, verdict.problems, words)


def _answer(ctx: typer.Context, answer: dict[str, Any], problems: list[str], words: str) -> None:
    if output(ctx) is not Output.TABLE:
        show(ctx, answer)
    else:
        typer.echo("\n".join(problems) if problems else words)
    if problems:
        raise typer.Exit(REFUSED)
