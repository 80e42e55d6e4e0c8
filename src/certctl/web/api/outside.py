"""CAs below one of ours, whose keys are elsewhere; and the revocation of a CA."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from certctl.domain.access import Permission
from certctl.domain.revocation import Reason
from certctl.pki.name_constraints import parse
from certctl.services import outside as service
from certctl.web.api.common import In
from certctl.web.api.hierarchy import CA, Subtrees
from certctl.web.gate import Call, Resource

intermediates = Resource("/intermediates", tag="authorities")
MANAGE = Permission.CA_HIERARCHY_MANAGE


class OutsideCA(In):
    """Of the CSR only the key is taken, and its common name where no `name` is given. The rest is
    as for a CA of ours."""

    name: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    csr_pem: Annotated[str, Field(min_length=1, max_length=65536)]
    path_len_constraint: Annotated[int, Field(ge=0, le=8)] = 0
    ttl_days: Annotated[int | None, Field(ge=1, le=9125)] = None
    name_constraints: Annotated[list[Subtrees], Field(max_length=10)] = []


class CARevocation(In):
    """`force` revokes a CA although it signs its issuer's leaves or has active CAs below it."""

    reason: Reason = Reason.UNSPECIFIED
    force: bool = False
    note: Annotated[str, Field(max_length=1000)] = ""


@intermediates.post("/{id}/sign", needs=MANAGE, answer=CA, errors=(404, 409))
async def sign_ca(call: Call, id: str, body: OutsideCA) -> Any:
    """Certify a CA whose key is held elsewhere, below this one. It is shown with `key_held` false;
    OCSP and the CRL of this CA answer for it."""
    request = service.Request(
        body.csr_pem,
        body.path_len_constraint,
        body.name,
        timedelta(days=body.ttl_days) if body.ttl_days else None,
        parse(
            [each for subtrees in body.name_constraints for each in subtrees.permitted],
            [each for subtrees in body.name_constraints for each in subtrees.excluded],
            field="name_constraints",
        ),
    )
    return await service.sign(call.on, call.actor, id, request)


@intermediates.post("/{id}/revoke", needs=MANAGE, answer=CA, status=200, errors=(404, 409))
async def revoke_ca(call: Call, id: str, body: CARevocation | None = None) -> Any:
    """Revoke the certificate of a CA: OCSP and the CRL of the CA above it say so at once, and it
    and all below it sign nothing new."""
    wish = body or CARevocation()
    return await service.end(
        call.on, call.actor, id, reason=wish.reason, force=wish.force, note=wish.note
    )
