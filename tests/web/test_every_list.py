"""Every list there is: it comes in pages, counts the whole, is walked, and leads to its rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from certctl.services import checkpoints
from certctl.web.api.common import Page
from tests import kit
from tests.audited import seal_all
from tests.web.kit import NGINX, ROWS, Json, Site, filled

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANY = range(5)
SOON = (datetime.now(UTC) + timedelta(days=1)).isoformat()
# A certificate has no more than a hundred targets, which is what bounds this one.
WHOLE = {"/certificates/{id}/deployments"}
# The lists whose rows are shown one by one under another address than their own.
SHOWN_AT = {
    "/agents/retired": "/agents",
    "/agent-groups/{id}/members": "/agents",
    "/issuers/{id}/intermediates": "/intermediates",
}


def has_pages(answer: Any) -> bool:
    return isinstance(answer, type) and issubclass(answer, Page)


LISTS = [row.path for row in ROWS if row.method == "GET" and has_pages(row.answer)]


async def test_no_list_comes_whole() -> None:
    lists = {
        row.path
        for row in ROWS
        if row.method == "GET" and "data" in getattr(row.answer, "model_fields", {})
    }
    assert lists - WHOLE == set(LISTS)
    assert len(LISTS) > 15


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def places(shared_site: Site) -> Json:
    """For each list with an id in its path the id; each list has more than two pages of two."""
    site, ids = shared_site, {}
    rule = {"name": "prod only", "type": "AllowedEnvironments", "config": {"allowed": ["prod"]}}
    ids["/policies/{id}/violations"] = (await site.post("/policies", rule))["id"]
    for number in MANY:
        await site.post("/policies", {**rule, "name": f"rule {number}"})
        for path in ("/teams", "/owners", "/renewal-policies", "/agent-groups"):
            await site.post(path, {"name": f"name {number}"})
        await site.post("/blocked-keys", {"spki_sha256": f"{number:064x}", "reason": "lost"})
        await site.post("/issuers", {"name": f"issuer {number}", "type": "GenericCA"})
        profile = {"name": f"guarded {number}", "requires_approval": True}
        waiver = {"code": "pkix.sct_list_empty", "reason": "an old client", "ends_at": SOON}
        waiver["profile_id"] = (await site.post("/profiles", profile))["id"]
        await site.post("/lint-waivers", waiver)
    issuer = {"name": "a tree", "type": "GenericCA"}
    ids["/issuers/{id}/intermediates"] = tree = (await site.post("/issuers", issuer))["id"]
    above: str | None = None
    for number in reversed(MANY):
        body = {"name": f"tier {number}", "parent_ca_id": above, "path_len_constraint": number}
        above = (await site.post(f"/issuers/{tree}/intermediates", body))["id"]
    agents = [await site.enrol(f"agent {number}") for number in MANY]
    for number in MANY:
        gone = await site.enrol(f"gone {number}")
        await site.call("DELETE", f"/agents/{gone['agent_id']}?reason=gone")
    group = {"name": "named", "agent_ids": [agent["agent_id"] for agent in agents]}
    ids["/agent-groups/{id}/members"] = (await site.post("/agent-groups", group))["id"]
    for number in MANY:
        target = await site.target(agents[0], name=f"target {number}", config=NGINX)
        guarded = (await site.get("/profiles"))["data"][-1]["id"]
        await site.order(
            name=f"site {number}", target_ids=[target["id"]], certificate_profile_id=guarded
        )
    for number in MANY:
        await site.post("/teams", {"name": f"attested {number}"})
        await seal_all(site.world)
        await checkpoints.make(site.world.platform)
    often = await with_versions(site)
    return {**ids, "/certificates/{id}/versions": often, "/certificates/{id}/violations": often}


async def with_versions(site: Site) -> str:
    """A certificate with many versions, and with as many notifications."""
    row = await kit.an_issued_certificate(site.world, name="often renewed")
    await kit.change(
        site.world,
        """INSERT INTO certificate_versions (id, certificate_id, issuer_id, serial_number,
               not_before, not_after, fingerprint_sha256, spki_sha256, sans, pem_chain,
               key_algorithm, key_size, live)
           SELECT 'cv-' || n, certificate_id, issuer_id, to_hex(n), not_before, not_after, 'f' || n,
               spki_sha256, sans, pem_chain, key_algorithm, key_size, false
           FROM certificate_versions, generate_series(1, 5) n""",
    )
    await kit.change(
        site.world,
        """INSERT INTO notification_events
               (type, certificate_id, occasion, channel, severity, message)
           SELECT 'RenewalFailure', %(id)s, 'job-' || n, 'Webhook', 'warning', 'failed'
           FROM generate_series(1, 5) n""",
        id=row["id"],
    )
    return str(row["id"])


async def by_number(site: Site, path: str) -> list[Json]:
    """All rows, two a page, with the same total on every page."""
    rows: list[Json] = []
    while True:
        page = len(rows) // 2 + 1
        answer = await site.get(f"{path}?per_page=2&page={page}")
        assert (answer["page"], answer["per_page"]) == (page, 2)
        assert 0 < len(answer["data"]) <= 2
        rows += answer["data"]
        if len(answer["data"]) < 2 or len(rows) >= answer["total"]:
            assert answer["total"] == len(rows)
            return rows


async def by_cursor(site: Site, path: str) -> list[Json]:
    rows: list[Json] = []
    cursor = ""
    while cursor is not None:
        answer = await site.get(f"{path}?page_size=2&cursor={cursor}")
        assert 0 < len(answer["data"]) <= 2
        rows += answer["data"]
        cursor = answer["next_cursor"]
    return rows


@pytest.mark.parametrize("path", LISTS)
async def test_a_list_has_pages_and_the_count_of_all(
    shared_site: Site, places: Json, path: str
) -> None:
    where = filled(path, places.get(path, "none"))
    numbered = await by_number(shared_site, where)
    assert len(numbered) >= len(MANY)
    assert len({row["id"] for row in numbered}) == len(numbered)
    assert await by_cursor(shared_site, where) == numbered
    whole = await shared_site.get(f"{where}?per_page=500")
    assert (whole["data"], whole["total"]) == (numbered, len(numbered))


DETAILS = [
    (path, SHOWN_AT.get(path, path))
    for path in LISTS
    if any(row.path == SHOWN_AT.get(path, path) + "/{id}" for row in ROWS if row.method == "GET")
]


@pytest.mark.parametrize(("path", "one"), DETAILS)
async def test_what_a_list_shows_is_found_by_its_id(
    shared_site: Site, places: Json, path: str, one: str
) -> None:
    rows = await by_number(shared_site, filled(path, places.get(path, "none")))
    for row in (rows[0], rows[-1]):
        assert await shared_site.get(f"{one}/{row['id']}") == row


async def test_every_list_but_those_of_a_part_leads_to_its_rows() -> None:
    """A part is shown whole in the list, and nowhere else."""
    parts = {path for path in LISTS if path.endswith(("/versions", "/violations", "/checkpoints"))}
    assert {path for path, _ in DETAILS} == set(LISTS) - parts
