"""The fixtures of this folder: a control plane that is called over ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from certctl.pki.sealing import DataKey
from tests.conftest import World, a_clone, open_world
from tests.web.kit import Site, everything, open_site


@pytest.fixture
async def site(world: World) -> AsyncIterator[Site]:
    opened = open_site(world)
    async with opened.client:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_site(postgres: str, ready_template: tuple[str, DataKey]) -> AsyncIterator[Site]:
    with a_clone(postgres, ready_template[0]) as url:
        async for world in open_world(url, ready_template[1]):
            opened = open_site(world)
            async with opened.client:
                yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def untouched(shared_site: Site) -> AsyncIterator[Site]:
    """A site that a module shares: its tables must be at the end as they were at the beginning."""
    before = await everything(shared_site.world)
    yield shared_site
    assert await everything(shared_site.world) == before
