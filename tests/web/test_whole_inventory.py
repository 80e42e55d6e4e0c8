"""What counts, counts everything: more rows than any page may hold, and no row that is not so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from certctl.domain.listing import MAX_PER_PAGE
from certctl.services import notify, policy, renew
from tests import kit
from tests.web.kit import Site

MANY = MAX_PER_PAGE + 120
SOWN = """INSERT INTO managed_certificates (id, name, common_name, sans, owner_id, team_id,
        issuer_id, renewal_policy_id, certificate_profile_id, status, expires_at)
    SELECT 'mc-' || n, 'site-' || n, 'a.test', '{{a.test}}', 'o-default', 't-default', 'iss-local',
        'rp-default', 'prof-default', 'Expiring', now() + interval '5 days'
    FROM generate_series(1, {many}) n"""
VERSIONS = """INSERT INTO certificate_versions (id, certificate_id, issuer_id, serial_number,
        not_before, not_after, fingerprint_sha256, spki_sha256, sans, pem_chain, key_algorithm,
        key_size)
    SELECT 'cv-' || n, 'mc-' || n, 'iss-local', to_hex(n), now(), now() + interval '90 days',
        md5(n::text), 'x', '{{a.test}}', 'x', 'ECDSA', 256
    FROM generate_series(1, {many}) n"""
JOBS = """INSERT INTO jobs (id, type, certificate_id, status, requested_by, completed_at)
    SELECT 'job-' || kind || n, 'Renewal', 'mc-' || n, kind, 'test', now()
    FROM generate_series(1, {many}) n, unnest('{{Completed,Failed}}'::text[]) kind"""


@pytest.fixture
async def large(site: Site) -> AsyncIterator[Site]:
    """Many certificates that end in five days, each renewed once and failed once today."""
    for statement in (SOWN, VERSIONS, JOBS):
        await kit.change(site.world, statement.format(many=MANY))
    yield site
    await kit.change(site.world, "DELETE FROM certificate_versions WHERE id LIKE 'cv-%%'")


async def test_statistics_count_more_than_a_page_holds(large: Site) -> None:
    told = await large.get("/stats/summary")
    names = ("total_certificates", "expiring_certificates", "complete_jobs", "failed_jobs")
    assert {name: told[name] for name in names} == dict.fromkeys(names, MANY)
    statuses = (await large.get("/stats/certificates-by-status"))["status_counts"]
    assert statuses == [{"status": "Expiring", "count": MANY}]
    ends = (await large.get("/stats/expiration-timeline?days=30"))["buckets"]
    issued = (await large.get("/stats/issuance-rate?days=30"))["rate"]
    ended = (await large.get("/stats/job-trends?days=30"))["trends"]
    assert sum(day["count"] for day in ends) == MANY
    assert issued[-1]["count"] == MANY
    assert (ended[-1]["completed"], ended[-1]["failed"]) == (MANY, MANY)


async def test_the_digest_and_the_metrics_count_more_than_a_page_holds(large: Site) -> None:
    text = (await large.get("/digest"))["text"].splitlines()
    lines = {line.strip() for line in text}
    for name in ("in all", "Expiring", "within 7 days", "jobs failed", "jobs renewed"):
        assert f"{name}: {MANY}" in lines
    gauges = (await large.get("/metrics"))["gauge"]
    assert (gauges["certificate_total"], gauges["certificate_expiring_soon"]) == (MANY, MANY)
    counters = (await large.get("/metrics"))["counter"]
    assert counters["job_completed_total"] == MANY


async def test_alerts_and_rules_reach_more_than_a_page_holds(large: Site) -> None:
    platform = large.world.platform
    assert await notify.expiring(platform) == MANY
    rule = {"name": "prod", "type": "AllowedEnvironments", "config": {"allowed": ["prod"]}}
    made = await large.post("/policies", rule)
    assert await policy.evaluate_all(platform) == MANY
    assert (await large.get(f"/policies/{made['id']}/violations"))["total"] == MANY
    await notify.send_due(replace(platform, notifiers={}))
    dead = await large.get("/notifications?status=dead")
    assert (dead["total"], len(dead["data"])) == (2 * MANY, 50)
    assert (await large.get("/stats/summary"))["notifications_dead"] == 2 * MANY


async def test_what_was_never_issued_is_neither_at_its_end_nor_told_of(site: Site) -> None:
    platform = site.world.platform
    lead = {"name": "lead", "type": "RenewalLeadTime", "config": {"lead_time_days": 100}}
    rule = await site.post("/policies", lead)
    made = await site.order()
    assert (made["status"], made["expires_at"]) == ("Pending", None)
    for periodic in (renew.find_due, notify.expiring, policy.evaluate_all):
        assert await periodic(platform) == 0
    assert (await site.get(f"/certificates/{made['id']}"))["status"] == "Pending"
    told = await site.get("/stats/summary")
    assert (told["total_certificates"], told["expired_certificates"]) == (1, 0)
    assert told["expiring_certificates"] == 0
    ends = (await site.get("/stats/expiration-timeline?days=365"))["buckets"]
    assert {day["count"] for day in ends} == {0}
    gauges = (await site.get("/metrics"))["gauge"]
    assert (gauges["certificate_expired"], gauges["certificate_expiring_soon"]) == (0, 0)
    assert "within 30 days: 0" in (await site.get("/digest"))["text"]
    for path in ("/notifications", f"/policies/{rule['id']}/violations", "/jobs",
                 "/certificates?expires_before=2100-01-01T00:00:00Z"):  # fmt: skip
        assert (await site.get(path))["total"] == 0
