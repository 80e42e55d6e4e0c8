"""A resource by its id, or by a name that only one has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certctl.domain.errors import Conflict, Invalid, NotFound
from certctl.domain.ids import checked_id

if TYPE_CHECKING:
    from certctl.cli.client import Api


def one(api: Api, path: str, given: str) -> dict[str, Any]:
    """The row of the list at `path` whose id, or else whose name, is `given`.

    Archived certificates are found by id only: their names are free for others.

    Raises:
        NotFound: when neither fits. Conflict: when several have the name.
    """
    found = _by_id(api, path, given)
    if found is not None:
        return found
    named = [
        row
        for row in api.walk(
            path, **({"fields": "id,name,status"} if path == "certificates" else {})
        )
        if row["name"] == given and row.get("status") != "Archived"
    ]
    if not named:
        raise NotFound(f"there is no id and no name {given} in {path}")
    if len(named) > 1:
        ids = ", ".join(row["id"] for row in named)
        raise Conflict(f"{len(named)} {path} are named {given}: give one of the ids {ids}")
    row: dict[str, Any] = api.get(path, named[0]["id"])
    return row


def id_of(api: Api, path: str, given: str) -> str:
    """The id that `given`, an id or a unique name, stands for."""
    return str(one(api, path, given)["id"])


def _by_id(api: Api, path: str, given: str) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = api.get(path, checked_id(given))
    except (Invalid, NotFound):
        return None
    return row
