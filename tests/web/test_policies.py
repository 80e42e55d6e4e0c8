"""Policy rules over the API: kept, changed, refused by name, and their violations in pages."""

from __future__ import annotations

from typing import Any

import pytest

from certctl.services import issue
from tests.kit import a_csr
from tests.web.kit import ORDER, Site, json_of

RULE: dict[str, Any] = {
    "name": "environments",
    "type": "AllowedEnvironments",
    "config": {"allowed": ["prod"]},
}


async def test_a_change_keeps_the_fields_that_are_not_named(site: Site) -> None:
    made = await site.post("/policies", {**RULE, "severity": "Error"})
    assert (made["enabled"], made["blocking"]) == (True, False)
    changed = json_of(
        await site.call("PUT", f"/policies/{made['id']}", json={"blocking": True}), 200
    )
    assert {**made, "blocking": True, "updated_at": changed["updated_at"]} == changed
    assert await site.get(f"/policies/{made['id']}") == changed


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": "AllowedDomains"}, "type"),
        ({"severity": "warning"}, "severity"),
        ({"config": {"max_days": 30}}, "config.max_days"),
        ({"config": {}}, "config.allowed"),
        ({"name": None}, "name"),
        ({"color": "red"}, "color"),
    ],
)
async def test_a_change_that_does_not_fit_is_refused_by_name(
    site: Site, change: dict[str, Any], field: str
) -> None:
    made = await site.post("/policies", RULE)
    problem = await site.refused(400, "PUT", f"/policies/{made['id']}", json=change)
    assert problem["field"] == field
    assert await site.get(f"/policies/{made['id']}") == made


async def test_a_name_is_taken_once(site: Site) -> None:
    await site.post("/policies", RULE)
    problem = await site.refused(409, "POST", "/policies", json=RULE)
    assert problem["field"] == "name"


async def test_violations_come_in_pages_and_by_cursor_and_go_with_the_rule(site: Site) -> None:
    made = await site.post("/policies", RULE)
    path = f"/policies/{made['id']}"
    ids = [(await site.order(name=f"site-{n}"))["id"] for n in range(3)]
    page = await site.get(f"{path}/violations?per_page=2")
    assert (page["total"], [row["certificate_id"] for row in page["data"]]) == (3, ids[:0:-1])
    walk = await site.get(f"{path}/violations?cursor=&page_size=2")
    rest = await site.get(f"{path}/violations?page_size=2&cursor={walk['next_cursor']}")
    assert [row["certificate_id"] for row in rest["data"]] == ids[:1]
    json_of(await site.call("PUT", f"/certificates/{ids[0]}", json={"environment": "prod"}), 200)
    assert (await site.get(f"{path}/violations"))["total"] == 2
    (past,) = (await site.get(f"{path}/violations?resolved=true"))["data"]
    assert past["certificate_id"] == ids[0]
    assert past["resolved_at"] >= past["created_at"]
    assert (await site.call("DELETE", path)).status_code == 204
    await site.refused(404, "GET", f"{path}/violations")


async def test_what_a_blocking_rule_refuses_is_told_with_its_name(site: Site) -> None:
    await site.post("/policies", {**RULE, "blocking": True})
    problem = await site.refused(400, "POST", "/certificates", json=ORDER)
    assert problem["field"] == "policy"
    assert "policy environments: " in problem["message"]
    assert (await site.get("/certificates"))["total"] == 0


ISSUERS: dict[str, Any] = {
    "name": "issuers",
    "type": "AllowedIssuers",
    "config": {"allowed_issuer_ids": ["iss-local"]},
}


@pytest.mark.parametrize("ids", [["iss-nowhere"], ["iss-local", "iss-nowhere"]])
async def test_an_issuer_that_does_not_exist_is_refused_by_field_and_id(
    site: Site, ids: list[str]
) -> None:
    made = await site.post("/policies", ISSUERS)
    config = {"allowed_issuer_ids": ids}
    for method, path, body in (
        ("POST", "/policies", {**ISSUERS, "name": "others", "config": config}),
        ("PUT", f"/policies/{made['id']}", {"config": config}),
    ):
        problem = await site.refused(400, method, path, json=body)
        assert problem["field"] == "config.allowed_issuer_ids"
        assert "issuer iss-nowhere does not exist" in problem["message"]
    assert (await site.get("/policies"))["data"] == [made]


async def test_a_rule_about_the_end_cannot_block(site: Site) -> None:
    rule = {"name": "in-time", "type": "RenewalLeadTime", "config": {"lead_time_days": 20}}
    problem = await site.refused(400, "POST", "/policies", json={**rule, "blocking": True})
    assert problem["field"] == "blocking"
    made = await site.post("/policies", rule)
    path = f"/policies/{made['id']}"
    problem = await site.refused(400, "PUT", path, json={"blocking": True})
    assert problem["field"] == "blocking"
    assert await site.get(path) == made


async def test_a_rule_that_is_not_there_cannot_be_changed(site: Site) -> None:
    await site.refused(404, "PUT", "/policies/pr-none", json={"blocking": True})


async def test_a_change_of_a_rule_that_has_changed_since_is_refused(site: Site) -> None:
    made = await site.post("/policies", ISSUERS)
    path = f"/policies/{made['id']}"
    answer = await site.call("GET", path)
    stale = {"If-Match": answer.headers["ETag"]}
    json_of(await site.call("PUT", path, json={"severity": "Error"}, headers=stale), 200)
    await site.refused(412, "PUT", path, json={"severity": "Critical"}, headers=stale)


async def test_the_same_rule_sent_twice_with_its_key_is_made_once(site: Site) -> None:
    key = {"Idempotency-Key": "rule-1"}
    first = await site.post("/policies", ISSUERS, headers=key)
    assert await site.post("/policies", ISSUERS, headers=key) == first


async def two_broken(site: Site) -> tuple[str, str, str]:
    """Two rules, a warning and an error, and the certificate that breaks both."""
    environments = await site.post("/policies", RULE)
    tags = {"type": "RequiredMetadata", "config": {"required_keys": ["cost"]}}
    metadata = await site.post("/policies", {"name": "tags", **tags, "severity": "Error"})
    made = await site.order()
    return environments["id"], metadata["id"], made["id"]


async def test_the_violations_of_a_certificate_come_in_pages_and_by_cursor(site: Site) -> None:
    environments, metadata, made = await two_broken(site)
    await site.order(name="another")
    path = f"/certificates/{made}/violations"
    page = await site.get(path)
    assert {row["rule_id"] for row in page["data"]} == {environments, metadata}
    assert {row["certificate_id"] for row in page["data"]} == {made}
    assert {row["found_on"] for row in page["data"]} == {"Inventory"}
    walk = await site.get(f"{path}?cursor=&page_size=1")
    rest = await site.get(f"{path}?page_size=1&cursor={walk['next_cursor']}")
    assert walk["data"] + rest["data"] == page["data"]
    json_of(await site.call("PUT", f"/certificates/{made}", json={"environment": "prod"}), 200)
    assert [row["rule_id"] for row in (await site.get(path))["data"]] == [metadata]
    assert [row["rule_id"] for row in (await site.get(f"{path}?resolved=true"))["data"]] == [
        environments
    ]


async def test_violations_are_filtered_by_rule_and_severity(site: Site) -> None:
    environments, metadata, made = await two_broken(site)

    async def found(path: str) -> list[str]:
        return [row["rule_id"] for row in (await site.get(path))["data"]]

    path = f"/certificates/{made}/violations"
    assert await found(f"{path}?rule_id={environments}") == [environments]
    assert await found(f"{path}?rule_id=pr-none") == []
    assert await found(f"{path}?severity=Error") == [metadata]
    assert await found(f"{path}?severity=Error&rule_id={environments}") == []
    assert await found(f"/policies/{metadata}/violations?severity=Error") == [metadata]
    assert await found(f"/policies/{metadata}/violations?severity=Warning") == []
    problem = await site.refused(400, "GET", f"{path}?severity=error")
    assert problem["field"] == "severity"


async def test_a_certificate_that_is_not_there_has_no_violations_to_list(site: Site) -> None:
    await site.refused(404, "GET", "/certificates/mc-none/violations")


async def test_a_refused_issuance_says_where_its_violation_was_found(site: Site) -> None:
    rule = {"name": "short", "type": "CertificateLifetime", "config": {"max_days": 5}}
    await site.post("/policies", {**rule, "blocking": True})
    made = await site.order(csr_pem=a_csr("a.example.test"))
    (job,) = (await site.get(f"/jobs?certificate_id={made['id']}"))["data"]
    assert not await issue.run(site.world.platform, job["id"])
    (row,) = (await site.get(f"/certificates/{made['id']}/violations"))["data"]
    assert (row["found_on"], row["resolved_at"]) == ("Issuance", None)
