"""`keys`, `roles` and `whoami`: what is asked, what is printed."""

from __future__ import annotations

import json

import pytest

from tests.cli.scripted import Answer, problem

MADE = "2026-11-24T06:00:00Z"
SECRET = "certctl_key_" + "x" * 43
KEY = {
    "actor_id": "ci",
    "actor_type": "APIKey",
    "source": "database",
    "role_ids": ["r-viewer", "r-operator"],
    "roles": [
        {"role_id": "r-viewer", "scope_type": "global", "scope_id": None},
        {"role_id": "r-operator", "scope_type": "issuer", "scope_id": "iss-1"},
    ],
    "keys": [{"id": "ak-1", "last_used_at": MADE}, {"id": "ak-2", "last_used_at": None}],
}
ISSUER = {"scope_type": "issuer", "scope_id": "iss-1"}


def test_keys_are_a_table_of_names(server, certctl):
    server.says("GET", "auth/keys", {"keys": [KEY]})
    done = certctl("keys", "list")
    assert done.exit_code == 0
    _, line = done.stdout.splitlines()
    words = [
        "ci", "database", "r-viewer, r-operator (iss-1)", "2", "2026-11-24 06:00:00Z",
    ]  # fmt: skip
    assert all(word in line for word in words)


def test_one_key_is_shown_by_its_name(server, certctl):
    server.says("GET", "auth/keys", {"keys": [KEY]})
    assert json.loads(certctl("keys", "get", "ci", "-o", "json").stdout) == KEY
    done = certctl("keys", "get", "cd")
    assert (done.exit_code, done.stderr) == (3, "certctl: key cd does not exist\n")


@pytest.mark.parametrize(
    ("command", "path", "body"),
    [
        (
            ("create", "ci", "--role", "r-1", "--role", "r-2", "--expires-at", MADE),
            "auth/keys",
            {"name": "ci", "role_ids": ["r-1", "r-2"], "expires_at": MADE},
        ),
        (
            ("rotate", "ci", "--overlap", "60"),
            "auth/keys/ci/rotate",
            {"overlap_seconds": 60, "expires_at": None},
        ),
    ],
)
def test_a_secret_is_printed_alone_for_a_script_to_take(server, certctl, command, path, body):
    server.says("POST", path, Answer(201, {"name": "ci", "key_value": SECRET}))
    done = certctl("keys", *command)
    assert (done.exit_code, done.stdout) == (0, f"{SECRET}\n")
    assert server.seen[-1].body == body


@pytest.mark.parametrize(
    ("options", "scope"),
    [
        ((), {"scope_type": "global"}),
        (("--issuer", "iss-1"), ISSUER),
        (("--profile", "p-1"), {"scope_type": "profile", "scope_id": "p-1"}),
    ],
)
def test_a_role_is_given_and_taken_at_a_place(server, certctl, options, scope):
    server.says("POST", "auth/keys/ci/roles", Answer(204))
    server.says("DELETE", "auth/keys/ci/roles/r-1", Answer(204))
    given = certctl("keys", "grant", "ci", "r-1", *options)
    assert (given.exit_code, given.stdout) == (0, "key ci has the role r-1\n")
    assert server.seen[-1].body == {"role_id": "r-1", **scope, "expires_at": None}
    taken = certctl("keys", "ungrant", "ci", "r-1", *options)
    assert (taken.exit_code, server.seen[-1].query) == (0, scope)


def test_a_place_is_an_issuer_or_a_profile(server, certctl):
    done = certctl("keys", "grant", "ci", "r-1", "--issuer", "a", "--profile", "b")
    assert done.exit_code == 2
    assert server.seen == []


def test_the_last_administrator_is_kept_with_the_servers_words(server, certctl):
    words = "this would remove the last administrator; make another one first"
    server.says("DELETE", "auth/keys/boss", problem(409, "conflict", words))
    done = certctl("keys", "revoke", "boss")
    assert (done.exit_code, done.stderr) == (1, f"certctl: {words}\n")


def test_a_role_is_made_and_permits(server, certctl):
    server.says("POST", "auth/roles", Answer(201, {"id": "r-1", "name": "shop"}))
    server.says("POST", "auth/roles/r-1/permissions", Answer(204))
    server.says("DELETE", "auth/roles/r-1/permissions/cert.read", Answer(204))
    made = certctl("roles", "create", "shop", "--description", "the shop's")
    assert (made.exit_code, made.stdout) == (0, "r-1\n")
    assert server.seen[-1].body == {"name": "shop", "description": "the shop's"}
    assert certctl("roles", "allow", "r-1", "cert.read", "--issuer", "iss-1").exit_code == 0
    assert server.seen[-1].body == {"permission": "cert.read", **ISSUER}
    assert certctl("roles", "disallow", "r-1", "cert.read", "--issuer", "iss-1").exit_code == 0
    assert server.seen[-1].query == ISSUER


def test_a_role_is_changed_shown_and_deleted(server, certctl):
    granted = {"permission": "cert.read", **ISSUER}
    server.says("PUT", "auth/roles/r-1", {"id": "r-1", "name": "other"})
    server.says("GET", "auth/roles/r-1", {"role": {"id": "r-1"}, "permissions": [granted]})
    server.says("DELETE", "auth/roles/r-1", Answer(204))
    assert certctl("roles", "change", "r-1", "--name", "other").exit_code == 0
    assert server.seen[-1].body == {"name": "other"}
    assert "cert.read   issuer      iss-1" in certctl("roles", "get", "r-1").stdout
    assert certctl("roles", "delete", "r-1").stdout == "role r-1 is deleted\n"


def test_the_roles_and_permissions_there_are(server, certctl):
    server.says("GET", "auth/roles", {"roles": [{"id": "r-1", "name": "shop", "built_in": False}]})
    server.says(
        "GET", "auth/permissions", {"permissions": [{"name": "cert.read", "namespace": "cert"}]}
    )
    assert "r-1  shop" in certctl("roles", "list").stdout
    assert "cert.read" in certctl("roles", "permissions").stdout


@pytest.mark.parametrize(
    ("admin", "roles", "line"),
    [
        (True, ["r-admin"], "ci (APIKey, administrator): r-admin"),
        (False, [], "ci (APIKey): no roles"),
    ],
)
def test_who_am_i(server, certctl, admin, roles, line):
    may = [{"permission": "cert.read", **ISSUER}]
    me = {"actor_id": "ci", "actor_type": "APIKey", "admin": admin, "roles": roles,
          "effective_permissions": may}  # fmt: skip
    server.says("GET", "auth/me", me)
    first, *others = certctl("whoami").stdout.splitlines()
    assert first == line
    assert ("iss-1" in "".join(others)) is not admin
    assert json.loads(certctl("whoami", "-o", "json").stdout) == me


def test_an_agents_token_is_for_a_group_or_for_that_agent(server, certctl):
    made = {"id": "et-1", "token": "tok.f00", "expires_at": MADE}
    server.says("POST", "agents/enrolment-tokens", Answer(201, made))
    server.says("GET", "agent-groups/agp-1", {"id": "agp-1", "name": "web"})
    server.says("GET", "agents/ag-1", {"id": "ag-1", "name": "web-1"})
    assert certctl("agents", "enrol", "--group", "agp-1").exit_code == 0
    assert server.seen[-1].body["agent_group_id"] == "agp-1"
    assert certctl("agents", "enrol", "--again", "ag-1").exit_code == 0
    assert server.seen[-1].body["agent_id"] == "ag-1"


def test_tokens_and_credentials_are_listed_and_revoked(server, certctl):
    row = {"id": "et-1", "created_by": "admin", "expires_at": MADE}
    server.says("GET", "agents/enrolment-tokens", {"tokens": [row]})
    server.says("DELETE", "agents/enrolment-tokens/et-1", Answer(204))
    server.says("GET", "agents/ag-1", {"id": "ag-1", "name": "web-1"})
    server.says("DELETE", "agents/ag-1/credential", Answer(204))
    assert "et-1  admin" in certctl("agents", "tokens").stdout
    assert certctl("agents", "revoke-token", "et-1").stdout == "et-1 is revoked\n"
    done = certctl("agents", "revoke-credential", "ag-1")
    assert done.stdout == "the credential of ag-1 is revoked\n"


def test_the_first_administrator_is_made_with_a_token_that_is_not_shown(server, certctl, tmp_path):
    made = {"actor_id": "boss", "key_value": SECRET}
    server.says("POST", "auth/bootstrap", Answer(201, made))
    asked = certctl("bootstrap", "boss", stdin="the token\n")
    assert asked.exit_code == 0
    assert asked.stdout.endswith(f"{SECRET}\n")
    assert "the token" not in asked.output
    file = tmp_path / "token"
    file.write_text("the token\n")
    read = certctl("bootstrap", "boss", "--token-file", str(file))
    assert (read.exit_code, read.stdout) == (0, f"{SECRET}\n")
    assert [seen.body["token"] for seen in server.seen] == ["the token", "the token"]
