"""The commands that every plain resource has: list, get, add, change, delete."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from certctl.cli import find
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, group, say, show
from certctl.domain.errors import Unsafe

ResourceId = Annotated[str, typer.Argument(metavar="ID", help="Id or unique name.")]
DataFile = Annotated[
    typer.FileText,
    typer.Option("--from", metavar="FILE", help="Its fields as JSON or YAML; - for stdin."),
]


def resource(path: str, text: str, columns: tuple[str, ...]) -> typer.Typer:
    """A group with list, get and delete for the resource at `/api/v1/{path}`."""
    made = group(text)

    @made.command("list", cls=ApiCommand, help="List them.")
    def list_(
        ctx: typer.Context,
        page: PageFlag = 1,
        per_page: PerPageFlag = 50,
        everything: AllFlag = False,
    ) -> None:
        with api(ctx) as server:
            show(ctx, rows(server, path, page=(page, per_page), walk=everything), columns)

    @made.command("get", cls=ApiCommand, help="Show one.")
    def get(ctx: typer.Context, given: ResourceId) -> None:
        with api(ctx) as server:
            show(ctx, find.one(server, path, given))

    @made.command("delete", cls=ApiCommand, help="Remove one that nothing refers to.")
    def delete(ctx: typer.Context, given: ResourceId) -> None:
        with api(ctx) as server:
            found = find.id_of(server, path, given)
            answer = server.delete(path, found)
        say(ctx, answer, f"{found} is deleted")

    return made


def addable(path: str, text: str, columns: tuple[str, ...]) -> typer.Typer:
    """As `resource`, with `add` and `change` from a document."""
    made = resource(path, text, columns)

    @made.command("add", cls=ApiCommand, help="Add one from a document of its fields.")
    def add(ctx: typer.Context, document: DataFile) -> None:
        body = fields(document.read())
        with api(ctx) as server:
            _show_with_warnings(ctx, server.post(path, body=body))

    changeable(made, path)
    return made


def changeable(made: typer.Typer, path: str) -> None:
    """Add `change` from a document to a group."""

    @made.command("change", cls=ApiCommand, help="Change the fields that a document names.")
    def change(ctx: typer.Context, given: ResourceId, document: DataFile) -> None:
        body = fields(document.read())
        with api(ctx) as server:
            answer = server.put(path, find.id_of(server, path, given), body=body)
            _show_with_warnings(ctx, answer)


def _show_with_warnings(ctx: typer.Context, answer: dict[str, Any]) -> None:
    show(ctx, answer)
    for warning in answer.get("warnings", ()):
        typer.echo(f"warning: {warning}", err=True)


def fields(text: str) -> dict[str, Any]:
    """The mapping in a JSON or YAML document.

    Raises:
        Unsafe: when it holds anything else.
    """
    import yaml

    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Unsafe(f"--from: neither JSON nor YAML: {' '.join(str(error).split())}") from error
    if not isinstance(parsed, dict):
        raise Unsafe("--from: must hold one mapping of fields to values")
    return parsed
