"""A cursor walk sees each row once, in both directions, also while rows are added."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from certctl.domain.access import EVERYTHING
from certctl.domain.errors import Invalid
from certctl.domain.listing import PageRequest
from certctl.services.certificates import parse_order
from certctl.store import certificates
from tests import kit
from tests.conftest import World

EQUAL = "2030-01-01T00:00:00Z"


async def put(world: World, number: int, **values: Any) -> None:
    """A certificate row with everything but its number the same as its neighbours'."""
    columns = {
        **kit.an_order(),
        "id": f"mc-{number:03}",
        "name": f"name-{number:03}",
        "created_at": EQUAL,
        "updated_at": EQUAL,
        "certificate_profile_id": "prof-default",
        **values,
    }
    async with world.platform.db.transaction() as tx:
        assert await certificates.insert(tx, columns)


async def page(world: World, sort: str, request: PageRequest) -> dict[str, Any]:
    async with world.platform.db.read() as session:
        return await certificates.page(
            session, request, within=EVERYTHING, filters={}, order=parse_order(sort)
        )


async def walk(world: World, sort: str, *, meanwhile: bool = False) -> list[str]:
    """Every id in the order of a walk by two; `meanwhile` adds a row after each page."""
    seen: list[str] = []
    cursor: str | None = ""
    number = 900
    while cursor is not None:
        found = await page(world, sort, PageRequest(per_page=2, cursor=cursor))
        seen += [row["id"] for row in found["data"]]
        cursor = found["next_cursor"]
        if meanwhile:
            number += 1
            await put(world, number)
    return seen


@pytest.mark.parametrize("sort", ["createdAt", "-createdAt"])
async def test_a_walk_over_equal_times_sees_each_row_once_while_rows_are_added(
    world: World, sort: str
) -> None:
    for number in range(9):
        await put(world, number)
    seen = await walk(world, sort, meanwhile=True)
    there = [identifier for identifier in seen if identifier < "mc-900"]
    expected = [f"mc-{number:03}" for number in range(9)]
    assert there == (expected[::-1] if sort.startswith("-") else expected)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("sort", ["expiresAt", "-expiresAt"])
async def test_certificates_without_an_expiry_stand_last_in_either_direction(
    world: World, sort: str
) -> None:
    for number in range(7):
        await put(world, number, expires_at=None if number % 2 else f"2031-01-0{number + 1}")
    seen = await walk(world, sort)
    dated, undated = ["mc-000", "mc-002", "mc-004", "mc-006"], ["mc-001", "mc-003", "mc-005"]
    backwards = sort.startswith("-")
    assert seen == (dated[::-1] + undated[::-1] if backwards else dated + undated)


@pytest.mark.parametrize("sort", ["name", "-name", "status", "commonName", "updatedAt"])
async def test_a_walk_agrees_with_the_numbered_pages(world: World, sort: str) -> None:
    for number, name in enumerate(["b", "B", "a", "Z", "_", "ä"]):
        await put(world, number, name=name)
    numbered = await page(world, sort, PageRequest(per_page=100))
    assert await walk(world, sort) == [row["id"] for row in numbered["data"]]


async def test_names_are_sorted_byte_for_byte(world: World) -> None:
    for number, name in enumerate(["b", "B", "a", "_"]):
        await put(world, number, name=name)
    found = await page(world, "name", PageRequest())
    assert [row["name"] for row in found["data"]] == ["B", "_", "a", "b"]


async def test_a_numbered_page_counts_everything(world: World) -> None:
    for number in range(5):
        await put(world, number)
    found = await page(world, "createdAt", PageRequest(page=3, per_page=2))
    assert [row["id"] for row in found["data"]] == ["mc-004"]
    assert (found["total"], found["page"], found["per_page"]) == (5, 3, 2)


async def test_the_last_page_of_a_walk_that_is_exactly_full_has_no_cursor(world: World) -> None:
    for number in range(2):
        await put(world, number)
    found = await page(world, "createdAt", PageRequest(per_page=2, cursor=""))
    assert found["next_cursor"] is None


def packed(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense!",
        "AAAA",
        packed("text"),
        packed(7),
        packed(["2030-01-01", 1]),
        packed(["2030-01-01"]),
        packed(["not a time", "mc-1"]),
        packed([7, "mc-1"]),
        packed([["2030-01-01"], "mc-1"]),
        packed([EQUAL, "mc-\0"]),
        base64.urlsafe_b64encode(b"[" * 1500).decode(),
    ],
)
async def test_a_cursor_that_is_not_ours_is_refused_by_name(world: World, cursor: str) -> None:
    with pytest.raises(Invalid) as caught:
        await page(world, "createdAt", PageRequest(cursor=cursor))
    assert caught.value.field == "cursor"


async def test_a_cursor_of_another_order_is_refused(world: World) -> None:
    with pytest.raises(Invalid, match="cursor"):
        await page(world, "name", PageRequest(cursor=packed(["a\0", "mc-1"])))
