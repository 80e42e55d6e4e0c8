"""Issuers."""

from __future__ import annotations

from typing import Any

from certctl.domain.access import Permission
from certctl.services import issuers as service
from certctl.services import plain
from certctl.web.api.common import Created, Id, In, NameText, Out, StatusAnswer, Text
from certctl.web.api.crud import crud
from certctl.web.gate import Call


class NewIssuer(In):
    id: Id | None = None
    name: NameText
    type: Text
    config: dict[str, Any] = {}
    enabled: bool = True


class IssuerChange(In):
    name: NameText | None = None
    type: Text | None = None
    config: dict[str, Any] | None = None
    enabled: bool | None = None


class Issuer(Out):
    id: str
    name: str
    type: str
    config: dict[str, Any]
    enabled: bool
    created_at: Created
    updated_at: Created


issuers = crud("/issuers", plain.ISSUERS, create=NewIssuer, update=IssuerChange, shown=Issuer)


@issuers.post(
    "/{id}/test",
    needs=Permission.ISSUER_EDIT,
    answer=StatusAnswer,
    status=200,
    errors=(404, 409, 502),
)
async def check(call: Call, id: str) -> Any:
    """Whether the issuer could issue now."""
    await service.check(call.on, call.actor, id)
    return {"status": "connection_successful"}
