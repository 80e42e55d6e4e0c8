"""What an agent calls, and what it may not: its own id opens its own routes and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from cryptography import x509

from certctl.domain.access import ANY_ACTOR, ROLES
from tests.kit import a_csr
from tests.web.kit import ROWS, Json, Site, filled, json_of

PEM = {"csr_pem": a_csr("a.example.test")}


async def test_enrolment_gives_a_credential_that_is_not_kept_by_anybody(site: Site) -> None:
    token = (await site.post("/agents/enrolment-tokens", {}))["token"]
    body = {"token": token, "name": "web1", "hostname": "web1.example.test"}
    answer = await site.call("POST", "/agents/enrol", json=body, key=None)
    made = json_of(answer, 201)
    assert answer.headers["Cache-Control"] == "no-store"
    shown = await site.get(f"/agents/{made['agent_id']}")
    assert (shown["name"], shown["hostname"]) == ("web1", "web1.example.test")
    assert x509.load_pem_x509_certificate(made["ca_pem"].encode())
    trail = (await site.call("GET", "/audit")).text
    assert made["credential"] not in trail
    assert token not in trail


async def test_a_token_is_good_for_one_agent(site: Site) -> None:
    token = (await site.post("/agents/enrolment-tokens", {}))["token"]
    answers = await asyncio.gather(
        *(
            site.call("POST", "/agents/enrol", json={"token": token, "name": name}, key=None)
            for name in ("one", "two")
        )
    )
    assert sorted(answer.status_code for answer in answers) == [201, 401]


async def test_a_taken_name_does_not_use_the_token_up(site: Site) -> None:
    await site.enrol("web1")
    token = (await site.post("/agents/enrolment-tokens", {}))["token"]
    for name, status in (("web1", 409), ("web2", 201)):
        body = {"token": token, "name": name}
        answer = await site.call("POST", "/agents/enrol", json=body, key=None)
        assert answer.status_code == status


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"token": 1, "name": "x"}', b"x" * 20_000])
async def test_an_enrolment_that_cannot_be_read_is_told_so(site: Site, content: bytes) -> None:
    answer = await site.call("POST", "/agents/enrol", content=content, key=None)
    assert answer.status_code == (413 if len(content) > 16_384 else 400)
    assert answer.json()["request_id"]


async def test_the_trust_anchor_is_the_root(site: Site) -> None:
    answer = await site.call("GET", "/ca", key=None)
    anchor = x509.load_pem_x509_certificate(answer.content)
    assert answer.headers["Content-Type"].startswith("application/x-pem-file")
    assert anchor.issuer == anchor.subject


async def test_a_heartbeat_is_recorded(site: Site) -> None:
    agent = await site.enrol()
    path = f"/agents/{agent['agent_id']}"
    assert (await site.get(path))["status"] == "Offline"
    body = {"version": "9.9", "os": "linux", "of_a_later_version": True}
    answer = await site.post(f"{path}/heartbeat", body, status=200, key=agent["credential"])
    assert answer == {"status": "heartbeat_recorded", "renew_credential": False}
    shown = await site.get(path)
    assert (shown["version"], shown["os"], shown["status"]) == ("9.9", "linux", "Online")


async def test_without_work_the_answer_comes_at_once_or_after_the_wait(site: Site) -> None:
    agent = await site.enrol()
    assert await site.work(agent) == {"jobs": [], "count": 0}
    assert await site.work(agent, "?wait=0.05") == {"jobs": [], "count": 0}


async def test_a_wait_has_bounds(site: Site) -> None:
    agent = await site.enrol()
    path = f"/agents/{agent['agent_id']}/work"
    for query in ("wait=-1", "wait=61", "wait=nan", "wait=x", "session=" + "x" * 65):
        problem = await site.refused(400, "GET", f"{path}?{query}", key=agent["credential"])
        assert problem["field"] == query.partition("=")[0]


async def test_an_agent_collects_its_own_live_version(site: Site) -> None:
    made, agent = await site.served()
    path = f"/agents/{agent['agent_id']}/certificates/{made['id']}"
    answer = await site.get(path, key=agent["credential"])
    (version,) = (await site.get(f"/certificates/{made['id']}/versions"))["data"]
    assert answer == {
        "certificate_pem": version["pem_chain"],
        "fingerprint_sha256": version["fingerprint_sha256"],
    }


async def test_a_report_that_arrives_twice_changes_nothing(site: Site) -> None:
    made, agent = await site.served()
    jobs = (await site.get(f"/jobs?type=Deployment&certificate_id={made['id']}"))["data"]
    (version,) = (await site.get(f"/certificates/{made['id']}/versions"))["data"]
    before = (await site.get("/audit"))["total"]
    said = {"status": "Completed", "fingerprint_sha256": version["fingerprint_sha256"]}
    assert await site.report(agent, jobs[0], **said) == {"status": "updated"}
    assert (await site.get("/audit"))["total"] == before


async def asked(site: Site, caller: Json, agent_id: str) -> list[httpx.Response]:
    """What `caller` is answered at each route of the agent with this id."""
    path, key = f"/agents/{agent_id}", {"key": caller["credential"]}
    return [
        await site.call("POST", f"{path}/heartbeat", json={}, **key),
        await site.call("GET", f"{path}/work", **key),
        await site.call("POST", f"{path}/csr", json=PEM, **key),
        await site.call("POST", f"{path}/jobs/x/status", json={"status": "Running"}, **key),
        await site.call("GET", f"{path}/certificates/x", **key),
    ]


@pytest.mark.parametrize("other", ["two", "nobody", "ADMIN"])
async def test_the_routes_of_another_agent_are_closed(site: Site, other: str) -> None:
    one, two = await site.enrol("one"), await site.enrol("two")
    agent_id = two["agent_id"] if other == "two" else other
    assert {answer.status_code for answer in await asked(site, one, agent_id)} == {403}


async def test_an_administrator_is_no_agent(site: Site) -> None:
    agent = await site.enrol()
    problem = await site.refused(403, "GET", f"/agents/{agent['agent_id']}/work")
    assert "that agent only" in problem["message"]


async def test_the_jobs_of_another_agent_are_not_there_for_an_agent(site: Site) -> None:
    one, two = await site.enrol("one"), await site.enrol("two")
    await site.order(target_ids=[(await site.target(one))["id"]])
    (item,) = (await site.work(one))["jobs"]
    path, key = f"/agents/{two['agent_id']}", two["credential"]
    body: Json = {**PEM, "job_id": item["id"]}
    await site.refused(404, "POST", f"{path}/csr", json=body, key=key)
    status = f"{path}/jobs/{item['id']}/status"
    await site.refused(403, "POST", status, json={"status": "Failed"}, key=key)
    assert (await site.get(f"/jobs/{item['id']}"))["status"] == "AwaitingCSR"


async def test_an_agent_sees_nothing_of_what_people_see(site: Site) -> None:
    """`cert.read` opens its own pickup; the inventory stays empty for it."""
    made, agent = await site.served()
    for row in ROWS:
        if row.method != "GET" or row.path.startswith("/agents/{id}/"):
            continue
        path = filled(row.path, made["id"])
        answer = await site.call("GET", path, key=agent["credential"])
        if row.path == "/certificates":
            assert answer.json()["total"] == 0
        elif row.path.startswith(("/certificates/", "/bulk-operations/")):
            assert answer.status_code == 404
        else:
            assert answer.status_code == (200 if row.needs is ANY_ACTOR else 403), row.path


async def test_a_retired_agent_is_told_to_end(site: Site) -> None:
    agent = await site.enrol()
    path = f"/agents/{agent['agent_id']}"
    answer = await site.call("DELETE", f"{path}?reason=gone")
    assert (answer.json()["already_retired"], answer.json()["cascade"]) == (False, False)
    assert (await site.call("DELETE", path)).json()["already_retired"] is True
    assert {each.status_code for each in await asked(site, agent, agent["agent_id"])} == {410}
    assert (await site.get("/agents"))["total"] == 0
    (shown,) = (await site.get("/agents/retired"))["data"]
    assert (shown["id"], shown["retired_reason"]) == (agent["agent_id"], "gone")


async def test_an_agent_in_use_is_retired_by_force_and_with_a_reason_only(site: Site) -> None:
    _, agent = await site.served()
    path = f"/agents/{agent['agent_id']}"
    assert "1 active targets" in (await site.refused(409, "DELETE", path))["message"]
    assert (await site.refused(400, "DELETE", f"{path}?force=true"))["field"] == "reason"
    answer = await site.call("DELETE", f"{path}?force=true&reason=lost")
    assert answer.json()["counts"]["active_targets"] == 1
    body: dict[str, Any] = {"name": "x", "type": "NGINX", "agent_id": agent["agent_id"]}
    assert await site.refused(400, "POST", "/targets", json={**body, "config": {}})


async def test_two_agents_share_no_work(site: Site) -> None:
    """Each is offered the jobs of its own targets, whoever asks first."""
    one, two = await site.enrol("one"), await site.enrol("two")
    targets = [
        (await site.target(one, name="a"))["id"],
        (await site.target(two, name="b"))["id"],
    ]
    made = await site.order(target_ids=targets)
    offers = await asyncio.gather(site.work(one), site.work(two), site.work(one), site.work(two))
    ids = [item["id"] for offer in offers for item in offer["jobs"]]
    jobs = (await site.get(f"/jobs?certificate_id={made['id']}"))["data"]
    assert sorted(ids) == sorted(job["id"] for job in jobs)
    assert len(jobs) == 2


def test_agents_hold_no_permission_of_people() -> None:
    others = {p for p in ROLES["r-agent"] if not p.startswith("agent.")}
    assert others == {"cert.read", "discovery.run", "verification.run"}
