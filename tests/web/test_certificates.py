"""Certificates over HTTP: ordered, listed, renewed, deployed, revoked, archived."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from certctl.services import issue, renew, sweep
from certctl.web.api.certificates import Certificate, CertificateChange
from tests.kit import a_csr
from tests.services.test_due import near_its_end
from tests.web.kit import ORDER, ROWS, Site, filled, open_site


async def test_an_order_without_a_key_holder_waits(site: Site) -> None:
    made = await site.order()
    assert (made["status"], made["sans"], made["target_ids"]) == ("Pending", ["a.example.test"], [])
    assert (await site.get("/jobs"))["total"] == 0
    problem = await site.refused(409, "POST", f"/certificates/{made['id']}/renew")
    assert problem["message"] == "bind a target or send csr_pem"


async def test_an_order_with_a_target_is_issued_and_deployed(site: Site) -> None:
    made, agent = await site.served()
    where = f"/certificates/{made['id']}"
    shown = await site.get(where)
    assert shown["status"] == "Active"
    (version,) = (await site.get(f"{where}/versions"))["data"]
    assert (version["live"], version["agent_id"]) == (True, agent["agent_id"])
    assert shown["expires_at"] == version["not_after"]
    (bound,) = (await site.get(f"{where}/deployments"))["data"]
    assert bound["outcome"] == "deployed"
    assert bound["fingerprint_sha256"] == version["fingerprint_sha256"]
    jobs = (await site.get(f"/jobs?certificate_id={made['id']}"))["data"]
    assert {(job["type"], job["status"]) for job in jobs} == {
        ("Issuance", "Completed"),
        ("Deployment", "Completed"),
    }


async def test_a_renewal_under_way_is_the_answer_to_the_next_one(site: Site) -> None:
    made, _ = await site.served()
    path = f"/certificates/{made['id']}/renew"
    first = await site.post(path, None, status=202)
    assert first["status"] == "renewal_triggered"
    assert await site.post(path, {}, status=202) == first
    assert (await site.get(f"/certificates/{made['id']}"))["status"] == "RenewalInProgress"


async def test_a_renewal_takes_a_request_of_the_operator(site: Site) -> None:
    made = await site.order()
    body = {"csr_pem": a_csr("a.example.test")}
    answer = await site.post(f"/certificates/{made['id']}/renew", body, status=202)
    (job_id,) = answer["job_ids"]
    assert (await site.get(f"/jobs/{job_id}"))["status"] == "Pending"


async def test_a_deployment_can_be_asked_for_again(site: Site) -> None:
    made, agent = await site.served()
    answer = await site.post(f"/certificates/{made['id']}/deploy", None, status=202)
    (item,) = (await site.work(agent))["jobs"]
    assert [item["id"]] == answer["job_ids"]


async def test_a_target_that_is_not_bound_is_not_deployed_to(site: Site) -> None:
    made, _ = await site.served()
    path = f"/certificates/{made['id']}/deploy"
    problem = await site.refused(400, "POST", path, json={"target_id": "tgt-none"})
    assert problem["field"] == "target_id"


async def test_a_revocation_counts_what_it_revoked_and_cannot_be_repeated(site: Site) -> None:
    made, _ = await site.served()
    path = f"/certificates/{made['id']}/revoke"
    answer = await site.post(path, {"reason": "keyCompromise"}, status=200)
    assert answer == {"status": "revoked", "revoked_versions": 1}
    shown = await site.get(f"/certificates/{made['id']}")
    assert (shown["status"], shown["revocation_reason"]) == ("Revoked", "keyCompromise")
    await site.refused(409, "POST", f"/certificates/{made['id']}/renew")
    await site.refused(409, "PUT", f"/certificates/{made['id']}", json={"name": "x"})


async def test_no_way_leads_from_revoked_back_to_a_certificate(site: Site) -> None:
    made, agent = await site.served()
    where = f"/certificates/{made['id']}"
    (job_id,) = (await site.post(f"{where}/renew", None, status=202))["job_ids"]
    await site.post(f"/jobs/{job_id}/cancel", None, status=200)
    await site.post(f"{where}/revoke", None, status=200)
    await near_its_end(site.world)
    csr = {"csr_pem": a_csr("a.example.test")}
    for path, body in (
        (f"{where}/renew", None),
        (f"{where}/renew", {"force": True}),
        (f"{where}/renew", csr),
        (f"{where}/deploy", None),
        (f"/jobs/{job_id}/retry", None),
    ):
        assert (await site.refused(409, "POST", path, json=body))["error"] == "conflict"
    told = await site.post(
        "/certificates/bulk-renew", {"certificate_ids": [made["id"]]}, status=200
    )
    assert told["total_enqueued"] == 0
    assert await renew.find_due(site.world.platform) == 0
    await sweep.sweep(site.world.platform)
    assert (await site.work(agent))["jobs"] == []
    assert (await site.get(where))["status"] == "Revoked"
    assert {job["status"] for job in (await site.get("/jobs"))["data"]} <= {
        "Completed",
        "Cancelled",
    }


async def test_a_key_that_the_server_made_is_shown_on_no_route(site: Site) -> None:
    terms = replace(site.world.platform.terms, server_makes_keys=True)
    there = replace(site.world, platform=replace(site.world.platform, terms=terms))
    opened = open_site(there)
    async with opened.client:
        made = await opened.order()
        (job,) = (await opened.get("/jobs"))["data"]
        for issued in (False, True):
            if issued:
                assert await issue.run(there.platform, job["id"])
            for row in ROWS:
                if row.method == "GET" and not row.path.startswith("/agents/{id}/"):
                    where = filled(row.path, job["id"] if "/jobs/" in row.path else made["id"])
                    answer = await opened.call("GET", where)
                    assert "PRIVATE KEY" not in answer.text, where
                    assert "sealed_" not in answer.text, where
        (version,) = (await opened.get(f"/certificates/{made['id']}/versions"))["data"]
        assert version["csr_pem"].startswith("-----BEGIN CERTIFICATE REQUEST-----")


async def test_a_reason_of_our_own_is_no_reason(site: Site) -> None:
    made, _ = await site.served()
    path = f"/certificates/{made['id']}/revoke"
    assert (await site.refused(400, "POST", path, json={"reason": "boredom"}))["field"] == "reason"


async def test_an_archived_certificate_is_kept_and_its_name_is_free(site: Site) -> None:
    made = await site.order()
    where = f"/certificates/{made['id']}"
    for _ in range(2):
        assert (await site.call("DELETE", where)).status_code == 204
    assert (await site.get(where))["status"] == "Archived"
    assert (await site.order())["id"] != made["id"]


async def test_new_names_are_canonical_and_hold_the_common_name(site: Site) -> None:
    made = await site.order(common_name="A.Example.TEST", sans=["b.example.test", "B.example.test"])
    body = {"sans": ["XN--BCHER-KVA.example.test"]}
    changed = await site.call("PUT", f"/certificates/{made['id']}", json=body)
    assert made["sans"] == ["a.example.test", "b.example.test"]
    assert changed.json()["sans"] == ["a.example.test", "xn--bcher-kva.example.test"]


async def test_null_clears_no_field_of_a_certificate(site: Site) -> None:
    made = await site.order()
    where = f"/certificates/{made['id']}"
    for field in CertificateChange.model_fields:
        assert (await site.refused(400, "PUT", where, json={field: None}))["field"] == field
    assert await site.get(where) == made


async def test_a_job_can_be_cancelled_once(site: Site) -> None:
    agent = await site.enrol()
    made = await site.order(target_ids=[(await site.target(agent))["id"]])
    (job,) = (await site.get(f"/jobs?certificate_id={made['id']}"))["data"]
    path = f"/jobs/{job['id']}/cancel"
    answer = await site.post(path, None, status=200)
    assert answer == {"status": "job_cancelled", "job_ids": [job["id"]]}
    await site.refused(409, "POST", path)
    assert (await site.work(agent))["jobs"] == []


FILTERS: list[tuple[str, set[str]]] = [
    ("status=Pending", {"a", "b"}),
    ("status=Active", set()),
    ("environment=prod", {"a"}),
    ("owner_id=o-default", {"a", "b"}),
    ("owner_id=o-none", set()),
    ("team_id=t-default", {"a", "b"}),
    ("issuer_id=iss-none", set()),
    ("profile_id=prof-default", {"a", "b"}),
    ("agent_id=ag-none", set()),
    ("created_after=2000-01-01T00:00:00Z", {"a", "b"}),
    ("created_after=2100-01-01T00:00:00Z", set()),
    ("updated_after=2000-01-01T00:00:00%2B02:00", {"a", "b"}),
    ("expires_before=2100-01-01T00:00:00Z", set()),
    ("environment=prod&status=Pending", {"a"}),
]


async def test_each_filter_picks_what_it_names(site: Site) -> None:
    await site.order(name="a", environment="prod")
    await site.order(name="b", common_name="b.example.test", environment="test")
    for query, expected in FILTERS:
        found = await site.get(f"/certificates?{query}")
        assert ({row["name"] for row in found["data"]}, found["total"]) == (
            expected,
            len(expected),
        ), query


@pytest.mark.parametrize("cursor", ["", "&cursor="])
async def test_a_list_is_sorted_as_asked_in_both_forms(site: Site, cursor: str) -> None:
    for name in ("b", "a", "C"):
        await site.order(name=name, common_name=f"{name}.example.test")
    for sort, expected in (
        ("name", ["C", "a", "b"]),
        ("-name", ["b", "a", "C"]),
        ("createdAt", ["b", "a", "C"]),
        ("-createdAt", ["C", "a", "b"]),
        ("commonName", ["a", "b", "C"]),
        ("expiresAt", None),
        ("status", None),
    ):
        found = [
            row["name"] for row in (await site.get(f"/certificates?sort={sort}{cursor}"))["data"]
        ]
        assert found == (expected or found)
        assert len(found) == 3


async def test_only_the_fields_asked_for_are_sent_with_the_id(site: Site) -> None:
    made = await site.order()
    answer = await site.call("GET", "/certificates?fields=name,status,name", declared=False)
    expected = {"id": made["id"], "name": "site", "status": "Pending"}
    assert answer.json()["data"] == [expected]


async def test_every_field_that_is_shown_can_be_asked_for(site: Site) -> None:
    made = await site.order()
    for field in Certificate.model_fields:
        answer = await site.call("GET", f"/certificates?fields={field}", declared=False)
        assert answer.json()["data"] == [{"id": made["id"], field: made[field]}]


async def test_what_does_not_exist_is_not_found_at_every_route(site: Site) -> None:
    for method, path in (
        ("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/versions"), ("GET", "/deployments"),
        ("POST", "/renew"), ("POST", "/deploy"), ("POST", "/revoke"),
    ):  # fmt: skip
        body = {} if method in {"POST", "PUT"} else None
        await site.refused(404, method, f"/certificates/mc-none{path}", json=body)


async def test_every_change_of_a_certificate_is_in_the_audit_trail(site: Site) -> None:
    made, agent = await site.served()
    where = f"/certificates/{made['id']}"
    await site.call("PUT", where, json={"environment": "prod"})
    await site.post(f"{where}/renew", None, status=202)
    await site.post(f"{where}/revoke", None, status=200)
    await site.call("DELETE", where)
    events = (await site.get(f"/audit?resource_id={made['id']}&per_page=100"))["data"]
    told: list[tuple[Any, ...]] = [(each["action"], each["actor"]) for each in reversed(events)]
    assert told == [
        ("certificate_created", "admin"),
        ("issuance_triggered", "admin"),
        ("csr_submitted", agent["agent_id"]),
        ("certificate_issued", "system:issuance"),
        ("deployment_completed", agent["agent_id"]),
        ("certificate_updated", "admin"),
        ("renewal_triggered", "admin"),
        ("certificate_revoked", "admin"),
        ("certificate_archived", "admin"),
    ]
    by_caller = [each for each in events if not each["actor"].startswith("system:")]
    assert all(each["request_id"] and each["address"] == "192.0.2.9" for each in by_caller)


@pytest.mark.parametrize("query", ["category=auth", "actor=admin", "resource_type=certificate"])
async def test_the_audit_trail_is_filtered(site: Site, query: str) -> None:
    await site.enrol()
    await site.post("/certificates", ORDER)
    found = await site.get(f"/audit?{query}")
    name, _, value = query.replace("category", "event_category").partition("=")
    assert found["data"]
    assert {row[name] for row in found["data"]} == {value}
