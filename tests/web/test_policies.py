"""Policy rules over the API: kept, changed, refused by name, and their violations in pages."""

from __future__ import annotations

from typing import Any

import pytest

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
