"""The five routes that every plain resource has, from its models and its service row."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from certctl.services import plain
from certctl.services.plain import Plain
from certctl.web.api.common import Page, Paged, changes, given
from certctl.web.gate import Call, Created, Resource


def crud(
    prefix: str,
    kind: Plain,
    *,
    create: type[BaseModel],
    update: type[BaseModel],
    shown: type[BaseModel],
    clearable: frozenset[str] = frozenset(),
) -> Resource:
    """List, create, get, update and delete."""
    resource = Resource(prefix, tag=prefix.strip("/"))
    noun = kind.table.noun

    async def list_(call: Call, page: Paged) -> Any:
        found = await plain.page(call.on, call.actor, kind, page)
        return {**found, "data": [kind.told(row) for row in found["data"]]}

    async def create_(call: Call, body: create) -> Any:  # type: ignore[valid-type]
        row = await plain.create(
            call.on, call.actor, kind, values=given(body), idempotency_key=call.idempotency_key
        )
        return Created(kind.told(row), plain.etag(row["updated_at"]))

    async def get_(call: Call, id: str) -> Any:
        row = await plain.get(call.on, call.actor, kind, id)
        return Created(kind.told(row), plain.etag(row["updated_at"]))

    async def update_(call: Call, id: str, body: update) -> Any:  # type: ignore[valid-type]
        row = await plain.update(
            call.on,
            call.actor,
            kind,
            id,
            changes=changes(body, clearable=clearable),
            if_match=call.if_match,
        )
        return Created(kind.told(row), plain.etag(row["updated_at"]))

    async def delete_(call: Call, id: str) -> None:
        await plain.delete(call.on, call.actor, kind, id)

    for handler, name, text in (
        (list_, "list", f"All of the kind {noun}, by page or by cursor."),
        (create_, "create", f"A new {noun}."),
        (get_, "get", f"One {noun}."),
        (update_, "update", f"Change the given fields of a {noun}."),
        (delete_, "delete", f"Remove a {noun} that nothing refers to."),
    ):
        handler.__name__ = f"{name}_{noun.replace(' ', '_')}"
        handler.__doc__ = text
    # These name classes that only this call knows.
    create_.__annotations__["body"] = create
    update_.__annotations__["body"] = update
    resource.get(needs=kind.read, answer=Page[shown], errors=())(list_)  # type: ignore[valid-type]
    resource.post(needs=kind.edit, answer=shown)(create_)
    resource.get("/{id}", needs=kind.read, answer=shown)(get_)
    resource.put("/{id}", needs=kind.edit, answer=shown)(update_)
    resource.delete("/{id}", needs=kind.delete)(delete_)
    return resource
