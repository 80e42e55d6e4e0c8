"""Managed certificates: list, order, renew, deploy, revoke, archive."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field

from certctl.domain.access import Permission
from certctl.domain.certificate import Status
from certctl.services import certificates as service
from certctl.services import deploy, plain, renew, revoke
from certctl.web.api import common
from certctl.web.api.common import Everything, Id, In, Moment, NameText, Out, Page, Paged, Text
from certctl.web.api.fleet import Target
from certctl.web.gate import Call, Created, Resource

certificates = Resource("/certificates", tag="certificates")

Sans = Annotated[list[Annotated[str, Field(min_length=1, max_length=253)]], Field(max_length=100)]
Tags = Annotated[
    dict[Annotated[str, Field(max_length=63)], Annotated[str, Field(max_length=255)]],
    Field(max_length=50),
]
CommonName = Annotated[str, Field(min_length=1, max_length=253)]
Csr = Annotated[str, Field(max_length=65536)]


class NewCertificate(In):
    id: Id | None = None
    name: NameText
    common_name: CommonName
    sans: Sans = []
    environment: Text = ""
    owner_id: Id
    team_id: Id
    issuer_id: Id
    renewal_policy_id: Id
    certificate_profile_id: Id | None = None
    target_ids: Annotated[list[Id], Field(max_length=100)] = []
    tags: Tags = {}
    csr_pem: Csr | None = None


class CertificateChange(In):
    name: NameText | None = None
    common_name: CommonName | None = None
    sans: Sans | None = None
    environment: Text | None = None
    owner_id: Id | None = None
    team_id: Id | None = None
    issuer_id: Id | None = None
    renewal_policy_id: Id | None = None
    certificate_profile_id: Id | None = None
    target_ids: Annotated[list[Id], Field(max_length=100)] | None = None
    tags: Tags | None = None


class Certificate(Out):
    id: str
    name: str
    common_name: str
    sans: list[str]
    environment: str
    owner_id: str
    team_id: str
    issuer_id: str
    renewal_policy_id: str
    certificate_profile_id: str
    target_ids: list[str]
    status: Status
    expires_at: common.Created | None
    tags: dict[str, str]
    source: str
    watched: bool
    last_error: str | None
    last_renewal_at: common.Created | None
    last_deployment_at: common.Created | None
    revoked_at: common.Created | None
    revocation_reason: str | None
    created_at: common.Created
    updated_at: common.Created


class Version(Out):
    """`lint_waived` are the codes of what lint found and, under a waiver, passed over."""

    id: str
    certificate_id: str
    agent_id: str | None
    issuer_id: str
    authority_id: str | None
    serial_number: str
    not_before: common.Created
    not_after: common.Created
    fingerprint_sha256: str
    sans: list[str]
    pem_chain: str
    csr_pem: str | None
    key_algorithm: str
    key_size: int
    live: bool
    revoked_at: common.Created | None
    lint_waived: list[str]
    created_at: common.Created


class Deployment(Target):
    """A bound target with the outcome of its newest deployment; nulls before the first."""

    outcome: Literal["deployed", "unchanged", "rolled_back", "failed"] | None
    fingerprint_sha256: str | None
    error: str | None
    finished_at: common.Created | None
    version_id: str | None


class Renewal(In):
    csr_pem: Csr | None = None
    force: bool = False


class Deploy(In):
    target_id: Id | None = None


class Revocation(In):
    reason: Text = "unspecified"


class Revoked(Out):
    status: str
    revoked_versions: int


@certificates.get(needs=Permission.CERT_READ, answer=Page[Certificate], errors=())
async def list_certificates(
    call: Call,
    page: Paged,
    status: Status | None = None,
    environment: Text | None = None,
    owner_id: Id | None = None,
    team_id: Id | None = None,
    issuer_id: Id | None = None,
    agent_id: Id | None = None,
    profile_id: Id | None = None,
    renewal_policy_id: Id | None = None,
    target_id: Id | None = None,
    watched: bool | None = None,
    tag: Annotated[
        list[Annotated[str, Field(max_length=320)]] | None,
        Query(max_length=10, description="`key=value`; may be repeated"),
    ] = None,
    search: Annotated[
        str | None,
        Query(max_length=253, description="Beginnings of words of the name or a SAN"),
    ] = None,
    expires_before: Moment | None = None,
    expires_after: Moment | None = None,
    created_before: Moment | None = None,
    created_after: Moment | None = None,
    updated_before: Moment | None = None,
    updated_after: Moment | None = None,
    sort: Annotated[
        str | None, Query(max_length=32, description="Such as `name` or `-expiresAt`")
    ] = None,
    fields: Annotated[
        str | None, Query(max_length=500, description="Only these fields, comma-separated")
    ] = None,
) -> Any:
    """Certificates by page or by cursor, filtered and sorted. With `fields` the rows hold only
    those and the id."""
    chosen = common.filters(
        status=None if status is None else str(status),
        environment=environment,
        owner_id=owner_id,
        team_id=team_id,
        issuer_id=issuer_id,
        agent_id=agent_id,
        profile_id=profile_id,
        renewal_policy_id=renewal_policy_id,
        target_id=target_id,
        watched=watched,
        tags=tag or None,
        search=search,
        expires_before=expires_before,
        expires_after=expires_after,
        created_before=created_before,
        created_after=created_after,
        updated_before=updated_before,
        updated_after=updated_after,
    )
    return await service.page(call.on, call.actor, page, filters=chosen, sort=sort, fields=fields)


@certificates.post(needs=Permission.CERT_ISSUE, answer=Certificate)
async def create_certificate(call: Call, body: NewCertificate) -> Any:
    """Order a certificate. With targets or a CSR its issuance begins at once."""
    row = await service.create(
        call.on,
        call.actor,
        order=common.given(body),
        idempotency_key=call.idempotency_key,
    )
    return Created(row, plain.etag(row["updated_at"]))


@certificates.get("/{id}", needs=Permission.CERT_READ, answer=Certificate)
async def get_certificate(call: Call, id: str) -> Any:
    """One certificate."""
    row = await service.get(call.on, call.actor, id)
    return Created(row, plain.etag(row["updated_at"]))


@certificates.put("/{id}", needs=Permission.CERT_EDIT, answer=Certificate)
async def update_certificate(call: Call, id: str, body: CertificateChange) -> Any:
    """Change the given fields."""
    row = await service.update(
        call.on, call.actor, id, changes=common.changes(body), if_match=call.if_match
    )
    return Created(row, plain.etag(row["updated_at"]))


@certificates.delete("/{id}", needs=Permission.CERT_DELETE)
async def archive_certificate(call: Call, id: str) -> None:
    """Take a certificate out of management; its record stays."""
    await service.archive(call.on, call.actor, id)


@certificates.get("/{id}/versions", needs=Permission.CERT_READ, answer=Page[Version])
async def list_certificate_versions(call: Call, id: str, page: Paged) -> Any:
    """What has been issued, newest first."""
    return await service.version_page(call.on, call.actor, id, page)


@certificates.get("/{id}/deployments", needs=Permission.CERT_READ, answer=Everything[Deployment])
async def get_certificate_deployments(call: Call, id: str) -> Any:
    """The targets, each with the outcome of its newest deployment."""
    rows = await service.deployments(call.on, call.actor, id)
    return {"data": rows, "total": len(rows)}


@certificates.post(
    "/{id}/renew",
    needs=Permission.CERT_ISSUE,
    answer=common.StatusAnswer,
    status=202,
    errors=(404, 409),
)
async def trigger_renewal(call: Call, id: str, body: Renewal | None = None) -> Any:
    """Renew for every holder of a key; while a renewal is under way, that one is the answer,
    unless `force` cancels it first."""
    csr_pem = body.csr_pem if body else None
    force = body.force if body else False
    job_ids = await renew.renew(call.on, call.actor, id, csr_pem=csr_pem, force=force)
    return {"status": "renewal_triggered", "job_ids": job_ids}


@certificates.post(
    "/{id}/deploy",
    needs=Permission.CERT_EDIT,
    answer=common.StatusAnswer,
    status=202,
    errors=(404, 409),
)
async def trigger_deployment(call: Call, id: str, body: Deploy | None = None) -> Any:
    """Deploy the live version again, to all targets or to one."""
    target_id = body.target_id if body else None
    job_ids = await deploy.begin(call.on, call.actor, id, target_id=target_id)
    return {"status": "deployment_triggered", "job_ids": job_ids}


@certificates.post(
    "/{id}/revoke",
    needs=Permission.CERT_REVOKE,
    answer=Revoked,
    status=200,
    errors=(404, 409),
)
async def revoke_certificate(call: Call, id: str, body: Revocation | None = None) -> Any:
    """Revoke every unexpired version; OCSP says so from the answer on."""
    reason = revoke.parse_reason(body.reason if body else "unspecified")
    count = await revoke.one(call.on, call.actor, id, reason=reason)
    return {"status": "revoked", "revoked_versions": count}
