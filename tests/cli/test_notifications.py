"""`certctl notifications` and `certctl digest` against a scripted server."""

from __future__ import annotations

from tests.cli.scripted import problem

MADE = "2026-11-24T06:00:00Z"
ROW = {
    "id": "ne-1",
    "type": "ExpirationWarning",
    "severity": "warning",
    "status": "dead",
    "channel": "Webhook",
    "created_at": MADE,
    "message": "certificate www expires",
}


def test_notifications_are_listed_by_status_and_certificate(server, certctl):
    answer = {"data": [ROW], "total": 1, "page": 1, "per_page": 50}
    server.says("GET", "notifications", answer)
    server.says("GET", "certificates/www", {"id": "mc-1", "name": "www"})
    done = certctl("notifications", "list", "--status", "dead", "--certificate", "www")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:5] == [
        "ne-1", "ExpirationWarning", "warning", "dead", "Webhook",
    ]  # fmt: skip
    assert server.seen[-1].query["status"] == "dead"
    assert server.seen[-1].query["certificate_id"] == "mc-1"


def test_one_is_shown_read_and_requeued(server, certctl):
    server.says("GET", "notifications/ne-1", ROW)
    server.says("POST", "notifications/ne-1/read", {"status": "marked_as_read"})
    server.says("POST", "notifications/ne-1/requeue", {"status": "requeued"})
    assert "certificate www expires" in certctl("notifications", "get", "ne-1").stdout
    assert certctl("notifications", "read", "ne-1").stdout == "ne-1 is marked as read\n"
    assert certctl("notifications", "requeue", "ne-1").stdout == "ne-1 will be sent again\n"


def test_the_digest_is_shown_as_text_that_steers_no_terminal(server, certctl):
    made = {"subject": "certctl today", "text": "Certificates\n  evil\x1b[2J: 1", "html": "<p>"}
    server.says("GET", "digest", made)
    done = certctl("digest", "preview")
    assert done.stdout == "certctl today\n\nCertificates\n  evil\\x1b[2J: 1\n"


def test_the_digest_is_sent_or_says_what_is_missing(server, certctl):
    server.says(
        "POST",
        "digest/send",
        {"status": "sent", "message": "handed to Webhook"},
        problem(503, "unavailable", "no channel is configured"),
    )
    assert certctl("digest", "send").stdout == "the digest is handed to Webhook\n"
    done = certctl("digest", "send")
    assert done.exit_code != 0
    assert "no channel is configured" in done.stderr
