"""The fixtures of this folder: a site, and providers that it knows."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import World
from tests.oidc import fake, real
from tests.oidc.served import served
from tests.web.kit import Json, Site, open_site


@pytest.fixture
async def site(world: World) -> AsyncIterator[Site]:
    opened = open_site(world)
    async with opened.client:
        yield opened


@pytest.fixture
async def lying() -> AsyncIterator[fake.FakeProvider]:
    """A provider that is honest until it is told otherwise."""
    provider = fake.FakeProvider()
    async with served(provider) as port:
        provider.issuer = f"http://127.0.0.1:{port}"
        yield provider


@pytest.fixture
def real_provider(tmp_path: Path) -> Iterator[real.RealProvider]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    provider = real.RealProvider(tmp_path, port, {"REDIRECT_URI": real.REDIRECT})
    yield provider
    provider.stop()


async def configured(site: Site, issuer: str, secret: str, **changes: object) -> Json:
    """The provider at certctl; its group `ops` may operate, its group `watch` may read."""
    body = {
        "name": "the provider",
        "issuer_url": issuer,
        "client_id": "certctl",
        "client_secret": secret,
        "redirect_uri": real.REDIRECT,
    }
    made = await site.post("/auth/oidc/providers", {**body, **changes})
    for group, role in (("ops", "r-operator"), ("watch", "r-viewer")):
        mapping = {"provider_id": made["id"], "group_name": group, "role_id": role}
        await site.post("/auth/oidc/group-mappings", mapping)
    return made
