"""`certctl rules violations` and `certctl certs violations` against a scripted server."""

from __future__ import annotations

import json

MADE = "2026-11-24T06:00:00Z"
ROW = {
    "id": "pv-1",
    "certificate_id": "mc-1",
    "rule_id": "pr-1",
    "message": "environment 'lab' is not among the allowed",
    "severity": "Error",
    "found_on": "Inventory",
    "created_at": MADE,
    "resolved_at": None,
}
PAGE = {"data": [ROW], "total": 1, "page": 1, "per_page": 50}
RULES = {"data": [{"id": "pr-1", "name": "only-prod"}], "next_cursor": None, "page_size": 500}


def test_where_a_rule_is_broken_is_a_table(server, certctl):
    server.says("GET", "policies", RULES)
    server.says("GET", "policies/pr-1", RULES["data"][0])
    server.says("GET", "policies/pr-1/violations", PAGE)
    done = certctl("rules", "violations", "only-prod")
    assert (done.exit_code, done.stdout) == (
        0,
        "CERTIFICATE ID  SEVERITY  MESSAGE                                     FOUND ON   "
        "CREATED AT            RESOLVED AT\n"
        "mc-1            Error     environment 'lab' is not among the allowed  Inventory  "
        "2026-11-24 06:00:00Z  –\n",
    ), done.stderr
    assert server.seen[-1].query == {"resolved": "false", "page": "1", "per_page": "50"}


def test_violations_that_are_over_are_asked_for_by_severity(server, certctl):
    server.says("GET", "policies/pr-1", RULES["data"][0])
    server.says("GET", "policies/pr-1/violations", PAGE)
    done = certctl(
        *("rules", "violations", "pr-1", "--resolved", "--severity", "Error"),
        *("--page", "2", "--per-page", "7", "-o", "json"),
    )
    assert json.loads(done.stdout) == PAGE
    assert server.seen[-1].query == {
        "resolved": "true",
        "severity": "Error",
        "page": "2",
        "per_page": "7",
    }


def test_all_violations_of_a_rule_are_walked(server, certctl):
    server.says("GET", "policies/pr-1", RULES["data"][0])
    first = {"data": [ROW], "next_cursor": "c2", "page_size": 1}
    rest = {"data": [ROW | {"id": "pv-2"}], "next_cursor": None, "page_size": 1}
    server.says("GET", "policies/pr-1/violations", first, rest)
    done = certctl("rules", "violations", "pr-1", "--all", "-o", "json")
    assert [row["id"] for row in json.loads(done.stdout)["data"]] == ["pv-1", "pv-2"]


def test_a_rule_that_is_not_there_ends_with_3(server, certctl):
    server.says("GET", "policies", RULES)
    done = certctl("rules", "violations", "nope")
    assert (done.exit_code, done.stderr) == (
        3,
        "certctl: there is no id and no name nope in policies\n",
    )


def test_the_rules_that_a_certificate_breaks_are_listed(server, certctl):
    server.says("GET", "certificates/mc-1", {"id": "mc-1", "name": "www"})
    server.says("GET", "policies", RULES)
    server.says("GET", "policies/pr-1", RULES["data"][0])
    server.says("GET", "certificates/mc-1/violations", PAGE)
    done = certctl("certs", "violations", "mc-1", "--rule", "only-prod", "--severity", "Error")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:2] == ["pr-1", "Error"]
    assert server.seen[-1].query == {
        "resolved": "false",
        "severity": "Error",
        "rule_id": "pr-1",
        "page": "1",
        "per_page": "50",
    }
