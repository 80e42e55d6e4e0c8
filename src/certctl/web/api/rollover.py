"""A new CA above one of ours, and the moment from which chains go by it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from certctl.domain.access import Permission
from certctl.services import rollover as service
from certctl.web.api.common import Id, In
from certctl.web.api.hierarchy import CA
from certctl.web.gate import Call, Resource

intermediates = Resource("/intermediates", tag="authorities")
MANAGE = Permission.CA_HIERARCHY_MANAGE


class Recertification(In):
    """The CA that is to sign, and for how long: five years where `ttl_days` says nothing, and never
    longer than that CA itself."""

    parent_ca_id: Id
    ttl_days: Annotated[int | None, Field(ge=1, le=9125)] = None


class Cutover(In):
    """The CA above that chains are to go by."""

    parent_ca_id: Id


@intermediates.post("/{id}/recertify", needs=MANAGE, answer=CA, errors=(404, 409))
async def recertify_ca(call: Call, id: str, body: Recertification) -> Any:
    """Have a CA's key certified by another CA above, for the same subject. It is shown among its
    `other_certificates`; what is served stays as it is."""
    lifetime = timedelta(days=body.ttl_days) if body.ttl_days else None
    return await service.recertify(call.on, call.actor, id, body.parent_ca_id, lifetime=lifetime)


@intermediates.post("/{id}/cutover", needs=MANAGE, answer=CA, status=200, errors=(404, 409))
async def cut_over_ca(call: Call, id: str, body: Cutover) -> Any:
    """Let chains go by the certificate that another CA above has signed. The present one is kept:
    the same request with its CA undoes it."""
    return await service.cutover(call.on, call.actor, id, body.parent_ca_id)
