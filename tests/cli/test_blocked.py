"""`certctl blocked-keys`: what is asked, what is printed."""

from __future__ import annotations

from tests.cli.scripted import Answer

SPKI = "0123456789abcdef" * 4
ROW = {
    "id": "bk-1",
    "spki_sha256": SPKI,
    "reason": "on a lost disk",
    "compromised": False,
    "blocked_by": "admin",
    "created_at": "2026-11-24T06:00:00Z",
}


def test_a_key_is_blocked_by_the_hash_that_openssl_prints(server, certctl):
    server.says("POST", "blocked-keys", ROW)
    done = certctl("blocked-keys", "add", SPKI.upper(), "--because", "on a lost disk")
    assert done.stdout == f"key {SPKI} is blocked as bk-1\n"
    assert server.seen[-1].body == {"spki_sha256": SPKI, "reason": "on a lost disk"}


def test_a_key_is_released(server, certctl):
    server.says("GET", "blocked-keys/bk-1", ROW)
    server.says("DELETE", "blocked-keys/bk-1", Answer(204))
    assert certctl("blocked-keys", "delete", "bk-1").stdout == "bk-1 is deleted\n"


def test_the_list_says_which_are_compromised(server, certctl):
    page = {"data": [{**ROW, "compromised": True}], "total": 1, "page": 1, "per_page": 50}
    server.says("GET", "blocked-keys", page)
    head, line = certctl("blocked-keys", "list").stdout.splitlines()
    assert "compromised" in head.lower()
    assert "bk-1" in line
