"""Requests that do not fit: the right status, a sentence that names the field, nothing changed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit import a_csr, a_weak_key
from tests.web.kit import NGINX, ORDER, Site

# Nothing changes, so that all of these can share one site.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/teams", {}, "name"),
        ("POST", "/teams", {"name": ""}, "name"),
        ("POST", "/teams", {"name": "   "}, "name"),
        ("POST", "/teams", {"name": "x" * 256}, "name"),
        ("POST", "/teams", {"name": "a\0b"}, "name"),
        ("POST", "/teams", {"name": 5}, "name"),
        ("POST", "/teams", {"name": None}, "name"),
        ("POST", "/teams", {"name": "x", "id": "../x"}, "id"),
        ("POST", "/teams", {"name": "x", "id": ""}, "id"),
        ("POST", "/teams", {"name": "x", "nmae": "y"}, "nmae"),
        ("PUT", "/teams/t-default", {"name": None}, "name"),
        ("PUT", "/teams/t-default", {"id": "t-other"}, "id"),
        ("PUT", "/certificates/mc-none", {"status": "Active"}, "status"),
        ("PUT", "/certificates/mc-none", {"expires_at": None}, "expires_at"),
        ("POST", "/owners", {"name": "x", "email": "nobody"}, "email"),
        ("POST", "/owners", {"name": "x", "team_id": "t-none"}, "team_id"),
        ("PUT", "/owners/o-default", {"team_id": "t-none"}, "team_id"),
        ("POST", "/renewal-policies", {"name": "x", "renewal_window_days": 0},
         "renewal_window_days"),
        ("POST", "/renewal-policies", {"name": "x", "max_retries": 1.5}, "max_retries"),
        ("POST", "/profiles", {"name": "x", "max_ttl_seconds": 1}, "max_ttl_seconds"),
        ("POST", "/profiles", {"name": "x", "allowed_ekus": ["any"]}, "allowed_ekus.0"),
        ("POST", "/profiles", {"name": "x", "required_san_patterns": ["(a+)+$"]},
         "required_san_patterns"),
        ("POST", "/profiles", {"name": "x", "allowed_key_algorithms": [
            {"algorithm": "RSA", "min_size": 1024}]}, "allowed_key_algorithms"),
        ("POST", "/issuers", {"name": "x", "type": "Nobody"}, "type"),
        ("POST", "/issuers", {"name": "x", "type": "GenericCA", "config": {"validity_days": 0}},
         "config.validity_days"),
        ("POST", "/issuers", {"name": "x", "type": "GenericCA", "config": {"nope": 1}},
         "config.nope"),
        ("PUT", "/issuers/iss-local", {"type": "Other"}, "type"),
        ("POST", "/targets", {"name": "x", "type": "NGINX", "agent_id": "none", "config": NGINX},
         "agent_id"),
        ("POST", "/agents/enrolment-tokens", {"ttl_seconds": 1}, "ttl_seconds"),
        ("POST", "/agents/enrol", {"token": "x"}, "name"),
        ("GET", "/certificates?status=Lost", None, "status"),
        ("GET", "/certificates?per_page=0", None, "per_page"),
        ("GET", "/certificates?per_page=501", None, "per_page"),
        ("GET", "/certificates?page=one", None, "page"),
        ("GET", "/certificates?page=99999999999999999999", None, "page"),
        ("GET", "/certificates?cursor=nonsense", None, "cursor"),
        ("GET", "/certificates?cursor=W10", None, "cursor"),
        ("GET", "/certificates?sort=password", None, "sort"),
        ("GET", "/certificates?sort=--name", None, "sort"),
        ("GET", "/certificates?fields=name,secret", None, "fields"),
        ("GET", "/certificates?expires_before=tomorrow", None, "expires_before"),
        ("GET", "/certificates?expires_before=2030-01-01T00:00:00", None, "expires_before"),
        ("GET", "/certificates?owner_id=a%00b", None, "owner_id"),
        ("GET", "/jobs?type=Nothing", None, "type"),
        ("GET", "/audit?since=2030-01-01T00:00:00Z&until=2029-01-01T00:00:00Z", None, "until"),
        ("DELETE", "/agents/none?force=maybe", None, "force"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told_by_its_field(
    untouched: Site, method: str, path: str, body: Any, field: str
) -> None:
    problem = await untouched.refused(400, method, path, json=body)
    assert (problem["error"], problem["field"]) == ("invalid", field)
    assert problem["message"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"common_name": "not a name"}, "common_name"),
        ({"common_name": ""}, "common_name"),
        ({"sans": ["*.*.example"]}, "sans"),
        ({"sans": ["a"] * 101}, "sans"),
        ({"sans": "a.example"}, "sans"),
        ({"owner_id": "o-none"}, "owner_id"),
        ({"team_id": "t-none"}, "team_id"),
        ({"issuer_id": "iss-none"}, "issuer_id"),
        ({"renewal_policy_id": "rp-none"}, "renewal_policy_id"),
        ({"certificate_profile_id": "prof-none"}, "certificate_profile_id"),
        ({"target_ids": ["tgt-none"]}, "target_ids"),
        ({"target_ids": ["a/b"]}, "target_ids.0"),
        ({"tags": {"a": 1}}, "tags.a"),
        ({"csr_pem": "nonsense"}, "csr_pem"),
        ({"csr_pem": a_csr("other.example.test")}, "csr_pem"),
        ({"csr_pem": a_csr("a.example.test", key=a_weak_key())}, "csr_pem"),
        ({"expires_at": "2030-01-01T00:00:00Z"}, "expires_at"),
        ({"status": "Active"}, "status"),
    ],
)
async def test_an_order_that_does_not_fit_makes_nothing(
    untouched: Site, changes: dict[str, Any], field: str
) -> None:
    problem = await untouched.refused(400, "POST", "/certificates", json={**ORDER, **changes})
    assert problem["field"] == field


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"x"', b"null", b'{"name": "x",}', b"\xff\xfe", b'{"name": "\xff"}',
     b'{"name": "\\ud800"}', b"[" * 5000],
)  # fmt: skip
async def test_a_body_that_is_no_json_object_is_refused(untouched: Site, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    problem = await untouched.refused(400, "POST", "/teams", content=content, headers=headers)
    assert problem["error"] == "invalid"


async def test_a_form_is_no_json(untouched: Site) -> None:
    await untouched.refused(400, "POST", "/teams", data={"name": "x"})


@pytest.mark.parametrize(
    "row_id",
    ["none", "..", "%2e%2e", "..%2f..%2fetc", "%00", "%F0%9F%92%A5", "a%20b", "%27%20OR%201=1--",
     "x" * 3000],
)  # fmt: skip
async def test_an_id_that_names_nothing_is_not_found(untouched: Site, row_id: str) -> None:
    for path in ("/teams/{}", "/certificates/{}", "/certificates/{}/versions", "/jobs/{}",
                 "/audit/{}", "/agents/{}"):  # fmt: skip
        answer = await untouched.call("GET", path.format(row_id), declared=False)
        assert answer.status_code in {400, 404}, path
        assert answer.json()["error"] in {"invalid", "not_found"}


async def test_a_query_that_nobody_reads_does_no_harm(untouched: Site) -> None:
    assert (await untouched.get("/teams?colour=red"))["total"] == 1


async def test_a_taken_name_is_a_conflict_that_names_the_field(untouched: Site) -> None:
    problem = await untouched.refused(409, "POST", "/teams", json={"name": "Platform"})
    assert problem["field"] == "name"


async def test_a_taken_id_is_a_conflict_that_names_the_field(untouched: Site) -> None:
    body = {"id": "t-default", "name": "other"}
    assert (await untouched.refused(409, "POST", "/teams", json=body))["field"] == "id"


async def test_a_taken_id_is_a_conflict_with_an_idempotency_key_too(untouched: Site) -> None:
    body = {"id": "t-default", "name": "other"}
    headers = {"Idempotency-Key": "once"}
    await untouched.refused(409, "POST", "/teams", json=body, headers=headers)


async def test_what_is_in_use_is_not_deleted_and_the_counts_are_told(untouched: Site) -> None:
    problem = await untouched.refused(409, "DELETE", "/teams/t-default")
    assert "1 owners" in problem["message"]


async def test_the_issuer_of_our_own_cas_is_not_deleted(untouched: Site) -> None:
    assert (
        "2 authorities" in (await untouched.refused(409, "DELETE", "/issuers/iss-local"))["message"]
    )


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_an_idempotency_key_has_1_to_255_characters(untouched: Site, key: str) -> None:
    headers = {"Idempotency-Key": key}
    problem = await untouched.refused(400, "POST", "/teams", json={"name": "x"}, headers=headers)
    assert problem["field"] == "Idempotency-Key"
