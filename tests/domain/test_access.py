"""The established roles and their permissions, and what an actor sees."""

from __future__ import annotations

import pytest

from certctl.domain.access import (
    ANY_ACTOR,
    EVERYTHING,
    NOTHING,
    ROLES,
    ActorType,
    Permission,
    actor_with_roles,
    system,
)
from certctl.domain.errors import NotAllowed

P = Permission
READS = {p for p in Permission if p.endswith(".read")}


def test_the_administrator_may_do_everything() -> None:
    assert ROLES["r-admin"] == frozenset(Permission)


def test_the_operator_may_not_retire_agents_or_delete_issuers_and_profiles() -> None:
    agents_only = {P.AGENT_HEARTBEAT, P.AGENT_JOB_POLL, P.AGENT_JOB_COMPLETE, P.AGENT_JOB_REPORT}
    missing = set(Permission) - ROLES["r-operator"]
    assert missing == agents_only | {
        P.AGENT_RETIRE,
        P.CERT_BULK_REVOKE,
        P.ISSUER_DELETE,
        P.PROFILE_DELETE,
    }


def test_the_viewer_may_read_and_nothing_else() -> None:
    assert ROLES["r-viewer"] == READS


def test_the_auditor_may_read_the_audit_trail_and_nothing_else() -> None:
    assert ROLES["r-auditor"] == {P.AUDIT_READ}


def test_the_agent_may_do_what_an_agent_does() -> None:
    assert ROLES["r-agent"] == {
        P.CERT_READ,
        P.AGENT_HEARTBEAT,
        P.AGENT_JOB_POLL,
        P.AGENT_JOB_COMPLETE,
        P.AGENT_JOB_REPORT,
    }


def test_roles_add_up() -> None:
    both = actor_with_roles("x", ("r-auditor", "r-agent"))
    assert both.permissions == ROLES["r-auditor"] | ROLES["r-agent"]


def test_an_actor_without_roles_may_do_what_anybody_may_and_no_more() -> None:
    nobody = actor_with_roles("x", ())
    assert nobody.may(ANY_ACTOR)
    assert not any(nobody.may(permission) for permission in Permission)


def test_reading_without_the_permission_is_refused_by_its_name() -> None:
    with pytest.raises(NotAllowed, match=r"issuer\.read"):
        actor_with_roles("x", ("r-auditor",)).scope(P.ISSUER_READ)


def test_a_person_sees_everything_and_an_agent_nothing_beyond_its_own_routes() -> None:
    agent = actor_with_roles("ag-1", ("r-agent",), kind=ActorType.AGENT, agent_id="ag-1")
    assert actor_with_roles("x", ("r-viewer",)).scope(P.CERT_READ) == EVERYTHING
    assert agent.scope(P.CERT_READ) == NOTHING


def test_only_the_role_makes_an_administrator() -> None:
    assert actor_with_roles("x", ("r-admin",)).is_admin
    assert not system("renewal").is_admin
