"""`certctl ca`: what is asked, what is printed."""

from __future__ import annotations

import pytest

MADE = "2026-11-24T06:00:00Z"
ISSUER = {"id": "iss-local", "name": "Built-in CA"}
CA = {
    "id": "ica-1",
    "name": "Issuing 2027",
    "parent_ca_id": "ica-0",
    "state": "active",
    "path_len_constraint": 0,
    "not_after": MADE,
}


def test_the_tree_of_an_issuer_is_listed(server, certctl):
    server.says("GET", "issuers/iss-local", ISSUER)
    page = {"data": [CA], "total": 1, "page": 1, "per_page": 50}
    server.says("GET", "issuers/iss-local/intermediates", page)
    _, line = certctl("ca", "list").stdout.splitlines()
    assert "Issuing 2027" in line


def test_a_ca_is_created_below_another(server, certctl):
    server.says("GET", "issuers/iss-local", ISSUER)
    server.says("POST", "issuers/iss-local/intermediates", CA)
    done = certctl("ca", "create", "Issuing 2027", "--parent", "ica-0", "--days", "900")
    assert done.stdout == f"CA ica-1 is active until {MADE}\n"
    assert server.seen[-1].body == {
        "name": "Issuing 2027",
        "parent_ca_id": "ica-0",
        "algorithm": "ECDSA-P256",
        "ttl_days": 900,
        "path_len_constraint": None,
    }


def test_one_ca_is_shown(server, certctl):
    server.says("GET", "intermediates/ica-1", {**CA, "chain_pem": "…"})
    assert "Issuing 2027" in certctl("ca", "get", "ica-1").stdout


@pytest.mark.parametrize(("words", "state"), [((), "retiring"), (("--confirm",), "retired")])
def test_a_ca_retires_in_two_stages(server, certctl, words, state):
    server.says("POST", "intermediates/ica-1/retire", {"id": "ica-1", "state": state})
    done = certctl("ca", "retire", "ica-1", *words, "--note", "rollover")
    assert done.stdout == f"CA ica-1 is {state}\n"
    assert server.seen[-1].body == {"confirm": bool(words), "note": "rollover"}
