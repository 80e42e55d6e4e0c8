"""The digest: what it counts, that it shows names as they are, and whom it reaches."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from certctl.domain.errors import NotAllowed, Unavailable
from certctl.services import digest, notify
from tests import kit
from tests.conftest import World
from tests.connectors.receiver import receiving
from tests.services.notified import told_by


async def test_it_counts_the_inventory_and_the_last_day(world: World) -> None:
    for number, days in enumerate((3, 10, 20, 60, -1)):
        row = await kit.order(world, name=f"site {number}")
        await kit.change(
            world,
            """UPDATE managed_certificates SET expires_at = %(at)s, status = 'Active'
               WHERE id = %(id)s""",
            at=datetime.now(UTC) + timedelta(days=days),
            id=row["id"],
        )
    await kit.change(
        world,
        """INSERT INTO jobs (id, type, certificate_id, status, requested_by, completed_at)
           SELECT 'job-' || n, type, (SELECT min(id) FROM managed_certificates), status, 'test',
                  now() - age
           FROM (VALUES (1, 'Renewal', 'Completed', interval '1 hour'),
                        (2, 'Renewal', 'Failed', interval '2 hours'),
                        (3, 'Deployment', 'Failed', interval '3 hours'),
                        (4, 'Renewal', 'Completed', interval '25 hours'),
                        (5, 'Deployment', 'Completed', interval '1 hour'))
               AS made (n, type, status, age)""",
    )
    made = await digest.build(world.platform)
    lines = [line.strip() for line in made.text.splitlines()]
    for line in (
        "in all: 5", "Active: 5", "within 7 days: 1", "within 14 days: 2", "within 30 days: 3",
        "jobs failed: 2", "jobs renewed: 1",
    ):  # fmt: skip
        assert line in lines
        assert line.split(": ")[1] in made.html
    assert made.subject.endswith("1 expire within 7 days, 2 jobs failed")
    soonest = [line.split(" (")[0] for line in lines if "UTC" in line]
    assert soonest == ["site 0", "site 1", "site 2"]


async def test_names_are_shown_in_html_and_do_nothing_there(world: World) -> None:
    name = "<script>alert('x')</script> & \"co\""
    await kit.order(world, name=name)
    at = datetime.now(UTC) + timedelta(days=3)
    await kit.change(world, "UPDATE managed_certificates SET expires_at = %(at)s", at=at)
    made = await digest.build(world.platform)
    assert name in made.text
    assert "<script" not in made.html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;co&quot;" in made.html


async def test_it_is_built_of_an_empty_inventory(world: World) -> None:
    made = await digest.build(world.platform)
    assert "in all: 0" in made.text
    assert "Next to expire" not in made.html


async def test_it_reaches_the_receiver_when_it_is_asked_for(world: World) -> None:
    async with receiving() as receiver:
        on = told_by(world, receiver.url)
        assert await digest.send(on, kit.ADMIN) == ["Webhook"]
        assert await notify.send_due(on) == 1
    (seen,) = receiver.seen
    assert (seen.event["type"], seen.event["certificate_id"]) == ("Digest", None)
    made = await digest.build(world.platform)
    assert seen.event["message"] == f"{made.subject}\n\n{made.text}"
    assert (await kit.actions(world))[-1] == "digest_sent"


async def test_it_is_sent_once_a_day_whatever_the_number_of_replicas(world: World) -> None:
    on = told_by(world, "http://127.0.0.1:9/")
    assert sorted(await asyncio.gather(*(digest.send_daily(on) for _ in range(3)))) == [0, 0, 1]
    tomorrow = replace(on, clock=lambda: datetime.now(UTC) + timedelta(days=1))
    assert await digest.send_daily(tomorrow) == 1


async def test_without_a_channel_it_cannot_be_sent(world: World) -> None:
    on = replace(world.platform, notifiers={})
    with pytest.raises(Unavailable, match="CERTCTL_WEBHOOK_URL"):
        await digest.send(on, kit.ADMIN)
    assert await digest.send_daily(on) == 0
    assert await kit.rows(world, "SELECT FROM notification_events") == []


async def test_a_viewer_may_look_and_not_send(world: World) -> None:
    assert (await digest.preview(world.platform, kit.VIEWER)).subject.startswith("certctl 20")
    with pytest.raises(NotAllowed):
        await digest.send(world.platform, kit.VIEWER)
