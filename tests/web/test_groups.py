"""Groups of agents: criteria, named members, real address arithmetic, and safe deletion."""

from __future__ import annotations

from typing import Any

import pytest

from certctl.services import renew
from tests import kit
from tests.services.test_due import near_its_end
from tests.web.kit import Site, json_of

FLEET: dict[str, dict[str, str]] = {
    "dmz": {"os": "linux", "architecture": "x86_64", "ip_address": "10.1.2.3", "version": "1.4.2"},
    "lab": {"os": "Linux", "architecture": "aarch64", "ip_address": "10.2.0.1", "version": "1.10"},
    "six": {
        "os": "freebsd",
        "architecture": "x86_64",
        "ip_address": "2001:db8::5",
        "version": "2.0",
    },
    "odd": {"os": "", "architecture": "", "ip_address": "not an address", "version": "dev"},
}


async def fleet(site: Site) -> dict[str, str]:
    """Agents that have told what they are: their ids by name."""
    ids = {}
    for name, facts in FLEET.items():
        agent = await site.enrol(name)
        path = f"/agents/{agent['agent_id']}/heartbeat"
        await site.post(path, facts, status=200, key=agent["credential"])
        ids[name] = agent["agent_id"]
    return ids


async def members(site: Site, group_id: str) -> list[str]:
    answer = await site.get(f"/agent-groups/{group_id}/members")
    return [row["name"] for row in answer["data"]]


@pytest.mark.parametrize(
    ("criteria", "names"),
    [
        ({}, []),
        ({"match_os": "LINUX"}, ["dmz", "lab"]),
        ({"match_os": "linux", "match_architecture": "x86_64"}, ["dmz"]),
        ({"match_ip_cidr": "10.1.0.0/16"}, ["dmz"]),
        ({"match_ip_cidr": "10.0.0.0/8"}, ["dmz", "lab"]),
        ({"match_ip_cidr": "10.1.2.3/32"}, ["dmz"]),
        ({"match_ip_cidr": "10.1.2.3"}, ["dmz"]),
        ({"match_ip_cidr": "2001:db8::/32"}, ["six"]),
        ({"match_ip_cidr": "::/0"}, ["six"]),
        ({"match_version": "1.4.2"}, ["dmz"]),
        ({"match_version": "1.4.*"}, ["dmz"]),
        ({"match_version": "1.1.*"}, []),
        ({"match_version": ">=1.5"}, ["lab", "six"]),
        ({"match_os": "linux", "enabled": False}, []),
    ],
)
async def test_a_group_holds_who_fits_every_criterion(
    site: Site, criteria: dict[str, Any], names: list[str]
) -> None:
    await fleet(site)
    made = await site.post("/agent-groups", {"name": "some", **criteria})
    assert await members(site, made["id"]) == names


async def test_named_agents_belong_whatever_they_are_and_excluded_ones_never_do(
    site: Site,
) -> None:
    ids = await fleet(site)
    body = {
        "name": "some",
        "match_os": "linux",
        "agent_ids": [ids["odd"]],
        "excluded_agent_ids": [ids["lab"]],
    }
    made = await site.post("/agent-groups", body)
    assert await members(site, made["id"]) == ["dmz", "odd"]
    change = {"agent_ids": [ids["lab"]]}
    changed = json_of(await site.call("PUT", f"/agent-groups/{made['id']}", json=change), 200)
    assert (changed["agent_ids"], changed["excluded_agent_ids"]) == ([ids["lab"]], [])
    assert await members(site, made["id"]) == ["dmz", "lab"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"match_ip_cidr": "10.1.2.3/16"}, "match_ip_cidr"),
        ({"match_ip_cidr": "10.1"}, "match_ip_cidr"),
        ({"match_version": "newest"}, "match_version"),
        ({"agent_ids": ["ag-none"]}, "agent_ids"),
        ({"agent_ids": ["x"], "excluded_agent_ids": ["x"]}, "excluded_agent_ids"),
        ({"color": "red"}, "color"),
    ],
)
async def test_what_does_not_fit_is_refused_by_name(
    site: Site, body: dict[str, Any], field: str
) -> None:
    problem = await site.refused(400, "POST", "/agent-groups", json={"name": "some", **body})
    assert problem["field"] == field
    assert (await site.get("/agent-groups"))["data"] == []


async def test_a_group_in_use_is_not_deleted(site: Site) -> None:
    group = await site.post("/agent-groups", {"name": "some"})
    policy = await site.post("/renewal-policies", {"name": "p", "agent_group_id": group["id"]})
    problem = await site.refused(409, "DELETE", f"/agent-groups/{group['id']}")
    assert problem["counts"] == {"renewal_policies": 1}
    json_of(
        await site.call("PUT", f"/renewal-policies/{policy['id']}", json={"agent_group_id": None}),
        200,
    )
    assert (await site.call("DELETE", f"/agent-groups/{group['id']}")).status_code == 204


async def test_a_policy_renews_by_itself_on_the_agents_of_its_group_only(site: Site) -> None:
    made, agent = await site.served()
    group = await site.post("/agent-groups", {"name": "some", "match_os": "linux"})
    policy = await site.post("/renewal-policies", {"name": "p", "agent_group_id": group["id"]})
    change = {"renewal_policy_id": policy["id"]}
    json_of(await site.call("PUT", f"/certificates/{made['id']}", json=change), 200)
    await near_its_end(site.world)
    assert await renew.find_due(site.world.platform) == 0
    change = {"agent_ids": [agent["agent_id"]]}
    json_of(await site.call("PUT", f"/agent-groups/{group['id']}", json=change), 200)
    assert await renew.find_due(site.world.platform) == 1


async def test_the_numbers_are_those_of_the_whole_inventory(site: Site) -> None:
    made, _ = await site.served()
    await kit.change(
        site.world,
        """INSERT INTO managed_certificates (id, name, common_name, sans, owner_id, team_id,
               issuer_id, renewal_policy_id, certificate_profile_id, status, expires_at)
           SELECT 'mc-' || n, 'site-' || n, 'a.test', '{a.test}', 'o-default', 't-default',
               'iss-local', 'rp-default', 'prof-default',
               CASE WHEN n <= 700 THEN 'Expiring' WHEN n <= 720 THEN 'Revoked' ELSE 'Archived' END,
               date_trunc('day', now()) + interval '36 hours'
           FROM generate_series(1, 730) n""",
    )
    told = await site.get("/stats/summary")
    assert (told["total_certificates"], told["expiring_certificates"]) == (721, 700)
    assert (told["revoked_certificates"], told["expired_certificates"]) == (20, 0)
    assert (told["complete_jobs"], told["pending_jobs"], told["failed_jobs"]) == (2, 0, 0)
    assert (told["total_agents"], told["active_agents"], told["offline_agents"]) == (1, 0, 1)
    counts = {
        row["status"]: row["count"]
        for row in (await site.get("/stats/certificates-by-status"))["status_counts"]
    }
    assert counts == {"Active": 1, "Expiring": 700, "Revoked": 20, "Archived": 10}
    timeline = (await site.get("/stats/expiration-timeline?days=3"))["buckets"]
    assert [row["count"] for row in timeline] == [0, 700, 0]
    rate = (await site.get("/stats/issuance-rate?days=2"))["rate"]
    assert [row["count"] for row in rate] == [0, 1]
    trends = (await site.get("/stats/job-trends?days=365"))["trends"]
    assert (len(trends), trends[-1]["completed"], trends[-1]["failed"]) == (365, 2, 0)
    assert made["id"]


@pytest.mark.parametrize("days", ["0", "366", "many", "-1"])
@pytest.mark.parametrize("series", ["expiration-timeline", "job-trends", "issuance-rate"])
async def test_a_range_outside_a_year_is_refused(site: Site, series: str, days: str) -> None:
    problem = await site.refused(400, "GET", f"/stats/{series}?days={days}")
    assert problem["field"] == "days"
