"""Whatever goes wrong, the answer holds nothing of how certctl is made or where it runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from certctl import __version__
from certctl.store.db import Database
from certctl.web.front import Rules
from tests.conftest import World
from tests.web.kit import ADMIN, ORDER, UNLIMITED, Site, open_site

LEAKS = re.compile(
    r"Traceback|File \"|\.py\b|, line \d|0x[0-9a-f]{6}|/(tmp|usr|root|home|opt|var|etc)/"
    r"|psycopg|procrastinate|pydantic|starlette|fastapi|uvicorn|httptools|python"
    r"|\b(SELECT|INSERT|UPDATE|DELETE|WHERE|JOIN)\b|_key\b|constraint|relation\b|localhost|127\.0"
    r"|Error\b|Exception\b",
)
BEARER = {"Authorization": f"Bearer {ADMIN}"}
JSON = {**BEARER, "Content-Type": "application/json"}
PKI = "/.well-known/pki"

# Method, path, headers, body, and the statuses that tell it.
PROVOKED: list[tuple[str, str, dict[str, str], bytes, set[int]]] = [
    ("GET", "/api/v1/teams", {}, b"", {401}),
    ("GET", "/api/v1/teams", {"Authorization": "Bearer \x7f'; --"}, b"", {401}),
    ("GET", "/api/v1/../../etc/passwd", BEARER, b"", {401, 404}),
    ("GET", "/api/v1/nothing", BEARER, b"", {404}),
    ("GET", "/api/v1/teams/'%20OR%201=1", BEARER, b"", {400, 404}),
    ("GET", "/api/v1/teams/%00", BEARER, b"", {400, 404}),
    ("GET", "/api/v1/teams/%ff", BEARER, b"", {400, 404}),
    ("PATCH", "/api/v1/teams", BEARER, b"", {405}),
    ("GET", "/api/v1/certificates?per_page=many", BEARER, b"", {400}),
    ("GET", "/api/v1/certificates?cursor=x", BEARER, b"", {200, 400}),
    ("GET", "/api/v1/certificates?sort=nothing", BEARER, b"", {200, 400}),
    ("POST", "/api/v1/teams", JSON, b"{", {400}),
    ("POST", "/api/v1/teams", JSON, b"[]", {400}),
    ("POST", "/api/v1/teams", JSON, b"\xff\xfe", {400}),
    ("POST", "/api/v1/teams", JSON, b'{"name": 1}', {400}),
    ("POST", "/api/v1/teams", JSON, b'{"name": "\\u0000"}', {400}),
    ("POST", "/api/v1/teams", JSON, b'{"name": "\\ud800"}', {400}),
    ("POST", "/api/v1/teams", JSON, b'{"name": "first"}', {201}),
    ("POST", "/api/v1/teams", JSON, b'{"name": "first"}', {409}),
    ("POST", "/api/v1/teams", JSON, b"[" * 100_000, {400}),
    ("POST", "/api/v1/teams", JSON, b'"' + b"x" * 1_048_576 + b'"', {413}),
    ("POST", "/api/v1/owners", JSON, b'{"name": "o", "email": "o@x.test", "team_id": "no"}', {400}),
    ("PUT", "/api/v1/teams/t-default", {**JSON, "If-Match": '"x"'}, b'{"name": "b"}', {412}),
    ("DELETE", "/api/v1/teams/t-default", BEARER, b"", {409}),
    ("POST", "/api/v1/teams", {**JSON, "Idempotency-Key": "x" * 300}, b'{"name": "c"}', {400}),
    ("POST", "/api/v1/agents/enrol", {"Content-Type": "application/json"}, b"{", {400}),
    ("POST", "/api/v1/agents/enrol", {}, b'{"token": "x", "name": "y"}', {400, 401}),
    ("GET", "/health/../x", {}, b"", {401}),
    ("DELETE", "/health", {}, b"", {405}),
    ("POST", f"{PKI}/ocsp/iss-local", {"Content-Type": "application/ocsp-request"}, b"x", {200}),
    ("POST", f"{PKI}/ocsp/iss-local", {"Content-Type": "text/html"}, b"x", {415}),
    ("GET", f"{PKI}/ocsp/iss-local/xyz", {}, b"", {400}),
    ("GET", f"{PKI}/crl/'", {}, b"", {404}),
    ("GET", f"{PKI}/ca/x", {}, b"", {404}),
]  # fmt: skip


def assert_silent(answer: httpx.Response) -> None:
    told = {k: v for k, v in answer.headers.items() if k not in {"x-request-id", "date"}}
    text = f"{told} {answer.content.decode('latin-1')}"
    assert not LEAKS.search(text), text
    assert __version__ not in text
    assert str(Path.cwd()) not in text
    assert "server" not in answer.headers
    assert answer.headers["X-Request-ID"]


async def test_no_provoked_error_says_how_certctl_is_made(site: Site) -> None:
    for method, path, headers, body, statuses in PROVOKED:
        raw = {k.encode(): v.encode("latin-1") for k, v in headers.items()}
        answer = await site.client.request(method, path, headers=raw, content=body)
        assert answer.status_code in statuses, f"{method} {path}: {answer.text}"
        if answer.status_code >= 400:
            assert_silent(answer)


async def broken(_secret: str) -> Any:
    raise RuntimeError("SELECT secret FROM /etc/certctl/config.py")


@pytest.mark.parametrize("cause", ["broken", "late", "full", "no database"])
async def test_no_failure_of_our_own_says_what_failed(world: World, cause: str) -> None:
    away = Database(world.conninfo, max_size=1)
    await away.open()
    await away.close()
    site = {
        "broken": lambda: open_site(world, authenticate=broken),
        "late": lambda: open_site(world, rules=Rules(timeout=1e-6)),
        "full": lambda: open_site(world, rules=Rules(at_once=0)),
        "no database": lambda: open_site(
            replace(world, platform=replace(world.platform, db=away)), budgets=UNLIMITED
        ),
    }[cause]()
    async with site.client:
        answers = [
            await site.call("GET", "/teams", key="unknown"),
            await site.call("POST", "/certificates", json=ORDER, key="unknown"),
        ]
        if cause != "broken":
            answers.append(await site.client.get(f"{PKI}/crl/iss-local"))
    for answer in answers:
        assert answer.status_code == (500 if cause == "broken" else 503)
        assert_silent(answer)
