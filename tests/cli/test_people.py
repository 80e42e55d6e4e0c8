"""`users`, `sessions` and `oidc`: what is asked, what is printed."""

from __future__ import annotations

import json

import pytest

from tests.cli.scripted import Answer

MADE = "2026-11-24T06:00:00Z"
USER = {
    "id": "u-1",
    "email": "ada@example.test",
    "display_name": "Ada",
    "role_ids": ["r-admin", "r-viewer"],
    "last_login_at": MADE,
    "deactivated_at": None,
}
SESSION = {
    "id": "ses-1",
    "actor_id": "u-1",
    "signed_in_by": "oidc",
    "ip_address": "192.0.2.1",
    "last_seen_at": MADE,
    "idle_expires_at": MADE,
}
PROVIDER = {
    "id": "op-1",
    "name": "Keycloak",
    "issuer_url": "https://sso.example.test",
    "client_id": "certctl",
    "enabled": True,
}
MAPPING = {"id": "grm-1", "group_name": "admins", "role_id": "r-admin"}


@pytest.mark.parametrize(
    ("words", "path", "answer", "shown"),
    [
        (("users", "list"), "auth/users", {"users": [USER]}, ["u-1", "r-admin, r-viewer"]),
        (("sessions", "list"), "auth/sessions", {"sessions": [SESSION]}, ["ses-1", "192.0.2.1"]),
        (("oidc", "providers", "list"), "auth/oidc/providers", {"providers": [PROVIDER]}, ["op-1"]),
        (
            ("oidc", "mappings", "list", "op-1"),
            "auth/oidc/group-mappings",
            {"mappings": [MAPPING]},
            ["grm-1", "admins"],
        ),
    ],
)
def test_a_list_is_a_table_for_people_and_whole_for_programs(
    server, certctl, words, path, answer, shown
):
    server.says("GET", path, answer)
    _, line = certctl(*words).stdout.splitlines()
    assert all(word in line for word in shown)
    assert json.loads(certctl(*words, "-o", "json").stdout) == answer


@pytest.mark.parametrize(
    ("words", "query"),
    [
        (("users", "list", "--provider", "op-1"), {"oidc_provider_id": "op-1"}),
        (("sessions", "list", "--user", "u-1"), {"actor_id": "u-1"}),
        (("oidc", "mappings", "list", "op-1"), {"provider_id": "op-1"}),
    ],
)
def test_a_filter_is_sent(server, certctl, words, query):
    for path, name in (
        ("auth/users", "users"),
        ("auth/sessions", "sessions"),
        ("auth/oidc/group-mappings", "mappings"),
    ):
        server.says("GET", path, {name: []})
    certctl(*words)
    assert server.seen[-1].query == query


@pytest.mark.parametrize(
    ("words", "method", "path", "said"),
    [
        (("users", "deactivate", "u-1"), "DELETE", "auth/users/u-1", "user u-1 is deactivated"),
        (
            ("users", "reactivate", "u-1"),
            "POST",
            "auth/users/u-1/reactivate",
            "user u-1 may sign in again",
        ),
        (("sessions", "revoke", "s-1"), "DELETE", "auth/sessions/s-1", "session s-1 is over"),
        (
            ("oidc", "providers", "delete", "op-1"),
            "DELETE",
            "auth/oidc/providers/op-1",
            "op-1 is deleted",
        ),
        (
            ("oidc", "mappings", "delete", "grm-1"),
            "DELETE",
            "auth/oidc/group-mappings/grm-1",
            "grm-1 is deleted",
        ),
    ],
)
def test_a_change_is_confirmed_in_a_sentence(server, certctl, words, method, path, said):
    server.says(method, path, Answer(204))
    done = certctl(*words)
    assert (done.exit_code, done.stdout) == (0, f"{said}\n")


@pytest.mark.parametrize(
    ("words", "method", "path", "body"),
    [
        (
            ("oidc", "mappings", "add", "op-1", "admins", "r-admin"),
            "POST",
            "auth/oidc/group-mappings",
            {"provider_id": "op-1", "group_name": "admins", "role_id": "r-admin"},
        ),
        (
            ("oidc", "providers", "add", "--from", "-"),
            "POST",
            "auth/oidc/providers",
            {"name": "Keycloak"},
        ),
        (
            ("oidc", "providers", "change", "op-1", "--from", "-"),
            "PUT",
            "auth/oidc/providers/op-1",
            {"name": "Keycloak"},
        ),
        (
            ("oidc", "providers", "test", "https://sso.example.test"),
            "POST",
            "auth/oidc/test",
            {"issuer_url": "https://sso.example.test"},
        ),
    ],
)
def test_what_is_given_is_sent(server, certctl, words, method, path, body):
    server.says(method, path, {**PROVIDER, **MAPPING})
    done = certctl(*words, stdin="name: Keycloak")
    assert done.exit_code == 0, done.stderr
    assert server.seen[-1].body == body


def test_a_providers_keys_are_shown_and_asked_for(server, certctl):
    server.says("GET", "auth/oidc/providers/op-1/jwks-status", {"current_kids": ["one"]})
    server.says("POST", "auth/oidc/providers/op-1/refresh", {"refreshed": True})
    assert "one" in certctl("oidc", "providers", "keys", "op-1").stdout
    assert certctl("oidc", "providers", "refresh", "op-1").exit_code == 0
