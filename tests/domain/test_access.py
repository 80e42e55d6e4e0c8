"""The established roles and their permissions, and what an actor sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.domain.access import (
    ANY_ACTOR,
    EVERYTHING,
    NOTHING,
    ROLES,
    Actor,
    ActorType,
    Grant,
    Permission,
    Scope,
    actor_with_roles,
    granted,
    system,
)
from certctl.domain.errors import NotAllowed

P = Permission


def test_the_administrator_may_do_everything() -> None:
    assert ROLES["r-admin"] == frozenset(Permission)


def test_roles_add_up() -> None:
    both = actor_with_roles("x", ("r-auditor", "r-agent"))
    assert set(both.permissions) == ROLES["r-auditor"] | ROLES["r-agent"]


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


def test_who_may_do_everything_everywhere_is_an_administrator_and_no_task_is() -> None:
    assert actor_with_roles("x", ("r-admin",)).is_admin
    assert not actor_with_roles("x", ("r-operator",)).is_admin
    of_one = {each: Scope(issuers=frozenset({"iss-1"})) for each in Permission}
    assert not Actor("x", ActorType.API_KEY, permissions=of_one).is_admin
    assert not system("renewal").is_admin


def grants(permission: Permission = P.CERT_READ) -> st.SearchStrategy[Grant]:
    ids = st.sampled_from(["1", "2"])
    return st.one_of(
        st.just(Grant(permission)),
        ids.map(lambda each: Grant(permission, issuer_id=each)),
        ids.map(lambda each: Grant(permission, profile_id=each)),
    )


@given(st.lists(grants()), st.sampled_from("123"), st.sampled_from("123"))
def test_something_is_in_scope_when_one_grant_has_it(
    held: list[Grant], issuer_id: str, profile_id: str
) -> None:
    scope = granted(held).get(P.CERT_READ, NOTHING)
    one_has = any(each.scope.has(issuer_id=issuer_id, profile_id=profile_id) for each in held)
    assert scope.has(issuer_id=issuer_id, profile_id=profile_id) == one_has


@given(st.lists(grants()), grants())
def test_nobody_holds_a_grant_that_reaches_further_than_theirs(
    held: list[Grant], wanted: Grant
) -> None:
    actor = Actor("x", ActorType.API_KEY, permissions=granted(held))
    together = actor.permissions.get(P.CERT_READ, NOTHING)
    assert actor.holds(wanted) == (together | wanted.scope == together or together.everything)


@given(grants(), grants())
def test_a_grant_within_a_place_reaches_no_further_than_either(one: Grant, place: Grant) -> None:
    left = one.within(issuer_id=place.issuer_id, profile_id=place.profile_id)
    if left is not None:
        for whole in (one.scope, place.scope):
            assert whole.everything or left.scope | whole == whole
    else:
        assert one.scope != place.scope
        assert not one.scope.everything
        assert not place.scope.everything


def test_what_belongs_to_no_issuer_takes_a_permission_for_everything() -> None:
    part = Actor("x", ActorType.API_KEY, permissions=granted([Grant(P.TEAM_EDIT, "iss-1")]))
    with pytest.raises(NotAllowed, match=r"team\.edit for everything"):
        part.everywhere(P.TEAM_EDIT)
    with pytest.raises(NotAllowed, match=r"team\.read$"):
        part.everywhere(P.TEAM_READ)
