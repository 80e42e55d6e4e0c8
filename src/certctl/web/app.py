"""What each listener offers. The faces are public; everything else is behind the gate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from starlette.types import Scope

from certctl.domain.access import ActorType, actor_with_roles
from certctl.services import firststart, providers
from certctl.services.platform import Platform
from certctl.web import gate, openapi
from certctl.web.api import (
    access,
    agents,
    approvals,
    audit,
    authorities,
    blocked_keys,
    breakglass,
    bulk,
    certificates,
    checkpoints,
    digest,
    export,
    fleet,
    groups,
    hierarchy,
    importing,
    jobs,
    keys,
    lint_waivers,
    notifications,
    oidc,
    organisation,
    outside,
    policies,
    reports,
    roles,
    rollover,
    sessions,
    stats,
    subordinate,
    users,
)
from certctl.web.callers import Authenticate, Callers
from certctl.web.cors import Cors
from certctl.web.front import Face, FrontDoor, Room, Rules
from certctl.web.limits import AddressBudget, Limiter, per_key
from certctl.web.public import bootstrap, enrolment, ops, signin, status
from certctl.web.public import oidc as oidc_face

FACES: Final = (
    ops.FACE,
    bootstrap.FACE,
    signin.LOGOUT,
    signin.BREAKGLASS,
    oidc_face.FACE,
    enrolment.FACE,
    status.FACE,
)
ANONYMOUS: Final = actor_with_roles("actor-demo-anon", ("r-admin",), kind=ActorType.ANONYMOUS)
RESOURCES: Final = (
    access.auth,
    roles.roles,
    keys.keys,
    users.users,
    sessions.sessions,
    breakglass.breakglass,
    oidc.oidc,
    bulk.bulk,
    bulk.operations,
    importing.imports,
    export.exports,
    blocked_keys.blocked_keys,
    certificates.certificates,
    authorities.issuers,
    hierarchy.of_issuer,
    hierarchy.intermediates,
    subordinate.of_issuer,
    subordinate.intermediates,
    outside.intermediates,
    rollover.intermediates,
    organisation.profiles,
    lint_waivers.lint_waivers,
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

    def share(self, replicas: int) -> None:
        """Grant each caller this server's part among so many."""
        for limiter in (self.by_key, self.by_address, self.status_by_address):
            if limiter is not None:
                limiter.share(replicas)


def management_door(
    platform: Platform,
    authenticate: Authenticate,
    *,
    readiness: ops.Readiness,
    budgets: Budgets,
    auth_type: str = "api-key",
    rules: Rules = Rules(),
    origins: frozenset[str] = frozenset(),
    status_on: Platform | None = None,
) -> FrontDoor:
    """The HTTPS listener: public faces first, then everything behind the gate.

    Pages of `origins` may read it in a browser. `status_on` is what relying parties are answered
    on, where that is another.
    """
    by_address = AddressBudget(budgets.by_address)
    cors = Cors(origins, by_address) if origins else None
    rules = replace(rules, cors=cors, waits=is_long_poll)
    room, newcomers = Room(rules.at_once), Room(rules.at_once)
    callers = Callers(
        authenticate,
        per_key(budgets.by_key),
        strangers=by_address,
        anybody=ANONYMOUS if auth_type == "none" else None,
    )
    behind = gate.management_api(_offered(platform), platform, callers, max_body=budgets.max_body)
    enrolling = enrolment.enrolment_app(platform, firststart.ISSUER_ID)
    faces = (
        Face(
            ops.FACE,
            ops.ops_app(readiness, auth_type, partial(providers.to_choose, platform)),
            by_address,
        ),
        Face(bootstrap.FACE, bootstrap.bootstrap_app(platform), by_address, room=newcomers),
        Face(signin.LOGOUT, signin.logout_app(platform), by_address, room=newcomers),
        *_breakglass_face(platform, newcomers),
        Face(oidc_face.FACE, oidc_face.oidc_app(platform), by_address, room=newcomers),
        Face(enrolment.FACE, enrolling, by_address, room=newcomers),
        _status_face(status_on or platform, budgets, rules),
    )
    return FrontDoor(faces, behind, tls=True, rules=rules, room=room)


def _offered(platform: Platform) -> tuple[gate.Resource, ...]:
    """What is turned off is not there: it answers as unknown paths do."""
    absent = () if platform.terms.people.breakglass else (breakglass.breakglass,)
    return tuple(each for each in RESOURCES if each not in absent)


def _breakglass_face(platform: Platform, room: Room) -> tuple[Face, ...]:
    if not platform.terms.people.breakglass:
        return ()
    # Five attempts a minute for each address, whatever limits the operator has chosen.
    limiter = AddressBudget(Limiter(rate=5 / 60, burst=5))
    return (Face(signin.BREAKGLASS, signin.breakglass_app(platform), limiter, room=room),)


def is_long_poll(scope: Scope) -> bool:
    """An agent's request for work, which waits until there is some."""
    path: str = scope["path"]
    return path.startswith(f"{gate.PREFIX}/agents/") and path.endswith("/work")


def _status_face(platform: Platform, budgets: Budgets, rules: Rules) -> Face:
    return Face(
        status.FACE,
        status.status_app(platform),
        AddressBudget(budgets.status_by_address),
        status.tell,
        room=Room(rules.at_once),
        own_origin=True,
    )


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
