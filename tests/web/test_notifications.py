"""Notifications and the digest as their callers meet them."""

from __future__ import annotations

from dataclasses import replace

from certctl.connectors import catalog
from certctl.domain.notification import Kind, Severity
from certctl.services import notify
from tests import kit
from tests.connectors.kit import LOOPBACK
from tests.connectors.receiver import receiving
from tests.web.kit import Json, Site, open_site


async def notified(site: Site, *occasions: str) -> Json:
    """A certificate that people are told of, once for each occasion."""
    made = await site.order()
    for occasion in occasions:
        async with site.world.platform.db.transaction() as tx:
            await notify.tell(
                tx,
                kind=Kind.RENEWAL_FAILURE,
                certificate_id=made["id"],
                occasion=occasion,
                severity=Severity.WARNING,
                message=f"the renewal failed in {occasion}",
            )
    return made


async def bury(site: Site) -> None:
    await notify.send_due(replace(site.world.platform, notifiers={}))


async def test_the_list_is_newest_first_and_filtered(site: Site) -> None:
    made = await notified(site, "job-1", "job-2", "job-3")
    listed = await site.get("/notifications?per_page=2")
    assert (listed["total"], len(listed["data"])) == (3, 2)
    assert listed["data"][0]["message"] == "the renewal failed in job-3"
    assert await site.get(f"/notifications/{listed['data'][1]['id']}") == listed["data"][1]
    for query, total in (
        ("status=pending", 3),
        ("status=dead", 0),
        (f"certificate_id={made['id']}", 3),
        ("certificate_id=mc-none", 0),
    ):
        assert (await site.get(f"/notifications?{query}"))["total"] == total
    walked = await site.get("/notifications?cursor=&page_size=2")
    rest = await site.get(f"/notifications?cursor={walked['next_cursor']}&page_size=2")
    assert [row["message"][-5:] for row in rest["data"]] == ["job-1"]
    await site.refused(400, "GET", "/notifications?status=lost")
    await site.refused(404, "GET", "/notifications/ne-none")


async def test_one_is_read_or_requeued(site: Site) -> None:
    await notified(site, "job-1", "job-2")
    first, second = (await site.get("/notifications"))["data"]
    refusal = await site.refused(409, "POST", f"/notifications/{first['id']}/read")
    assert refusal["field"] == "status"
    await site.refused(409, "POST", f"/notifications/{first['id']}/requeue")
    await bury(site)
    dead = await site.get(f"/notifications/{first['id']}")
    assert dead["status"] == "dead"
    assert dead["error"] == dead["last_error"]
    assert "nobody was told" in dead["error"]
    path = f"/notifications/{first['id']}"
    assert await site.post(f"{path}/read", None, status=200) == {"status": "marked_as_read"}
    assert (await site.get(path))["status"] == "read"
    path = f"/notifications/{second['id']}"
    assert await site.post(f"{path}/requeue", None, status=200) == {"status": "requeued"}
    assert (await site.get(path))["status"] == "pending"
    for action in ("notification_read", "notification_requeued"):
        told = (await site.get("/audit?per_page=2"))["data"]
        assert action in {each["action"] for each in told}
    await site.refused(404, "POST", "/notifications/ne-none/read")
    await site.refused(404, "POST", "/notifications/ne-none/requeue")


async def test_a_viewer_reads_and_does_not_requeue(site: Site) -> None:
    await notified(site, "job-1")
    await bury(site)
    (row,) = (await site.get("/notifications"))["data"]
    key = await site.key("r-viewer")
    await site.refused(403, "POST", f"/notifications/{row['id']}/requeue", key=key)
    await site.post(f"/notifications/{row['id']}/read", None, status=200, key=key)


async def test_the_digest_is_shown_as_a_page_and_in_its_parts(site: Site) -> None:
    await site.order()
    page = await site.call("GET", "/digest/preview")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.text.startswith("<!doctype html>")
    made = await site.get("/digest")
    assert made["html"] == page.text
    assert "in all: 1" in made["text"]


async def test_the_digest_is_sent_or_says_what_is_missing(site: Site) -> None:
    refusal = await site.refused(503, "POST", "/digest/send")
    assert "CERTCTL_WEBHOOK_URL" in refusal["message"]
    async with receiving() as receiver:
        config = {"url": receiver.url, "secret": "a secret of the webhook"}
        webhook = catalog.open_notifier("Webhook", config, reach=LOOPBACK)
        on = replace(site.world.platform, notifiers={"Webhook": webhook})
        opened = open_site(replace(site.world, platform=on))
        async with opened.client:
            sent = await opened.post("/digest/send", None, status=200)
            assert sent == {"status": "sent", "message": "handed to Webhook"}
            await notify.send_due(on)
    assert receiver.seen[0].event["type"] == "Digest"
    assert (await site.get("/notifications"))["data"][0]["status"] == "sent"
    await site.refused(403, "POST", "/digest/send", key=await site.key("r-viewer"))


async def test_alerts_name_the_certificate_they_are_about(site: Site) -> None:
    made = await site.order()
    await kit.change(
        site.world,
        "UPDATE managed_certificates SET expires_at = now() + interval '5 days'",
    )
    await notify.expiring(site.world.platform)
    (row,) = (await site.get("/notifications"))["data"]
    assert (row["certificate_id"], row["type"]) == (made["id"], "ExpirationWarning")
