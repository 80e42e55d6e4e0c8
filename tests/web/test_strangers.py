"""Whoever has not proved who they are gets 401, whatever they ask for and however they say it."""

from __future__ import annotations

import pytest

from tests.web.kit import ADMIN, Site

# Nothing changes, so that all of these can share one site.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/nothing",
        "/api/v1/certificates/",
        "/api/v1//certificates",
        "/API/v1/certificates",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/health/",
        "/healthy",
        "/ready/x",
        "/.well-known/pki",
        "/.well-known/pkix/ocsp/x",
        "/api/v1/ca/x",
        "/api/v1/auth/info/..",
        "/health/../api/v1/certificates",
        "/%2e%2e/etc/passwd",
        "/health%00",
    ],
)
async def test_a_stranger_learns_nothing_from_a_path(untouched: Site, path: str) -> None:
    answer = await untouched.client.get(path)
    assert answer.status_code == 401
    assert answer.json()["error"] == "unauthenticated"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_no_method_lets_a_stranger_in(untouched: Site, method: str) -> None:
    answer = await untouched.client.request(method, "/api/v1/certificates")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YTpi", ADMIN, f"Token {ADMIN}", "Bearer wrong", "Bearer \xff"],
)
async def test_anything_but_a_known_bearer_is_a_stranger(untouched: Site, header: str) -> None:
    raw = {b"authorization": header.encode("latin-1")} if header else {}
    answer = await untouched.client.get("/api/v1/auth/check", headers=raw)
    assert answer.status_code == 401
