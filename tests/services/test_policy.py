"""Policy rules: judged everywhere, stored once, resolved when mended; some block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from certctl.domain.errors import Invalid
from certctl.domain.listing import PageRequest
from certctl.services import bulk, certificates, issue, plain, policy, renew
from tests import kit
from tests.conftest import World
from tests.services.test_due import near_its_end

RULES: dict[str, dict[str, Any]] = {
    "AllowedIssuers": {"allowed_issuer_ids": ["iss-other"]},
    "AllowedDomains": {"allowed_domains": ["*.corp.test", "corp.test"]},
    "RequiredMetadata": {"required_keys": ["cost", "tier"]},
    "AllowedEnvironments": {"allowed": ["prod", "stage"]},
    "RenewalLeadTime": {"lead_time_days": 100},
    "CertificateLifetime": {"max_days": 30},
}
MESSAGES = {
    "AllowedIssuers": "issuer iss-local is not among the allowed",
    "AllowedDomains": "names outside the allowed domains: a.example.test",
    "RequiredMetadata": "tags are missing: cost, tier",
    "AllowedEnvironments": "environment '' is not among the allowed",
    "RenewalLeadTime": "less than 100 days are left",
    "CertificateLifetime": "a lifetime of more than 30 days",
}


async def a_rule(world: World, kind: str, **changes: Any) -> str:
    values = {"name": kind, "type": kind, "config": RULES[kind], **changes}
    row = await plain.create(world.platform, kit.ADMIN, plain.POLICY_RULES, values=values)
    return str(row["id"])


async def change_rule(world: World, rule_id: str, **changes: Any) -> None:
    await plain.update(world.platform, kit.ADMIN, plain.POLICY_RULES, rule_id, changes=changes)
    await world.run_tasks()


async def violations(world: World) -> list[dict[str, Any]]:
    return await kit.rows(world, "SELECT * FROM policy_violations WHERE resolved_at IS NULL")


@pytest.mark.parametrize("kind", RULES)
async def test_a_rule_finds_what_breaks_it_in_the_inventory_once(world: World, kind: str) -> None:
    row = await kit.an_issued_certificate(world)
    rule_id = await a_rule(world, kind)
    await world.run_tasks()
    for _ in range(2):
        await policy.evaluate_all(world.platform)
    (found,) = await violations(world)
    assert (found["certificate_id"], found["rule_id"]) == (row["id"], rule_id)
    assert found["message"] == MESSAGES[kind]
    told = "SELECT count(*) FROM notification_events WHERE type = 'PolicyViolation'"
    assert await kit.value(world, told) == 1


@pytest.mark.parametrize(
    ("domain", "keeps"),
    [
        ("a.example.test", True),
        ("*.example.test", True),
        ("A.Example.Test", True),
        ("*.test", False),
        ("example.test", False),
        ("*.a.example.test", False),
    ],
)
async def test_a_domain_is_listed_or_one_label_below_a_wildcard(
    world: World, domain: str, keeps: bool
) -> None:
    await kit.order(world)
    await a_rule(world, "AllowedDomains", config={"allowed_domains": [domain]})
    await world.run_tasks()
    assert bool(await violations(world)) is not keeps


async def test_a_certificate_without_a_version_breaks_no_rule_about_versions(
    world: World,
) -> None:
    await kit.order(world)
    for kind in ("RenewalLeadTime", "CertificateLifetime"):
        await a_rule(world, kind)
    await world.run_tasks()
    assert await violations(world) == []


async def test_what_is_mended_is_resolved_and_what_breaks_again_is_new(world: World) -> None:
    await a_rule(world, "AllowedEnvironments")
    row = await kit.order(world)
    assert len(await violations(world)) == 1
    for environment, count in (("prod", 0), ("lab", 1)):
        await certificates.update(
            world.platform, kit.ADMIN, row["id"], changes={"environment": environment}
        )
        assert len(await violations(world)) == count
    assert await kit.value(world, "SELECT count(*) FROM policy_violations") == 2


async def test_a_rule_that_is_changed_or_switched_off_is_judged_anew(world: World) -> None:
    rule_id = await a_rule(world, "AllowedEnvironments")
    await kit.order(world)
    await change_rule(world, rule_id, severity="Critical")
    assert [each["severity"] for each in await violations(world)] == ["Critical"]
    await change_rule(world, rule_id, enabled=False)
    assert await violations(world) == []


async def test_an_archived_certificate_breaks_nothing(world: World) -> None:
    await a_rule(world, "AllowedEnvironments")
    row = await kit.order(world)
    await certificates.archive(world.platform, kit.ADMIN, row["id"])
    await policy.evaluate_all(world.platform)
    assert await violations(world) == []


@pytest.mark.parametrize(
    "kind", ["AllowedIssuers", "AllowedDomains", "RequiredMetadata", "AllowedEnvironments"]
)
async def test_a_blocking_rule_refuses_a_new_certificate(world: World, kind: str) -> None:
    await a_rule(world, kind, blocking=True)
    before = await kit.everything(world)
    with pytest.raises(Invalid, match=f"policy {kind}: ") as refused:
        await kit.order(world)
    assert refused.value.field == "policy"
    assert await kit.everything(world) == before
    assert await violations(world) == []


async def test_a_blocking_rule_refuses_a_change_and_a_renewal(world: World) -> None:
    served = await kit.a_served_certificate(world, environment="prod")
    await a_rule(world, "AllowedEnvironments", blocking=True)
    with pytest.raises(Invalid, match="environment 'lab'"):
        await certificates.update(
            world.platform, kit.ADMIN, served.id, changes={"environment": "lab"}
        )
    await kit.change(world, "UPDATE managed_certificates SET environment = 'lab'")
    with pytest.raises(Invalid, match="environment 'lab'"):
        await kit.renew_now(world, served.id)
    told = await bulk.start(
        world.platform,
        kit.ADMIN,
        "renew",
        filters={"certificate_ids": [served.id]},
        parameters={},
        dry_run=False,
    )
    assert told["errors"][0]["error"].startswith("policy AllowedEnvironments: ")
    await near_its_end(world)
    assert await renew.find_due(world.platform) == 0
    row = await kit.certificate(world, served.id)
    assert row["last_error"].startswith("policy AllowedEnvironments: ")


async def test_a_lifetime_that_is_too_long_is_refused_before_the_signature(world: World) -> None:
    rule_id = await a_rule(world, "CertificateLifetime", blocking=True)
    row = await kit.order(world, csr_pem=kit.a_csr("a.example.test"))
    assert not await issue.run(world.platform, await kit.job_of(world, row["id"]))
    assert await kit.versions_of(world, row["id"]) == []
    assert await kit.value(world, "SELECT count(*) FROM issuances WHERE purpose = 'leaf'") == 0
    assert [each["rule_id"] for each in await violations(world)] == [rule_id]


async def test_a_rule_about_the_end_does_not_keep_a_certificate_from_its_renewal(
    world: World,
) -> None:
    served = await kit.a_served_certificate(world)
    await a_rule(world, "RenewalLeadTime", blocking=True)
    await world.run_tasks()
    assert len(await kit.renew_now(world, served.id)) == 1
    assert len(await kit.issue_to(world, served.agent)) == 1


@pytest.mark.parametrize(
    ("threshold", "severity", "blocks"),
    [
        ("", "Critical", False),
        ("Critical", "Error", False),
        ("Critical", "Critical", True),
        ("Error", "Critical", True),
        ("Warning", "Warning", True),
    ],
)
async def test_a_severity_may_block_from_a_threshold_on(
    world: World, threshold: str, severity: str, blocks: bool
) -> None:
    terms = replace(world.platform.terms, policy_block_severity=threshold)
    there = replace(world, platform=replace(world.platform, terms=terms))
    await a_rule(world, "AllowedEnvironments", severity=severity)
    if blocks:
        with pytest.raises(Invalid, match="policy"):
            await kit.order(there)
    else:
        await kit.order(there)


@pytest.mark.parametrize(
    ("kind", "config", "field"),
    [
        ("AllowedIssuers", {}, "config.allowed_issuer_ids"),
        ("AllowedIssuers", {"allowed_issuer_ids": []}, "config.allowed_issuer_ids"),
        ("AllowedIssuers", {"allowed_issuer_ids": "iss-local"}, "config.allowed_issuer_ids"),
        ("AllowedDomains", {"allowed_domains": [7]}, "config.allowed_domains"),
        ("AllowedDomains", {"allowed_domains": ["a.*.test"]}, "config.allowed_domains"),
        ("CertificateLifetime", {"max_days": 0}, "config.max_days"),
        ("CertificateLifetime", {"max_days": True}, "config.max_days"),
        ("RenewalLeadTime", {"lead_time_days": 9, "color": 1}, "config.color"),
    ],
)
async def test_a_setting_that_does_not_fit_its_type_is_refused_by_name(
    world: World, kind: str, config: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await a_rule(world, kind, config=config)
    assert refused.value.field == field
    assert await kit.value(world, "SELECT count(*) FROM policy_rules") == 0


@pytest.mark.parametrize("table", ["policy_rules", "policy_violations"])
@pytest.mark.parametrize("severity", ["warning", "Fatal", ""])
async def test_the_database_knows_three_severities(world: World, table: str, severity: str) -> None:
    await a_rule(world, "AllowedEnvironments")
    await kit.order(world)
    with pytest.raises(Invalid, match="severity"):
        await kit.change(world, f"UPDATE {table} SET severity = %(it)s", it=severity)


async def test_violations_are_listed_by_rule_those_that_stand_and_those_that_are_over(
    world: World,
) -> None:
    rule_id = await a_rule(world, "AllowedEnvironments")
    row = await kit.order(world)

    async def listed(resolved: bool) -> int:
        page = await policy.violations(
            world.platform, kit.VIEWER, rule_id, PageRequest(), resolved=resolved
        )
        return int(page["total"])

    assert (await listed(False), await listed(True)) == (1, 0)
    changes = {"environment": "prod"}
    await certificates.update(world.platform, kit.ADMIN, row["id"], changes=changes)
    assert (await listed(False), await listed(True)) == (0, 1)


async def test_a_rule_goes_with_its_violations(world: World) -> None:
    rule_id = await a_rule(world, "AllowedEnvironments")
    await kit.order(world)
    await plain.delete(world.platform, kit.ADMIN, plain.POLICY_RULES, rule_id)
    assert await kit.value(world, "SELECT count(*) FROM policy_violations") == 0


@pytest.mark.parametrize(
    "name",
    ["a@x.corp.test", "spiffe://x.corp.test", "https://x.corp.test", "10.1.2.3", None],
)
async def test_a_wildcard_stands_for_labels_of_dns_names_only(
    world: World, name: str | None
) -> None:
    await kit.order(world)
    names = [] if name is None else [name]
    await kit.change(world, "UPDATE managed_certificates SET sans = %(it)s::text[]", it=names)
    await a_rule(world, "AllowedDomains", config={"allowed_domains": ["*.corp.test"]})
    # As rules were kept before their domains were checked.
    kept = {"allowed_domains": ["*.corp.test", "*.1.2.3"]}
    await kit.change(world, "UPDATE policy_rules SET config = %(it)s", it=kept)
    await world.run_tasks()
    assert len(await violations(world)) == 1


async def test_a_name_of_another_kind_is_allowed_as_it_is_listed(world: World) -> None:
    name = "spiffe://corp.test/App"
    await kit.order(world)
    await kit.change(world, "UPDATE managed_certificates SET sans = ARRAY[%(it)s]", it=name)
    await a_rule(world, "AllowedDomains", config={"allowed_domains": [name]})
    await world.run_tasks()
    assert await violations(world) == []


async def test_a_revoked_certificate_needs_no_renewal(world: World) -> None:
    await kit.an_issued_certificate(world)
    await kit.change(world, "UPDATE managed_certificates SET status = 'Revoked'")
    await a_rule(world, "RenewalLeadTime")
    await world.run_tasks()
    assert await violations(world) == []


async def test_what_people_are_told_names_the_rule(world: World) -> None:
    await a_rule(world, "AllowedEnvironments", name="only-prod")
    await kit.order(world)
    told = "SELECT message FROM notification_events WHERE type = 'PolicyViolation'"
    assert (await kit.value(world, told)).startswith("policy only-prod: ")
