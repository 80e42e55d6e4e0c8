"""What every command over the API takes: where the server is, and the form of the output."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand
from typer.main import get_command

from certctl.cli import render, settings
from certctl.cli.exits import MEANINGS
from certctl.cli.render import Output

if TYPE_CHECKING:
    from certctl.cli.client import Api

KEPT: Final = "certctl."


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Keep a value that was given; the word nearest to the end of the command line counts."""
    if value is not None:
        ctx.meta[f"{KEPT}{param.name}"] = value
    return value


ServerFlag = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        callback=_keep,
        expose_value=False,
        help=f"The server, https only; default {settings.DEFAULT_SERVER_URL}. "
        f"[{settings.SERVER_URL}]",
    ),
]
CaFlag = Annotated[
    Path | None,
    typer.Option(
        "--ca-bundle",
        metavar="FILE",
        callback=_keep,
        expose_value=False,
        help=f"PEM file of the CA to trust; default: the system's CAs. [{settings.CA_BUNDLE}]",
    ),
]
KeyFlag = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        metavar="FILE",
        callback=_keep,
        expose_value=False,
        help=f"File that holds the API key. [the key itself: {settings.API_KEY}]",
    ),
]
OutputFlag = Annotated[
    Output | None,
    typer.Option(
        "--output",
        "-o",
        callback=_keep,
        expose_value=False,
        help="Form of the answer; json is exactly the API's. [CERTCTL_OUTPUT]",
    ),
]


def shared(
    server: ServerFlag = None,
    ca_bundle: CaFlag = None,
    api_key_file: KeyFlag = None,
    output: OutputFlag = None,
) -> None:
    """Holds the options for `ApiCommand` and for the root, which both accept them."""


def _shared_params() -> list[Any]:
    holder = typer.Typer(add_completion=False)
    holder.command()(shared)
    return list(get_command(holder).params)


class ApiCommand(TyperCommand):
    """A command that also accepts the shared options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["params"] = [*(kwargs.get("params") or []), *_shared_params()]
        kwargs["epilog"] = kwargs.get("epilog") or MEANINGS
        super().__init__(*args, **kwargs)


def group(text: str) -> typer.Typer:
    """A group of commands whose help is `text`, examples first."""
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, epilog=MEANINGS)


def api(ctx: typer.Context) -> Api:
    """The API of the server that flags, environment or `client.toml` name.

    Raises:
        Unsafe: naming the setting that is not usable.
    """
    from certctl.cli.client import Api

    flags = settings.Flags(
        ctx.meta.get(f"{KEPT}server"),
        ctx.meta.get(f"{KEPT}ca_bundle"),
        ctx.meta.get(f"{KEPT}api_key_file"),
    )
    return Api(settings.find(flags, os.environ))


def output(ctx: typer.Context) -> Output:
    """The form asked for by flag or by CERTCTL_OUTPUT."""
    given = ctx.meta.get(f"{KEPT}output") or os.environ.get("CERTCTL_OUTPUT") or Output.TABLE
    try:
        return Output(given)
    except ValueError:
        raise typer.BadParameter(f"CERTCTL_OUTPUT: one of {', '.join(Output)}") from None


def show(ctx: typer.Context, answer: Any, columns: tuple[str, ...] = ()) -> None:
    """Print an answer in the form asked for."""
    render.show(answer, output(ctx), columns)


def show_rows(
    ctx: typer.Context, answer: Any, rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...]
) -> None:
    """Print to people rows of an answer that programs get whole."""
    if output(ctx) is Output.TABLE:
        render.table(rows, columns)
    else:
        show(ctx, answer)


def say(ctx: typer.Context, answer: Any, sentence: str) -> None:
    """Print the answer of an action to programs, and a sentence to people."""
    if output(ctx) is Output.TABLE:
        typer.echo(sentence)
    else:
        show(ctx, answer)
