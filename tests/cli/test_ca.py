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
        "replaces": None,
        "algorithm": "ECDSA-P256",
        "key_home": "sealed",
        "ttl_days": 900,
        "path_len_constraint": None,
    }


def test_a_key_is_made_where_the_words_say(server, certctl):
    server.says("GET", "issuers/iss-local", ISSUER)
    server.says("POST", "issuers/iss-local/intermediates", CA)
    words = ("--parent", "ica-0", "--key-home", "pkcs11", "--algorithm", "RSA-3072")
    certctl("ca", "create", "Issuing 2027", *words)
    asked = server.seen[-1].body
    assert (asked["key_home"], asked["algorithm"]) == ("pkcs11", "RSA-3072")


def test_one_ca_is_shown(server, certctl):
    server.says("GET", "intermediates/ica-1", {**CA, "chain_pem": "…"})
    assert "Issuing 2027" in certctl("ca", "get", "ica-1").stdout


@pytest.mark.parametrize(("words", "state"), [((), "retiring"), (("--confirm",), "retired")])
def test_a_ca_retires_in_two_stages(server, certctl, words, state):
    server.says("POST", "intermediates/ica-1/retire", {"id": "ica-1", "state": state})
    done = certctl("ca", "retire", "ica-1", *words, "--note", "rollover")
    assert done.stdout == f"CA ica-1 is {state}\n"
    assert server.seen[-1].body == {"confirm": bool(words), "note": "rollover"}


def test_a_ca_is_imported_from_its_files(server, certctl, tmp_path):
    server.says("GET", "issuers/iss-local", ISSUER)
    server.says("POST", "issuers/iss-local/intermediates/import", CA)
    for name in ("corp.pem", "ca.key", "chain.pem", "pass"):
        (tmp_path / name).write_text(f"{name}\n")
    done = certctl(
        "ca", "import", str(tmp_path / "corp.pem"), "--key", str(tmp_path / "ca.key"),
        "--chain", str(tmp_path / "chain.pem"), "--passphrase-file", str(tmp_path / "pass"),
    )  # fmt: skip
    assert done.stdout == f"CA ica-1 is active until {MADE}\n"
    assert server.seen[-1].body == {
        "name": None,
        "certificate_pem": "corp.pem\n",
        "chain_pem": "chain.pem\n",
        "key_pem": "ca.key\n",
        "passphrase": "pass",
    }


def test_a_csr_is_made_or_fetched_again(server, certctl):
    asked = {"id": "ica-1", "name": "Issuing 2027", "csr_pem": "CSR\n"}
    server.says("GET", "issuers/iss-local", ISSUER)
    server.says("POST", "issuers/iss-local/intermediates/csr", asked)
    server.says("GET", "intermediates/ica-1/csr", asked)
    assert certctl("ca", "csr", "Issuing 2027", "--path-length", "1").stdout == "CSR\n"
    assert server.seen[-1].body == {
        "name": "Issuing 2027",
        "algorithm": "ECDSA-P256",
        "path_len_constraint": 1,
    }
    assert certctl("ca", "csr", "ica-1").stdout == "CSR\n"


def test_a_certificate_from_outside_is_installed(server, certctl, tmp_path):
    server.says("POST", "intermediates/ica-1/install", CA)
    (tmp_path / "corp.pem").write_text("CA and chain\n")
    done = certctl("ca", "install", "ica-1", str(tmp_path / "corp.pem"))
    assert done.stdout == f"CA ica-1 is active until {MADE}\n"
    assert server.seen[-1].body == {"certificate_pem": "CA and chain\n", "chain_pem": ""}


def test_the_csr_of_an_outside_ca_is_signed(server, certctl, tmp_path):
    server.says("POST", "intermediates/ica-0/sign", {**CA, "chain_pem": "CHAIN\n"})
    (tmp_path / "outside.csr").write_text("CSR\n")
    done = certctl(
        "ca", "sign", "ica-0", str(tmp_path / "outside.csr"), "--days", "9", "--permit", "a.test"
    )
    assert done.stdout == "CHAIN\n"
    assert server.seen[-1].body == {
        "name": None,
        "csr_pem": "CSR\n",
        "path_len_constraint": 0,
        "ttl_days": 9,
        "name_constraints": [{"permitted": ["a.test"], "excluded": []}],
    }


def test_a_ca_is_revoked(server, certctl):
    server.says("POST", "intermediates/ica-1/revoke", {**CA, "state": "retiring"})
    done = certctl("ca", "revoke", "ica-1", "--reason", "keyCompromise", "--force")
    assert done.stdout == "CA ica-1 is revoked\n"
    assert server.seen[-1].body == {"reason": "keyCompromise", "force": True, "note": ""}


def test_a_root_is_made_beside_the_one_that_it_replaces(server, certctl):
    server.says("GET", "issuers/iss-local", ISSUER)
    server.says("POST", "issuers/iss-local/intermediates", CA)
    certctl("ca", "create", "New root", "--replaces", "ica-0")
    asked = server.seen[-1].body
    assert (asked["replaces"], asked["parent_ca_id"]) == ("ica-0", None)


def test_a_ca_gets_a_certificate_from_another_above(server, certctl):
    other = {"parent_ca_id": "ica-new", "not_after": MADE}
    older = {"parent_ca_id": "ica-older", "not_after": "2020-01-01T00:00:00Z"}
    server.says(
        "POST", "intermediates/ica-1/recertify", {**CA, "other_certificates": [older, other]}
    )
    done = certctl("ca", "recertify", "ica-1", "--parent", "ica-new", "--days", "900")
    assert done.stdout == f"CA ica-1 has a certificate by ica-new too, until {MADE}\n"
    assert server.seen[-1].body == {"parent_ca_id": "ica-new", "ttl_days": 900}


def test_chains_are_cut_over(server, certctl):
    server.says("POST", "intermediates/ica-1/cutover", {**CA, "parent_ca_id": "ica-new"})
    done = certctl("ca", "cutover", "ica-1", "--parent", "ica-new")
    assert done.stdout == f"chains of CA ica-1 go by ica-new, until {MADE}\n"
    assert server.seen[-1].body == {"parent_ca_id": "ica-new"}
