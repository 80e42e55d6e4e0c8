"""Deny is the default: who may come in, and how the door tells those who may not."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from certctl.domain.access import ANY_ACTOR, ROLES, Actor, Permission, system
from certctl.domain.errors import Unsafe
from certctl.pki import ocsp
from certctl.services import access
from certctl.store.db import Database
from certctl.web import app, gate
from certctl.web.api.common import StatusAnswer
from certctl.web.callers import Callers
from certctl.web.front import FrontDoor
from certctl.web.limits import AddressBudget
from tests import reference
from tests.conftest import World
from tests.web.kit import ADMIN, ROWS, Bearers, Site, client, filled, open_site

PUBLIC = {(method, path) for face in app.FACES for method, path in face.routes}


def of_the_table() -> list[tuple[str, str, str]]:
    """Method, path and need of each row that `certctl routes` prints."""
    return [tuple(line.split(maxsplit=2)) for line in app.table().splitlines()]  # type: ignore[misc]


async def test_a_stranger_is_let_in_at_the_public_rows_alone(site: Site) -> None:
    for method, path, need in of_the_table():
        answer = await site.client.request(method, filled(path), json={})
        assert (answer.status_code == 401) is not need.startswith("(public"), f"{method} {path}"
        assert (need.startswith("(public")) == ((method, path) in PUBLIC)


async def test_the_scheme_is_read_in_any_case(site: Site) -> None:
    """RFC 9110 §11.1: the scheme is case-insensitive."""
    headers = {"Authorization": f"bEARER {ADMIN}"}
    assert (await site.client.get("/api/v1/auth/check", headers=headers)).status_code == 200


async def test_a_known_caller_is_told_404_of_an_unknown_path(site: Site) -> None:
    assert (await site.refused(404, "GET", "/nothing"))["error"] == "not_found"


async def test_a_known_caller_is_told_405_of_a_wrong_method(site: Site) -> None:
    answer = await site.call("PATCH", "/certificates/x")
    assert answer.status_code == 405
    assert answer.json()["error"] == "method_not_allowed"
    assert answer.headers["Allow"]


def reviewed(role: str) -> dict[tuple[str, str], bool]:
    """Whether the role opens a route, as the page that was reviewed says."""
    head, _, *rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in (reference.FOLDER / "roles.md").read_text().splitlines()
        if line.startswith("|")
    ]
    column = head.index(role.removeprefix("r-"))
    return {(row[0], row[1].removeprefix(gate.PREFIX)): row[column] == "x" for row in rows}


@pytest.mark.parametrize("role", sorted(ROLES))
async def test_a_role_opens_exactly_the_routes_that_were_reviewed(site: Site, role: str) -> None:
    key, expected = await site.key(role), reviewed(role)
    assert len(expected) == len(ROWS)
    for row in ROWS:
        answer = await site.call(row.method, filled(row.path), key=key)
        refused = answer.status_code == 403 and "needs the permission" in answer.json()["message"]
        assert refused is not expected[row.method, row.path], row


async def test_whoever_lacks_the_permission_is_not_told_what_is_wrong_with_the_body(
    site: Site,
) -> None:
    key = await site.key("r-viewer")
    broken = {"content": b"{", "headers": {"Content-Type": "application/json"}}
    problem = await site.refused(403, "POST", "/certificates", key=key, **broken)
    assert problem["message"] == "this needs the permission cert.issue"
    assert (await site.refused(400, "POST", "/certificates", **broken))["field"] == "body"


@pytest.mark.parametrize("needs", [None, "cert.read", True, Permission, ""])
def test_a_route_without_a_permission_cannot_be_written(needs: Any) -> None:
    resource = gate.Resource("/x", tag="x")
    for verb in (resource.get, resource.post, resource.put, resource.delete):
        with pytest.raises(TypeError, match="needs"):
            verb("", needs=needs, answer=StatusAnswer)


def test_needs_cannot_be_left_out() -> None:
    with pytest.raises(TypeError, match="needs"):
        gate.Resource("/x", tag="x").get("", answer=StatusAnswer)  # type: ignore[call-arg]


async def test_every_answer_carries_an_id_of_its_own_and_the_security_headers(site: Site) -> None:
    ids = set()
    for path in ("/health", "/nothing", "/api/v1/certificates", "/.well-known/pki/crl/iss-local"):
        answer = await site.client.get(path)
        ids.add(answer.headers["X-Request-ID"])
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "max-age" in answer.headers["Strict-Transport-Security"]
    assert len(ids) == 4


async def test_a_request_id_is_never_taken_from_the_caller(site: Site) -> None:
    answer = await site.call("GET", "/teams", headers={"X-Request-ID": "forged"})
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["X-Request-ID"])


async def test_head_answers_as_get_without_a_body(site: Site) -> None:
    head, get = await site.call("HEAD", "/teams"), await site.call("GET", "/teams")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def test_an_unforeseen_error_is_told_without_its_words(world: World) -> None:
    async def broken(_secret: str) -> None:
        raise RuntimeError("the password is sesame")

    opened = open_site(world, authenticate=Bearers(broken))
    async with opened.client:
        problem = await opened.refused(500, "GET", "/teams")
    assert problem["message"] == "internal error"


async def test_an_unsafe_state_is_told_without_its_words(world: World) -> None:
    async def unsafe(_secret: str) -> None:
        raise Unsafe("the data key at /secret/place")

    opened = open_site(world, authenticate=Bearers(unsafe))
    async with opened.client:
        problem = await opened.refused(500, "GET", "/teams")
    assert problem["message"] == "internal error"


async def test_a_handler_that_breaks_is_told_without_its_words(world: World) -> None:
    toys = gate.Resource("/toys", tag="toys")

    @toys.get(needs=ANY_ACTOR, answer=StatusAnswer)
    async def broken(call: gate.Call) -> Any:
        raise RuntimeError("the password is sesame")

    async def anybody(_secret: str) -> Actor:
        return system("test")

    behind = gate.management_api(
        (toys,),
        world.platform,
        Callers(Bearers(anybody), lambda _name: None, strangers=AddressBudget(None), anybody=None),
        max_body=1024,
    )
    async with client(FrontDoor((), behind, tls=True)) as caller:
        answer = await caller.get("/api/v1/toys", headers={"Authorization": "Bearer x"})
    assert (answer.status_code, answer.json()["message"]) == (500, "internal error")
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


async def test_while_the_database_is_away_every_face_says_to_come_again(world: World) -> None:
    away = Database(world.conninfo, max_size=4)
    await away.open()
    await away.close()
    opened = open_site(replace(world, platform=replace(world.platform, db=away)))
    async with opened.client:
        answer = await opened.call("GET", "/teams", key=access.make_secret(access.API_KEY).text)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        crl = await opened.client.get("/.well-known/pki/crl/iss-local")
        assert (crl.status_code, crl.text) == (503, "later\n")
        told = await opened.client.get("/.well-known/pki/ocsp/iss-local/1")
        assert told.content == ocsp.error_response("tryLater")
        assert (await opened.client.get("/health")).status_code == 200


async def test_readiness_says_which_part_is_not_fit(world: World) -> None:
    async def unfit() -> dict[str, str]:
        return {"db": "ok", "signer": "unavailable"}

    opened = open_site(world, readiness=unfit)
    async with opened.client:
        answer = await opened.client.get("/ready")
    assert (answer.status_code, answer.json()["signer"]) == (503, "unavailable")


async def test_a_server_of_which_a_part_is_away_still_serves(world: World) -> None:
    async def partly() -> dict[str, str]:
        return {"db": "ok", "signer": "partly: CA ica-1: its token is away"}

    opened = open_site(world, readiness=partly)
    async with opened.client:
        answer = await opened.client.get("/ready")
    told = answer.json()
    assert (answer.status_code, told["status"]) == (200, "ready")
    assert "ica-1" in told["signer"]


async def test_what_is_not_http_is_left_alone(site: Site) -> None:
    door = open_site(site.world).client._transport.app  # type: ignore[attr-defined]
    await door({"type": "lifespan"}, None, None)
    await door({"type": "websocket", "path": "/api/v1/teams"}, None, None)


async def test_the_address_of_the_caller_is_nothing_that_a_header_says(site: Site) -> None:
    door = site.client._transport.app  # type: ignore[attr-defined]
    async with client(door, address="198.51.100.4") as other:
        headers = {"Authorization": f"Bearer {ADMIN}", "X-Forwarded-For": "203.0.113.1"}
        await other.post("/api/v1/teams", json={"name": "red"}, headers=headers)
    events = (await site.get("/audit?resource_type=team"))["data"]
    assert events[0]["address"] == "198.51.100.4"
