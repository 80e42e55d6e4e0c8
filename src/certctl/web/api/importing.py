"""Certificates that were issued elsewhere, brought in by the hundred."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from certctl.domain.access import Permission
from certctl.services import importing as service
from certctl.web.api.certificates import Tags
from certctl.web.api.common import Id, In, NameText, Out, Text
from certctl.web.gate import Call, Resource

imports = Resource("/certificates", tag="certificates")


class Foreign(In):
    # Neither the PEM nor what is in it by mistake is repeated in messages.
    pem: Annotated[str, Field(min_length=1, max_length=65536, repr=False)]
    name: NameText | None = None
    source: Annotated[str, Field(pattern=r"^[a-z0-9.-]{1,32}$")] | None = None


class Import(In):
    watched: bool = False
    owner_id: Id
    team_id: Id
    renewal_policy_id: Id | None = None
    issuer_id: Id | None = None
    certificate_profile_id: Id | None = None
    environment: Text = ""
    tags: Tags = {}
    name_template: Annotated[str, Field(min_length=1, max_length=255)] = "{cn}"
    dry_run: bool = False
    certificates: Annotated[list[Foreign], Field(min_length=1, max_length=500)]


class ImportedCertificate(Out):
    index: int
    name: str | None
    certificate_id: str | None
    outcome: Literal["imported", "updated", "unchanged", "failed"]
    error: str | None


class ImportAnswer(Out):
    total: int
    total_imported: int
    total_updated: int
    total_unchanged: int
    total_failed: int
    dry_run: bool
    data: list[ImportedCertificate]


@imports.post("/import", needs=Permission.CERT_ISSUE, answer=ImportAnswer, status=200, errors=())
async def import_certificates(call: Call, body: Import) -> Any:
    """Take certificates that exist into the inventory: the leaf with its chain, never a key. What
    is known already is left as it is, a newer one of the same name becomes the live version, and
    one that cannot be taken is an entry with its reason."""
    terms = body.model_dump(
        include={
            "owner_id",
            "team_id",
            "renewal_policy_id",
            "issuer_id",
            "certificate_profile_id",
            "environment",
            "tags",
        }
    )
    plan = service.Plan(terms, body.watched, body.name_template, body.dry_run)
    items = [service.Item(each.pem, each.name, each.source) for each in body.certificates]
    return await service.run(call.on, call.actor, plan=plan, items=items)
