"""What each listener offers. The faces are public; everything else is behind the gate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from certctl.domain.access import Actor, ActorType, actor_with_roles
from certctl.services import firststart
from certctl.services.platform import Platform
from certctl.web import gate, openapi
from certctl.web.api import (
    access,
    agents,
    approvals,
    audit,
    authorities,
    bulk,
    certificates,
    checkpoints,
    digest,
    export,
    fleet,
    groups,
    importing,
    jobs,
    keys,
    notifications,
    organisation,
    policies,
    reports,
    roles,
    stats,
)
from certctl.web.front import Face, FrontDoor
from certctl.web.limits import Limiter, per_address, per_key
from certctl.web.public import bootstrap, enrolment, ops, status

FACES: Final = (ops.FACE, bootstrap.FACE, enrolment.FACE, status.FACE)
ANONYMOUS: Final = actor_with_roles("actor-demo-anon", ("r-admin",), kind=ActorType.ANONYMOUS)
RESOURCES: Final = (
    access.auth,
    roles.roles,
    keys.keys,
    bulk.bulk,
    bulk.operations,
    importing.imports,
    export.exports,
    certificates.certificates,
    authorities.issuers,
    organisation.profiles,
    organisation.renewal_policies,
    organisation.owners,
    organisation.teams,
    fleet.targets,
    fleet.agents,
    groups.groups,
    policies.policies,
    agents.calls,
    jobs.jobs,
    approvals.job_decisions,
    approvals.approvals,
    checkpoints.proofs,
    audit.audit,
    notifications.notifications,
    digest.digest,
    stats.stats,
    reports.reports,
)


@dataclass(frozen=True)
class Budgets:
    """What callers may spend; None where limits are off. `max_body` is in bytes."""

    by_key: Limiter | None
    by_address: Limiter | None
    status_by_address: Limiter | None
    max_body: int


def management_door(
    platform: Platform,
    authenticate: Callable[[str], Awaitable[Actor | None]],
    *,
    readiness: ops.Readiness,
    budgets: Budgets,
    auth_type: str = "api-key",
) -> FrontDoor:
    """The HTTPS listener: public faces first, then everything behind the gate."""
    by_address = per_address(budgets.by_address)
    anybody = ANONYMOUS if auth_type == "none" else None
    behind = gate.management_api(
        RESOURCES,
        platform,
        authenticate,
        limiter=per_key(budgets.by_key),
        strangers=by_address,
        anybody=anybody,
        max_body=budgets.max_body,
    )
    enrolling = enrolment.enrolment_app(platform, firststart.ISSUER_ID)
    faces = (
        Face(ops.FACE, ops.ops_app(readiness, auth_type), by_address),
        Face(bootstrap.FACE, bootstrap.bootstrap_app(platform), by_address),
        Face(enrolment.FACE, enrolling, by_address),
        _status_face(platform, budgets),
    )
    return FrontDoor(faces, behind, tls=True)


def pki_door(platform: Platform, budgets: Budgets) -> FrontDoor:
    """The plain-http listener: OCSP, CRLs and CA certificates, and nothing else."""
    return FrontDoor((_status_face(platform, budgets),), None, tls=False)


def _status_face(platform: Platform, budgets: Budgets) -> Face:
    limiter = per_address(budgets.status_by_address)
    return Face(status.FACE, status.status_app(platform), limiter, status.tell)


def table() -> str:
    """Every route with what it needs: what `certctl routes` prints."""
    rows = [
        (row.method, gate.PREFIX + row.path, str(row.needs))
        for resource in RESOURCES
        for row in resource.routes
    ]
    rows += [(m, path, face.authentication) for face in FACES for m, path in face.routes]
    return "".join(f"{m:<7}{p:<56}{n}\n" for m, p, n in sorted(rows, key=lambda r: (r[1], r[0])))


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document, from the routes alone: nothing is opened."""
    return openapi.document(gate.described(RESOURCES))
