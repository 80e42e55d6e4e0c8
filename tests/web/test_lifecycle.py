"""Search, filters, bulk operations, approvals and retries as their callers meet them."""

from __future__ import annotations

from typing import Any

import pytest

from certctl.web import gate
from tests.web.kit import Site, json_of


async def several(site: Site) -> list[dict[str, Any]]:
    return [
        await site.order(
            name="shop front", common_name="www.shop.example.test", environment="prod"
        ),
        await site.order(name="shop-api", common_name="api.shop.example.test", tags={"tier": "1"}),
        await site.order(
            name="mail", common_name="mx.example.test", tags={"tier": "1", "os": "bsd"}
        ),
    ]


async def found(site: Site, query: str) -> list[str]:
    return [row["name"] for row in (await site.get(f"/certificates?sort=name&{query}"))["data"]]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("search=shop", ["shop front", "shop-api"]),
        ("search=SHOP+fr", ["shop front"]),
        ("search=api.shop.exa", ["shop-api"]),
        ("search=*.shop.example.test", ["shop front", "shop-api"]),
        ("search=hop", []),
        ("search=mx", ["mail"]),
        ("tag=tier%3D1", ["mail", "shop-api"]),
        ("tag=tier%3D1&tag=os%3Dbsd", ["mail"]),
        ("tag=tier%3D2", []),
        ("environment=prod", ["shop front"]),
        ("renewal_policy_id=rp-default", ["mail", "shop front", "shop-api"]),
        ("watched=true", []),
        ("created_before=2020-01-01T00:00:00Z", []),
        ("updated_after=2020-01-01T00:00:00Z&watched=false", ["mail", "shop front", "shop-api"]),
        ("expires_before=2100-01-01T00:00:00Z", []),
    ],
)
async def test_a_list_holds_what_was_asked_for(site: Site, query: str, names: list[str]) -> None:
    await several(site)
    assert await found(site, query) == names


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("search=%2A.", "search"),
        ("tag=tier", "tag"),
        ("tag=%3D1", "tag"),
        ("watched=maybe", "watched"),
    ],
)
async def test_a_filter_that_says_nothing_is_refused_by_name(
    site: Site, query: str, field: str
) -> None:
    problem = await site.refused(400, "GET", f"/certificates?{query}")
    assert problem["field"] == field


async def test_a_walk_by_cursor_keeps_its_filter(site: Site) -> None:
    await several(site)
    seen, cursor = [], ""
    while cursor is not None:
        page = await site.get(f"/certificates?search=shop&page_size=1&cursor={cursor}")
        seen += [row["name"] for row in page["data"]]
        cursor = page["next_cursor"]
    assert seen == ["shop front", "shop-api"]


async def test_many_are_reassigned_and_the_answer_counts(site: Site) -> None:
    rows = await several(site)
    owner = (await site.post("/owners", {"name": "new"}))["id"]
    body = {"certificate_ids": [row["id"] for row in rows], "owner_id": owner}
    told = await site.post("/certificates/bulk-reassign", body, status=200)
    assert (told["total_matched"], told["total_reassigned"]) == (3, 3)
    again = await site.get(f"/bulk-operations/{told['id']}")
    assert again == told


async def test_a_bulk_call_that_is_sent_again_does_nothing_twice(site: Site) -> None:
    owner = (await site.post("/owners", {"name": "new"}))["id"]
    body = {"certificate_ids": [row["id"] for row in await several(site)], "owner_id": owner}
    once = {"headers": {"Idempotency-Key": "friday"}}
    first = await site.call("POST", "/certificates/bulk-reassign", json=body, **once)
    again = await site.call("POST", "/certificates/bulk-reassign", json=body, **once)
    assert json_of(again, 200) == json_of(first, 200)
    actions = [row["action"] for row in (await site.get("/audit?per_page=200"))["data"]]
    assert actions.count("bulk_reassign_initiated") == 1
    other = {"certificate_ids": body["certificate_ids"], "owner_id": "o-default"}
    await site.refused(409, "POST", "/certificates/bulk-reassign", json=other, **once)


async def test_more_than_a_thousand_are_begun_and_can_be_followed(site: Site) -> None:
    await several(site)
    names = {"certificate_ids": [f"mc-{n}" for n in range(1001)], "reason": "superseded"}
    answer = await site.call("POST", "/certificates/bulk-revoke", json=names)
    told = json_of(answer, 202)
    place = answer.headers["Location"].removeprefix(gate.PREFIX)
    assert told["total_failed"] == 1001
    await site.world.run_tasks()
    ended = await site.get(place)
    assert (ended["state"], len(ended["errors"])) == ("completed", 1000)


@pytest.mark.parametrize("body", [{}, {"certificate_ids": []}, {"environment": "nowhere"}])
@pytest.mark.parametrize("kind", ["revoke", "renew"])
async def test_a_selection_without_bounds_is_refused(
    site: Site, kind: str, body: dict[str, Any]
) -> None:
    await several(site)
    reason = {"reason": "superseded"} if kind == "revoke" else {}
    await site.refused(400, "POST", f"/certificates/bulk-{kind}", json={**reason, **body})


async def test_a_dry_run_leaves_no_operation_behind(site: Site) -> None:
    await several(site)
    body = {"environment": "prod", "dry_run": True}
    told = await site.post("/certificates/bulk-renew", body, status=200)
    assert (told["state"], told["id"], told["total_failed"]) == ("dry_run", None, 1)
    assert told["errors"][0]["error"] == "bind a target or send csr_pem"


async def test_an_operator_may_not_revoke_many(site: Site) -> None:
    body = {"environment": "prod", "reason": "superseded"}
    key = await site.key("r-operator")
    await site.refused(403, "POST", "/certificates/bulk-revoke", json=body, key=key)


async def guarded(site: Site) -> tuple[str, str]:
    """A certificate that waits for a second person: its job and its approval."""
    profile = await site.post("/profiles", {"name": "guarded", "requires_approval": True})
    agent = await site.enrol()
    target = await site.target(agent)
    made = await site.order(certificate_profile_id=profile["id"], target_ids=[target["id"]])
    job = (await site.get(f"/jobs?certificate_id={made['id']}"))["data"][0]
    assert job["status"] == "AwaitingApproval"
    return job["id"], job["approval_id"]


async def test_a_second_person_approves(site: Site) -> None:
    job_id, approval_id = await guarded(site)
    await site.refused(403, "POST", f"/approvals/{approval_id}/approve", json={})
    key = await site.key("r-operator")
    told = await site.post(
        f"/approvals/{approval_id}/approve", {"note": "fine"}, status=200, key=key
    )
    assert told == {"id": approval_id, "decided_by": "r-operator", "action": "approved"}
    assert (await site.get(f"/jobs/{job_id}"))["status"] == "AwaitingCSR"
    (row,) = (await site.get("/approvals?state=approved"))["data"]
    assert (row["decision_note"], row["job_ids"]) == ("fine", [job_id])
    await site.refused(409, "POST", f"/approvals/{approval_id}/reject", json={}, key=key)


async def test_a_job_is_approved_or_rejected_by_its_own_address(site: Site) -> None:
    job_id, approval_id = await guarded(site)
    await site.refused(403, "POST", f"/jobs/{job_id}/approve")
    key = await site.key("r-operator")
    told = await site.post(f"/jobs/{job_id}/reject", {"reason": "no"}, status=200, key=key)
    assert told == {"status": "job_rejected", "job_ids": [job_id]}
    assert (await site.get(f"/approvals/{approval_id}"))["state"] == "rejected"
    await site.refused(409, "POST", f"/jobs/{job_id}/approve", key=key)


async def test_a_cancelled_job_is_begun_again(site: Site) -> None:
    agent = await site.enrol()
    made = await site.order(target_ids=[(await site.target(agent))["id"]])
    job_id = (await site.get(f"/jobs?certificate_id={made['id']}"))["data"][0]["id"]
    await site.refused(409, "POST", f"/jobs/{job_id}/retry")
    await site.post(f"/jobs/{job_id}/cancel", None, status=200)
    told = await site.post(f"/jobs/{job_id}/retry", None, status=202)
    assert told["status"] == "job_retried"
    (item,) = (await site.work(agent))["jobs"]
    assert [item["id"]] == told["job_ids"]


async def test_a_refusal_to_delete_counts_what_stands_in_the_way(site: Site) -> None:
    await several(site)
    problem = await site.refused(409, "DELETE", "/teams/t-default")
    assert problem["counts"] == {"owners": 1, "managed_certificates": 3}


async def test_the_policys_new_fields_go_round(site: Site) -> None:
    body = {
        "name": "strict",
        "certificate_profile_id": "prof-default",
        "alert_channels": {"critical": ["Webhook", "PagerDuty"]},
        "alert_severity_map": {"3": "critical"},
    }
    made = await site.post("/renewal-policies", body)
    assert {name: made[name] for name in body} == body
    cleared = json_of(
        await site.call(
            "PUT", f"/renewal-policies/{made['id']}", json={"certificate_profile_id": None}
        ),
        200,
    )
    assert cleared["certificate_profile_id"] is None
    for bad, field in (
        ({"agent_group_id": "agp-none"}, "agent_group_id"),
        ({"alert_channels": {"critical": ["Pigeon"]}}, "alert_channels.critical.0"),
        ({"alert_severity_map": {"soon": "critical"}}, "alert_severity_map.soon.[key]"),
    ):
        problem = await site.refused(400, "POST", "/renewal-policies", json={**body, **bad})
        assert problem["field"] == field


@pytest.mark.parametrize(
    ("algorithm", "least"), [("ECDSA", 256), ("RSA", 2048), ("Ed25519", 0), ("ML-DSA", 44)]
)
async def test_a_key_rule_without_a_size_means_the_least_that_is_safe(
    site: Site, algorithm: str, least: int
) -> None:
    body = {"name": "p", "allowed_key_algorithms": [{"algorithm": algorithm}]}
    made = await site.post("/profiles", body)
    assert made["allowed_key_algorithms"] == [{"algorithm": algorithm, "min_size": least}]
