"""What every list command takes: a page, or all of it by cursor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from certctl.cli.client import Api

PageFlag = Annotated[int, typer.Option("--page", min=1, help="Which page.")]
PerPageFlag = Annotated[int, typer.Option("--per-page", min=1, max=500, help="Rows on a page.")]
AllFlag = Annotated[bool, typer.Option("--all", help="Every row, walking the list by cursor.")]


def rows(
    api: Api,
    *path: str,
    page: tuple[int, int],
    walk: bool,
    query: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The answer for one page (its number and size), or one `data` that holds the whole walk."""
    if walk:
        return {"data": list(api.walk(*path, **(query or {})))}
    answer: dict[str, Any] = api.get(*path, **(query or {}), page=page[0], per_page=page[1])
    return answer
