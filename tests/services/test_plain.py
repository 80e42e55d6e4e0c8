"""Plain resources: what people see of a configuration, what is refused, what is in use."""

from __future__ import annotations

from typing import Any

import pytest

from certctl.connectors import catalog
from certctl.domain.errors import Conflict, Invalid, NotAllowed, NotFound, Stale
from certctl.services import issuers, plain
from certctl.services.plain import MASK, etag
from tests import kit
from tests.conftest import World


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue that knows one more target."""
    monkeypatch.setitem(catalog.TARGETS, "Toy", "tests.kit:Toy")


@pytest.fixture
async def toy(world: World, toys: None) -> tuple[kit.Actor, str]:
    agent = await kit.an_agent(world)
    return agent, await kit.a_target(world, agent, type="toy", config=kit.TOY)


async def shown(world: World, target_id: str) -> dict[str, Any]:
    row = await plain.get(world.platform, kit.VIEWER, plain.TARGETS, target_id)
    config: dict[str, Any] = row["config"]
    return config


async def whole(world: World, target_id: str) -> dict[str, Any]:
    async with world.platform.db.read() as session:
        return await plain.whole_config(world.platform, session, plain.TARGETS, target_id)


async def change(world: World, target_id: str, **changes: Any) -> None:
    await plain.update(world.platform, kit.ADMIN, plain.TARGETS, target_id, changes=changes)


async def test_secrets_are_masked_at_every_depth_and_kept_whole(
    world: World, toy: tuple[kit.Actor, str]
) -> None:
    _, target_id = toy
    assert await shown(world, target_id) == {
        "token": MASK,
        "login": {"user": "operator", "password": MASK},
    }
    assert await whole(world, target_id) == kit.TOY


async def test_a_path_to_a_key_is_no_secret(world: World, toy: tuple[kit.Actor, str]) -> None:
    _, target_id = toy
    await change(world, target_id, config={**kit.TOY, "key_path": "/srv/other.key"})
    assert (await shown(world, target_id))["key_path"] == "/srv/other.key"


async def test_a_mask_that_comes_back_keeps_the_secret(
    world: World, toy: tuple[kit.Actor, str]
) -> None:
    _, target_id = toy
    sent = await shown(world, target_id)
    sent["login"]["user"] = "somebody else"
    await change(world, target_id, config=sent)
    assert await whole(world, target_id) == {
        "token": "sesame-1",
        "login": {"user": "somebody else", "password": "sesame-2"},
    }


async def test_no_secret_is_in_any_readable_column_or_in_the_audit_trail(
    world: World, toy: tuple[kit.Actor, str]
) -> None:
    _, target_id = toy
    await change(world, target_id, config={**kit.TOY, "token": "sesame-3"})
    dump = str(
        [
            await kit.rows(world, f"SELECT t::text FROM {table} t")
            for table in ("deployment_targets", "audit_events")
        ]
    )
    assert target_id in dump
    assert "sesame" not in dump


async def test_the_own_agent_gets_the_whole_configuration(
    world: World, toy: tuple[kit.Actor, str]
) -> None:
    agent, target_id = toy
    await kit.order(world, target_ids=[target_id])
    await kit.issue_to(world, agent)
    (item,) = await kit.offered(world, agent)
    assert item.target_config == kit.TOY


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"type": "nonsense"}, "type"),
        ({"type": None}, "type"),
        ({"config": {}}, "config.cert_path"),
        ({"config": {**kit.NGINX, "unknown": 1}}, "config.unknown"),
        ({"config": {**kit.NGINX, "cert_path": "not/absolute"}}, "config.cert_path"),
        ({"agent_id": "ag-nobody"}, "agent_id"),
        ({"id": "../etc"}, "id"),
    ],
)
async def test_a_target_that_cannot_work_is_refused_by_field(
    world: World, values: dict[str, Any], field: str
) -> None:
    agent = await kit.an_agent(world)
    before = await kit.rows(world, "SELECT id FROM audit_events")
    with pytest.raises(Invalid) as caught:
        await kit.a_target(world, agent, **values)
    assert caught.value.field == field
    assert await kit.rows(world, "SELECT * FROM deployment_targets") == []
    assert await kit.rows(world, "SELECT id FROM audit_events") == before


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"allowed_key_algorithms": [{"algorithm": "DSA", "min_size": 1024}]}, "allowed_key"),
        ({"allowed_key_algorithms": [{"algorithm": "RSA", "min_size": 1024}]}, "allowed_key"),
        ({"allowed_ekus": ["anyExtendedKeyUsage"]}, "allowed_ekus"),
        ({"required_san_patterns": ["(a+)+"]}, "required_san_patterns"),
        ({"max_ttl_seconds": 0}, "certificate_profiles_max_ttl"),
    ],
)
async def test_a_profile_that_allows_too_much_is_refused_by_field(
    world: World, rules: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await kit.a_profile(world, **rules)
    assert (caught.value.field or "").startswith(field)


@pytest.mark.parametrize(
    "rule",
    [{"algorithm": "RSA", "min_size": 8192}, {"algorithm": "ECDSA", "min_size": 521}],
)
async def test_a_profile_that_no_agent_could_follow_is_refused(
    world: World, rule: dict[str, Any]
) -> None:
    with pytest.raises(Invalid) as caught:
        await kit.a_profile(world, allowed_key_algorithms=[rule])
    assert caught.value.field == "allowed_key_algorithms"


async def test_each_change_of_a_profile_is_a_new_version(world: World) -> None:
    profile = await kit.a_profile(world)
    row = await plain.update(
        world.platform, kit.ADMIN, plain.PROFILES, profile, changes={"max_ttl_seconds": 3600}
    )
    assert (row["version"], row["max_ttl_seconds"]) == (2, 3600)


async def test_a_type_cannot_be_changed(world: World, toy: tuple[kit.Actor, str]) -> None:
    with pytest.raises(Invalid) as caught:
        await change(world, toy[1], type="NGINX", config=kit.NGINX)
    assert caught.value.field == "type"


async def test_a_copy_that_is_out_of_date_is_refused(world: World) -> None:
    row = await plain.get(world.platform, kit.ADMIN, plain.TEAMS, "t-default")
    seen = etag(row["updated_at"])

    async def rename(name: str) -> None:
        await plain.update(
            world.platform,
            kit.ADMIN,
            plain.TEAMS,
            "t-default",
            changes={"name": name},
            if_match=seen,
        )

    await rename("first")
    with pytest.raises(Stale):
        await rename("second")
    row = await plain.get(world.platform, kit.ADMIN, plain.TEAMS, "t-default")
    assert row["name"] == "first"


async def test_a_creation_sent_again_with_its_key_is_the_same_row(world: World) -> None:
    async def create(actor: kit.Actor, name: str) -> str:
        row = await plain.create(
            world.platform, actor, plain.TEAMS, values={"name": name}, idempotency_key="k-1"
        )
        return str(row["id"])

    other = kit.actor_with_roles("other", ("r-admin",))
    first = await create(kit.ADMIN, "second team")
    assert await create(kit.ADMIN, "second team") == first
    assert await create(other, "third team") != first
    assert (await kit.actions(world)).count("team_created") == 3


async def test_an_id_in_use_is_refused_by_field(world: World) -> None:
    with pytest.raises(Conflict) as caught:
        await plain.create(
            world.platform, kit.ADMIN, plain.TEAMS, values={"id": "t-default", "name": "x"}
        )
    assert caught.value.field == "id"


@pytest.mark.parametrize(
    ("kind", "row_id", "words"),
    [
        (plain.TEAMS, "t-default", "1 owners, 1 managed certificates"),
        (plain.OWNERS, "o-default", "1 managed certificates"),
        (plain.RENEWAL_POLICIES, "rp-default", "1 managed certificates"),
        (plain.PROFILES, "prof-default", "1 managed certificates"),
        (plain.ISSUERS, "iss-local", "1 managed certificates, 2 authorities"),
    ],
)
async def test_what_is_in_use_is_not_deleted_and_the_users_are_counted(
    world: World, kind: plain.Plain, row_id: str, words: str
) -> None:
    await kit.order(world)
    before = await kit.everything(world)
    with pytest.raises(Conflict, match=words):
        await plain.delete(world.platform, kit.ADMIN, kind, row_id)
    assert await kit.everything(world) == before


async def test_what_is_deleted_is_gone_and_the_trail_keeps_it(world: World) -> None:
    profile = await kit.a_profile(world)
    await plain.delete(world.platform, kit.ADMIN, plain.PROFILES, profile)
    with pytest.raises(NotFound):
        await plain.get(world.platform, kit.ADMIN, plain.PROFILES, profile)
    before = await kit.value(
        world, "SELECT details->'before' FROM audit_events WHERE action = 'profile_deleted'"
    )
    assert before["name"] == "strict"


@pytest.mark.parametrize("change", ["create", "update", "delete"])
async def test_a_viewer_changes_nothing(world: World, change: str) -> None:
    calls = {
        "create": lambda on: plain.create(on, kit.VIEWER, plain.TEAMS, values={"name": "x"}),
        "update": lambda on: plain.update(
            on, kit.VIEWER, plain.TEAMS, "t-default", changes={"name": "x"}
        ),
        "delete": lambda on: plain.delete(on, kit.VIEWER, plain.TEAMS, "t-default"),
    }
    before = await kit.everything(world)
    with pytest.raises(NotAllowed):
        await calls[change](world.platform)
    assert await kit.everything(world) == before


async def test_a_change_is_on_record_with_who_from_where_and_what(world: World) -> None:
    await plain.update(
        world.platform, kit.ADMIN, plain.TEAMS, "t-default", changes={"name": "renamed"}
    )
    (event,) = await kit.rows(world, "SELECT * FROM audit_events WHERE action = 'team_updated'")
    assert (event["actor"], event["address"], event["request_id"]) == (
        "admin",
        "192.0.2.7",
        "request-of-a-test",
    )
    assert event["details"] == {"before": {"name": "Platform"}, "after": {"name": "renamed"}}


async def test_an_issuer_that_can_sign_passes_its_check(world: World) -> None:
    await issuers.check(world.platform, kit.ADMIN, "iss-local")


async def test_an_issuer_that_cannot_sign_says_why(world: World) -> None:
    await kit.change(world, "UPDATE issuers SET enabled = false")
    with pytest.raises(Conflict, match="iss-local is disabled"):
        await issuers.check(world.platform, kit.ADMIN, "iss-local")
