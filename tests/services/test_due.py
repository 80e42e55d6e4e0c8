"""Renewals that begin by themselves: the right certificates, for the right holders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certctl.services import certificates, fleet, renew
from tests import kit
from tests.conftest import World


async def near_its_end(world: World, *, agent_id: str | None = None) -> None:
    """The live versions, or those of one agent, were issued 80 of 90 days ago."""
    await kit.change(
        world,
        """UPDATE certificate_versions SET not_before = now() - interval '80 days',
               not_after = now() + interval '10 days'
           WHERE live AND (%(agent)s::text IS NULL OR agent_id = %(agent)s)""",
        agent=agent_id,
    )
    await kit.change(
        world,
        """UPDATE managed_certificates c SET expires_at = (SELECT min(not_after)
               FROM certificate_versions v WHERE v.certificate_id = c.id AND v.live)""",
    )


async def test_a_certificate_near_its_end_is_renewed_with_a_reason(world: World) -> None:
    served = await kit.a_served_certificate(world)
    assert await renew.find_due(world.platform) == 0
    await near_its_end(world)
    assert await renew.find_due(world.platform) == 1
    job = (await kit.jobs_of(world, served.id))[-1]
    due = datetime.strptime(job["reason"], "due since %Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    assert timedelta(days=14) < datetime.now(UTC) - due < timedelta(days=20, minutes=2)
    assert (job["type"], job["requested_by"]) == ("Renewal", "system:renewal")
    assert (await kit.certificate(world, served.id))["status"] == "RenewalInProgress"
    assert await renew.find_due(world.platform) == 0


async def test_a_policy_that_does_not_renew_by_itself_is_left_alone(world: World) -> None:
    policy = await kit.a_policy(world, auto_renew=False)
    served = await kit.a_served_certificate(world, renewal_policy_id=policy)
    await near_its_end(world)
    assert await renew.find_due(world.platform) == 0
    assert (await kit.certificate(world, served.id))["status"] == "Expiring"


@pytest.mark.parametrize(("window", "begun"), [(1, 0), (5, 0), (25, 1), (365, 1)])
async def test_the_window_is_that_of_the_policy(world: World, window: int, begun: int) -> None:
    """The versions have ten of ninety days left."""
    policy = await kit.a_policy(world, renewal_window_days=window)
    await kit.a_served_certificate(world, renewal_policy_id=policy)
    await near_its_end(world)
    assert await renew.find_due(world.platform) == begun


async def test_an_expired_certificate_is_still_renewed(world: World) -> None:
    served = await kit.a_served_certificate(world)
    await kit.change(
        world,
        """UPDATE certificate_versions SET not_before = now() - interval '90 days',
               not_after = now() - interval '1 day'""",
    )
    await kit.change(world, "UPDATE managed_certificates SET expires_at = now() - interval '1 day'")
    assert await renew.find_due(world.platform) == 1
    await kit.issue_to(world, served.agent)
    assert (await kit.certificate(world, served.id))["status"] == "Active"


async def test_only_the_holder_whose_version_is_due_makes_a_new_key(world: World) -> None:
    agents = await kit.an_agent(world, "web1"), await kit.an_agent(world, "web2")
    targets = [await kit.a_target(world, agent) for agent in agents]
    await kit.order(world, target_ids=targets)
    await kit.issue_to(world, *agents)
    await near_its_end(world, agent_id=agents[0].agent_id)
    assert await renew.find_due(world.platform) == 1
    waiting = await kit.rows(world, "SELECT agent_id FROM jobs WHERE status = 'AwaitingCSR'")
    assert [row["agent_id"] for row in waiting] == [agents[0].agent_id]


async def test_an_agent_that_serves_no_target_any_more_does_not_cause_renewals(
    world: World,
) -> None:
    agents = await kit.an_agent(world, "web1"), await kit.an_agent(world, "web2")
    targets = [await kit.a_target(world, agent) for agent in agents]
    row = await kit.order(world, target_ids=targets)
    await kit.issue_to(world, *agents)
    await certificates.update(
        world.platform, kit.ADMIN, row["id"], changes={"target_ids": targets[1:]}
    )
    await near_its_end(world, agent_id=agents[0].agent_id)
    assert await renew.find_due(world.platform) == 0


async def test_the_old_version_of_a_former_holder_does_not_age_the_certificate(
    world: World,
) -> None:
    agents = await kit.an_agent(world, "web1"), await kit.an_agent(world, "web2")
    targets = [await kit.a_target(world, agent) for agent in agents]
    row = await kit.order(world, target_ids=targets)
    await kit.issue_to(world, *agents)
    await near_its_end(world)
    await certificates.update(
        world.platform, kit.ADMIN, row["id"], changes={"target_ids": targets[1:]}
    )
    assert await renew.find_due(world.platform) == 1
    await kit.issue_to(world, agents[1])
    assert (await kit.certificate(world, row["id"]))["status"] == "Active"
    assert await renew.find_due(world.platform) == 0


async def test_a_certificate_whose_renewal_failed_is_renewed_with_the_others(
    world: World,
) -> None:
    served = await kit.a_served_certificate(world)
    other = await kit.order(world, name="other", target_ids=[served.target_id])
    await kit.issue_to(world, served.agent)
    await near_its_end(world)
    await kit.change(
        world,
        "UPDATE managed_certificates SET status = 'Failed' WHERE id = %(id)s",
        id=other["id"],
    )
    assert await renew.find_due(world.platform) == 2


async def test_everything_that_is_due_is_begun_however_much_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renew, "BATCH", 2)
    served = await kit.a_served_certificate(world)
    for number in range(4):
        await kit.order(world, name=f"site-{number}", target_ids=[served.target_id])
    await kit.issue_to(world, served.agent)
    await near_its_end(world)
    assert await renew.find_due(world.platform) == 5


async def test_the_status_follows_the_clock(world: World) -> None:
    policy = await kit.a_policy(world, auto_renew=False)
    served = await kit.a_served_certificate(world, renewal_policy_id=policy)
    seen = []
    for left in ("20 days", "-1 day", "80 days"):
        await kit.change(
            world,
            "UPDATE managed_certificates SET expires_at = now() + %(left)s::interval",
            left=left,
        )
        await renew.find_due(world.platform)
        seen.append((await kit.certificate(world, served.id))["status"])
    assert seen == ["Expiring", "Expired", "Active"]


async def test_a_retired_agent_leaves_its_certificates_renewable_by_others(world: World) -> None:
    served = await kit.a_served_certificate(world)
    await kit.renew_now(world, served.id)
    await fleet.retire(
        world.platform, kit.ADMIN, served.agent.agent_id or "", force=True, reason="gone"
    )
    row = await kit.certificate(world, served.id)
    assert row["status"] == "Active"
    assert "web1 was retired" in row["last_error"]
    successor = await kit.an_agent(world, "web2")
    target = await kit.a_target(world, successor)
    await certificates.update(
        world.platform, kit.ADMIN, served.id, changes={"target_ids": [target]}
    )
    assert len(await kit.renew_now(world, served.id)) == 1
    await kit.issue_to(world, successor)
    assert (await kit.certificate(world, served.id))["last_error"] is None


async def test_short_lived_certificates_have_a_scan_of_their_own(world: World) -> None:
    """An hour between scans would let a certificate of half an hour expire."""
    served = await kit.a_served_certificate(world)
    other = await kit.order(world, name="other", target_ids=[served.target_id])
    await kit.issue_to(world, served.agent)
    await near_its_end(world)
    await kit.change(
        world,
        """UPDATE certificate_versions SET not_before = now() - interval '25 minutes',
               not_after = now() + interval '5 minutes' WHERE certificate_id = %(id)s""",
        id=served.id,
    )
    assert await renew.find_due(world.platform, short_lived_only=True) == 1
    assert (await kit.certificate(world, served.id))["status"] == "RenewalInProgress"
    assert (await kit.certificate(world, other["id"]))["status"] == "Active"
    assert await renew.find_due(world.platform) == 1


async def test_a_short_lived_certificate_that_has_ended_is_told_so_within_the_minute(
    world: World,
) -> None:
    policy = await kit.a_policy(world, auto_renew=False)
    served = await kit.a_served_certificate(world, renewal_policy_id=policy)
    await kit.change(
        world, "UPDATE managed_certificates SET expires_at = now() - interval '1 second'"
    )
    await renew.find_due(world.platform, short_lived_only=True)
    assert (await kit.certificate(world, served.id))["status"] == "Expired"
