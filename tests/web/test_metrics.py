"""Metrics under their established names, which other programs read."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from certctl.services import issue
from tests.kit import a_csr
from tests.web.kit import Json, Site

GAUGES = {
    "certctl_certificate_total", "certctl_certificate_active", "certctl_certificate_expiring_soon",
    "certctl_certificate_expired", "certctl_certificate_revoked", "certctl_agent_total",
    "certctl_agent_online", "certctl_job_pending", "certctl_uptime_seconds",
    "certctl_plane_processes", "certctl_plane_serials",
}  # fmt: skip
COUNTERS = {
    "certctl_job_completed_total",
    "certctl_job_failed_total",
    "certctl_notification_dead_total",
}
# Counted by this process since its start: name, and the labels of each series.
OWN = {
    "certctl_issuance_total": {"issuer_type", "outcome"},
    "certctl_issuance_failures_total": {"issuer_type", "error_class"},
    "certctl_issuance_duration_seconds_count": {"issuer_type"},
    "certctl_ocsp_counter_total": {"label"},
    "certctl_deploy_attempts_total": {"target_type", "result"},
    "certctl_deploy_rollback_total": {"target_type", "outcome"},
}
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(site: Site) -> Series:
    answer = await site.call("GET", "/metrics/prometheus")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def named(series: Series, name: str, **labels: str) -> float:
    return series.get((name, frozenset(labels.items())), 0.0)


async def test_the_series_have_the_established_names_and_labels(site: Site) -> None:
    await failed(site)
    await refused(site)
    await site.client.get("/.well-known/pki/ocsp/iss-local/1")
    shown = await scraped(site)
    labels = {name: {label for label, _ in pairs} for name, pairs in shown}
    plain: dict[str, set[str]] = {name: set() for name in GAUGES | COUNTERS}
    extra = ("_created", "_bucket", "_sum")
    assert {name: of for name, of in labels.items() if not name.endswith(extra)} == plain | OWN


async def refused(site: Site) -> None:
    """An issuance that fails because its issuer has been switched off."""
    await site.order(name="other", target_ids=[(await site.get("/targets"))["data"][0]["id"]])
    await site.call("PUT", "/issuers/iss-local", json={"enabled": False})
    agent = site.agents["web1"]
    (item,) = (await site.work(agent))["jobs"]
    path, key = f"/agents/{agent['agent_id']}/csr", agent["credential"]
    await site.post(
        path, {"csr_pem": a_csr(*item["sans"]), "job_id": item["id"]}, status=202, key=key
    )
    assert not await issue.run(site.world.platform, item["id"])


async def failed(site: Site) -> Json:
    """A certificate whose deployment the agent has rolled back."""
    agent = await site.enrol()
    made = await site.order(target_ids=[(await site.target(agent))["id"]])
    (item,) = (await site.work(agent))["jobs"]
    await site.send_csr(agent, item)
    (item,) = (await site.work(agent))["jobs"]
    await site.report(agent, item, status="Failed", error="nginx -t refused", rolled_back=True)
    return made


async def test_issuances_and_deployments_are_counted(site: Site) -> None:
    before = await scraped(site)
    await site.served()
    after = await scraped(site)

    def grown(name: str, **labels: str) -> float:
        return named(after, name, **labels) - named(before, name, **labels)

    ca: dict[str, Any] = {"issuer_type": "GenericCA"}
    assert grown("certctl_issuance_total", outcome="success", **ca) == 1
    assert grown("certctl_issuance_duration_seconds_count", **ca) == 1
    assert grown("certctl_deploy_attempts_total", target_type="NGINX", result="success") == 1
    assert grown("certctl_deploy_rollback_total", target_type="NGINX", outcome="restored") == 0


async def test_an_issuance_that_failed_is_counted_with_its_class(site: Site) -> None:
    await failed(site)
    before = await scraped(site)
    await refused(site)
    after = await scraped(site)
    labels = {"issuer_type": "unknown", "error_class": "Conflict"}
    name = "certctl_issuance_failures_total"
    assert named(after, name, **labels) - named(before, name, **labels) == 1


async def test_a_rollback_is_counted(site: Site) -> None:
    before = await scraped(site)
    await failed(site)
    after = await scraped(site)
    labels = {"target_type": "NGINX", "outcome": "restored"}
    name = "certctl_deploy_rollback_total"
    assert named(after, name, **labels) - named(before, name, **labels) == 1


async def test_ocsp_answers_are_counted_by_status(site: Site) -> None:
    before = await scraped(site)
    await site.client.get("/.well-known/pki/ocsp/iss-local/123456")
    await site.client.post("/.well-known/pki/ocsp/iss-local", content=b"nonsense")
    after = await scraped(site)
    for label in ("unknown", "malformed"):
        name = "certctl_ocsp_counter_total"
        assert named(after, name, label=label) - named(before, name, label=label) == 1


async def test_the_inventory_is_counted_in_both_forms(site: Site) -> None:
    made, _ = await site.served()
    await site.order(name="waiting", common_name="b.example.test")
    await site.post(f"/certificates/{made['id']}/revoke", None, status=200)
    await site.call("DELETE", f"/certificates/{(await site.order(name='gone'))['id']}")
    shown = await site.get("/metrics")
    assert shown["gauge"] == {
        "certificate_total": 2,
        "certificate_active": 0,
        "certificate_expiring_soon": 0,
        "certificate_expired": 0,
        "certificate_revoked": 1,
        "agent_total": 1,
        "agent_online": 0,
        "job_pending": 0,
    }
    assert shown["counter"] == {
        "job_completed_total": 2,
        "job_failed_total": 0,
        "notifications_dead_total": 0,
    }
    series = await scraped(site)
    for name, value in (shown["gauge"] | shown["counter"]).items():
        assert named(series, f"certctl_{name}") == value
    assert 0 <= shown["uptime"]["uptime_seconds"] <= named(series, "certctl_uptime_seconds")
