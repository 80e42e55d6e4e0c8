"""Our own CAs as a tree."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from certctl.domain.access import Permission
from certctl.pki.keys import KeyAlgorithm
from certctl.pki.name_constraints import parse
from certctl.services import hierarchy as service
from certctl.services.authority import NewAuthority
from certctl.web.api.common import Created, Id, In, Out, Page, Paged, Text
from certctl.web.gate import Call, Resource

of_issuer = Resource("/issuers", tag="authorities")
intermediates = Resource("/intermediates", tag="authorities")
MANAGE = Permission.CA_HIERARCHY_MANAGE


class Subtrees(In):
    """Domains, each with all below it, and networks such as `10.0.0.0/8`."""

    permitted: list[Text] = []
    excluded: list[Text] = []


class NewCA(In):
    """A root where no parent is named, the only one of its issuer or beside that which it
    `replaces`. A CA never outlives the one above it, whatever `ttl_days` says; by default a root
    has ten years, any other five. `path_len_constraint` is how many CAs may
    stand in a row below it: by default one below a root, none below any other. Where no
    `name_constraints` are given, those of the CA above hold. The key is made in its
    `key_home` and stays there: sealed in the database, or where the server's settings say."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    parent_ca_id: Id | None = None
    replaces: Id | None = None
    algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256
    key_home: Literal["sealed", "pkcs11", "aws-kms", "gcp-kms", "azure-key-vault"] = "sealed"
    ttl_days: Annotated[int | None, Field(ge=1, le=9125)] = None
    path_len_constraint: Annotated[int | None, Field(ge=0, le=8)] = None
    name_constraints: Annotated[list[Subtrees], Field(max_length=10)] = []


class SubtreesShown(Out):
    permitted: list[str]
    excluded: list[str]


class OtherCertificate(Out):
    """Of the same subject and key, by another CA above; `served_until` is when chains stopped going
    by it, null when they never did."""

    parent_ca_id: str
    serial_number: str
    fingerprint_sha256: str
    not_before: Created
    not_after: Created
    served_until: Created | None
    certificate_pem: str


class CA(Out):
    """`chain_pem` begins with its own certificate and ends with the root; `key_reference` is what
    its key is called in a home outside the database. A CA whose key is held elsewhere (`key_held`
    false) signs nothing here; where `signed_outside`, `path_len_constraint` and `name_constraints`
    are what holds at its place, 8 standing for no limit."""

    id: str
    issuer_id: str
    parent_ca_id: str | None
    name: str
    state: Literal["preparing", "active", "retiring", "retired"]
    key_held: bool
    signed_outside: bool
    revoked_at: Created | None
    revocation_reason: str | None
    path_len_constraint: int
    name_constraints: list[SubtreesShown]
    key_home: Literal["sealed", "pkcs11", "aws-kms", "gcp-kms", "azure-key-vault", "none"]
    key_reference: str | None
    subject: str | None
    certificate_policies: list[str]
    key_algorithm: str | None
    key_size: int | None
    serial_number: str | None
    fingerprint_sha256: str | None
    not_before: Created | None
    not_after: Created | None
    created_at: Created
    chain_pem: str
    other_certificates: list[OtherCertificate]


class Retirement(In):
    confirm: bool = False
    note: Annotated[str, Field(max_length=1000)] = ""


class Retired(Out):
    id: str
    state: Literal["retiring", "retired"]
    decided_by: str
    confirmed: bool


@of_issuer.get("/{id}/intermediates", needs=MANAGE, answer=Page[CA])
async def list_cas(call: Call, id: str, request: Paged) -> Any:
    """The CAs of an issuer, oldest first."""
    return await service.page(call.on, call.actor, id, request)


@of_issuer.post("/{id}/intermediates", needs=MANAGE, answer=CA, errors=(404, 409, 502))
async def create_ca(call: Call, id: str, body: NewCA) -> Any:
    """A new CA. When none can stand below it, it signs the issuer's leaves from now on."""
    length = body.path_len_constraint
    if length is None:
        length = 0 if body.parent_ca_id else 1
    lifetime = timedelta(days=body.ttl_days) if body.ttl_days else None
    constraints = parse(
        [each for subtrees in body.name_constraints for each in subtrees.permitted],
        [each for subtrees in body.name_constraints for each in subtrees.excluded],
        field="name_constraints",
    )
    wish = NewAuthority(
        id,
        body.parent_ca_id,
        body.name,
        length,
        algorithm=body.algorithm,
        lifetime=lifetime,
        name_constraints=constraints,
        key_home=body.key_home,
        replaces=body.replaces,
    )
    return await service.create(call.on, call.actor, wish)


@intermediates.get("/{id}", needs=MANAGE, answer=CA)
async def get_ca(call: Call, id: str) -> Any:
    """One CA and the chain above it."""
    return await service.get(call.on, call.actor, id)


@intermediates.post("/{id}/retire", needs=MANAGE, answer=Retired, status=200, errors=(404, 409))
async def retire_ca(call: Call, id: str, body: Retirement | None = None) -> Any:
    """The next stage: an active CA signs nothing new, and with `confirm` one that has nothing left
    to answer for ends."""
    wish = body or Retirement()
    return await service.retire(call.on, call.actor, id, confirm=wish.confirm, note=wish.note)
