"""Plain resources: created, read, listed, changed and removed as the established API has it."""

from __future__ import annotations

from typing import Any

import pytest

from certctl.connectors import catalog
from tests import kit
from tests.web.kit import NGINX, Json, Site

# The path, what a client sends, what it changes, and what must be seen then.
RESOURCES: dict[str, tuple[Json, Json]] = {
    "/teams": ({"name": "red", "description": "first"}, {"description": "second"}),
    "/owners": ({"name": "ann", "email": "ann@example.test"}, {"team_id": "t-default"}),
    "/renewal-policies": (
        {"name": "soon", "renewal_window_days": 7, "alert_thresholds_days": [7, 1]},
        {"auto_renew": False},
    ),
    "/profiles": (
        {"name": "short", "max_ttl_seconds": 3600, "allowed_ekus": ["serverAuth", "clientAuth"]},
        {"must_staple": True},
    ),
    "/issuers": (
        {"name": "second", "type": "GenericCA", "config": {"validity_days": 30}},
        {"enabled": False},
    ),
    "/targets": ({"name": "web", "type": "NGINX", "config": NGINX}, {"name": "web two"}),
}


@pytest.mark.parametrize("path", RESOURCES)
async def test_a_row_lives_from_its_creation_to_its_deletion(site: Site, path: str) -> None:
    sent, change = RESOURCES[path]
    if path == "/targets":
        sent = {**sent, "agent_id": (await site.enrol())["agent_id"]}
    made = await site.post(path, sent)
    assert {name: made[name] for name in sent} == sent
    where = f"{path}/{made['id']}"
    assert await site.get(where) == made
    changed = (await site.call("PUT", where, json=change)).json()
    assert {name: changed[name] for name in (*sent, *change)} == {**sent, **change}
    assert changed["updated_at"] > made["updated_at"]
    listed = (await site.get(path))["data"]
    assert changed in listed
    answer = await site.call("DELETE", where)
    assert (answer.status_code, answer.content) == (204, b"")
    await site.refused(404, "GET", where)
    await site.refused(404, "DELETE", where)
    await site.refused(404, "PUT", where, json=change)


@pytest.mark.parametrize("path", RESOURCES)
async def test_each_change_leaves_one_row_in_the_audit_trail(site: Site, path: str) -> None:
    sent, change = RESOURCES[path]
    if path == "/targets":
        sent = {**sent, "agent_id": (await site.enrol())["agent_id"]}
    answers = [await site.call("POST", path, json=sent)]
    where = f"{path}/{answers[0].json()['id']}"
    answers.append(await site.call("PUT", where, json=change))
    answers.append(await site.call("DELETE", where))
    row_id = answers[0].json()["id"]
    events = (await site.get(f"/audit?resource_id={row_id}"))["data"]
    told = [(each["action"].rpartition("_")[2], each["request_id"]) for each in reversed(events)]
    ids = [answer.headers["X-Request-ID"] for answer in answers]
    assert told == list(zip(("created", "updated", "deleted"), ids, strict=True))
    assert {(each["actor"], each["address"]) for each in events} == {("admin", "192.0.2.9")}
    assert await site.get(f"/audit/{events[0]['id']}") == events[0]


async def test_a_list_is_numbered_or_walked(site: Site) -> None:
    for number in range(5):
        await site.post("/teams", {"name": f"team {number}"})
    numbered = await site.get("/teams?page=2&per_page=4")
    assert (numbered["total"], numbered["page"], numbered["per_page"]) == (6, 2, 4)
    assert len(numbered["data"]) == 2
    seen, cursor = [], ""
    while cursor is not None:
        page = await site.get(f"/teams?cursor={cursor}&page_size=4")
        assert page["page_size"] == 4
        seen += [row["name"] for row in page["data"]]
        cursor = page["next_cursor"]
    assert seen == ["Platform", *(f"team {number}" for number in range(5))]


async def test_an_owner_can_be_left_without_a_team(site: Site) -> None:
    changed = await site.call("PUT", "/owners/o-default", json={"team_id": None})
    assert changed.json()["team_id"] is None


async def test_a_chosen_id_is_kept(site: Site) -> None:
    assert (await site.post("/teams", {"id": "t-mine", "name": "mine"}))["id"] == "t-mine"


async def test_a_profile_counts_its_versions(site: Site) -> None:
    for version in (2, 3):
        changed = await site.call("PUT", "/profiles/prof-default", json={"description": "new"})
        assert changed.json()["version"] == version


async def test_a_profile_warns_of_a_critical_must_staple_wherever_it_is_shown(site: Site) -> None:
    wish = {"name": "strict", "must_staple": True, "must_staple_critical": True}
    made = await site.post("/profiles", wish)
    assert "OpenSSL, refuses a certificate" in made["warnings"][0]
    assert (await site.get(f"/profiles/{made['id']}"))["warnings"] == made["warnings"]
    listed = {row["id"]: row["warnings"] for row in (await site.get("/profiles"))["data"]}
    assert listed == {"prof-default": [], made["id"]: made["warnings"]}


async def test_our_issuing_ca_shows_that_it_asserts_any_policy_and_the_root_none(
    site: Site,
) -> None:
    """RFC 5280 §4.2.1.4, §6.1: paths begin below the root."""
    found = (await site.get("/issuers/iss-local/intermediates"))["data"]
    asserted = {ca["parent_ca_id"] is None: ca["certificate_policies"] for ca in found}
    assert asserted == {True: [], False: ["2.5.29.32.0"]}


async def test_a_change_of_nothing_changes_nothing_that_is_seen(site: Site) -> None:
    before = await site.get("/teams/t-default")
    after = (await site.call("PUT", "/teams/t-default", json={})).json()
    assert {**after, "updated_at": before["updated_at"]} == before


async def test_an_issuer_can_be_asked_whether_it_could_issue(site: Site) -> None:
    answer = await site.post("/issuers/iss-local/test", None, status=200)
    assert answer["status"] == "connection_successful"


async def test_a_type_is_known_in_any_spelling_of_case(site: Site) -> None:
    agent = await site.enrol()
    assert (await site.target(agent, type="nginx"))["type"] == "NGINX"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A kind of target in the catalogue whose configuration holds secrets."""
    monkeypatch.setitem(catalog.TARGETS, "Toy", "tests.kit:Toy")


async def test_secrets_of_a_configuration_are_shown_to_nobody(site: Site, toy: Any) -> None:
    agent = await site.enrol()
    made = await site.target(agent, type="Toy", config=kit.TOY)
    masked = {"token": "********", "login": {"user": "operator", "password": "********"}}
    assert made["config"] == masked
    where = f"/targets/{made['id']}"
    changed = await site.call("PUT", where, json={"config": {**masked, "key_path": "/srv/k"}})
    for answer in (
        changed,
        await site.call("GET", where),
        await site.call("GET", "/targets"),
        await site.call("GET", "/audit"),
        await site.call("DELETE", where),
        await site.call("GET", "/audit"),
    ):
        assert "sesame" not in answer.text


async def test_a_refused_secret_is_not_repeated(site: Site, toy: Any) -> None:
    agent = await site.enrol()
    body = {
        "name": "x",
        "type": "Toy",
        "agent_id": agent["agent_id"],
        "config": {"token": ["sesame"]},
    }
    answer = await site.call("POST", "/targets", json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, "config.token")
    assert "sesame" not in answer.text


async def test_the_agent_of_a_target_gets_its_configuration_whole(site: Site, toy: Any) -> None:
    agent = await site.enrol()
    made = await site.target(agent, type="Toy", config=kit.TOY)
    masked = {"config": {**made["config"], "key_path": "/srv/k"}}
    await site.call("PUT", f"/targets/{made['id']}", json=masked)
    await site.order(target_ids=[made["id"]])
    (item,) = (await site.work(agent))["jobs"]
    await site.send_csr(agent, item)
    (item,) = (await site.work(agent))["jobs"]
    assert item["target_config"] == {**kit.TOY, "key_path": "/srv/k"}
