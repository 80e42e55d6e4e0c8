"""The server's own certificate comes from the CA that signs now."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certctl import wire
from certctl.boot.platform import Built
from certctl.boot.serve import own_anchors, own_certificate
from certctl.boot.tls import SwappableContext, client_chain
from certctl.domain.access import Actor
from certctl.pki import keys, x509
from certctl.services import agent_certificate, authority, hierarchy, rollover
from certctl.settings import load
from tests import kit
from tests.conftest import World


async def signed_by(built: Built) -> str | None:
    chain, _key = await own_certificate(built)
    return x509.facts(x509.ders_of_pem(chain)[1]).subject_cn


async def test_it_follows_a_new_issuing_ca_and_stays_below_the_same_root(world: World) -> None:
    built = Built(load({}), world.platform, world.platform, world.queue_app, world.conninfo)
    anchor = await authority.trust_anchor(world.platform, "iss-local")
    assert await signed_by(built) == "certctl issuing CA"
    root = await kit.value(world, "SELECT id FROM authorities WHERE parent_id IS NULL")
    wish = authority.NewAuthority("iss-local", root, "Issuing 2027", path_length=0)
    await authority.create(world.platform, kit.ADMIN, wish)
    assert await signed_by(built) == "Issuing 2027"
    assert await authority.trust_anchor(world.platform, "iss-local") == anchor


async def test_clients_and_server_believe_each_other_across_a_cutover_to_a_new_root(
    world: World, tmp_path: Path
) -> None:
    """An agent's certificate from before is taken after it, the server's under both roots."""
    built = Built(load({}), world.platform, world.platform, world.queue_app, world.conninfo)
    agent = await kit.an_agent(world)
    pair = await a_pair(world, agent, tmp_path / "before.pem")
    old = await kit.value(world, "SELECT id FROM authorities WHERE parent_id IS NULL")
    (issuing,) = [
        row["id"] for row in await kit.rows(world, "SELECT id, parent_id FROM authorities")
        if row["parent_id"]
    ]  # fmt: skip
    before = await own_anchors(built)
    context = SwappableContext(*await own_certificate(built), clients_pem=before)
    wanted = authority.NewAuthority("iss-local", None, "New root", path_length=1, replaces=old)
    new = (await hierarchy.create(world.platform, kit.ADMIN, wanted))["id"]
    overlap = await own_anchors(built)
    assert x509.ders_of_pem(overlap)[0] == x509.ders_of_pem(before)[0]
    await rollover.recertify(world.platform, kit.ADMIN, issuing, new, lifetime=None)
    async with serving(context) as port:
        assert await told_by(port, pair, before) == await told_by(port, pair, overlap)
        await rollover.cutover(world.platform, kit.ADMIN, issuing, new)
        context.put(*await own_certificate(built), clients_pem=await own_anchors(built))
        assert await told_by(port, pair, overlap) == agent.agent_id
        later = await a_pair(world, agent, tmp_path / "after.pem")
        assert await told_by(port, later, overlap) == agent.agent_id
        newest = x509.pem(x509.ders_of_pem(await own_anchors(built))[0])
        assert await told_by(port, pair, newest) == agent.agent_id
        with pytest.raises(ssl.SSLCertVerificationError):
            await told_by(port, pair, before)


async def a_pair(world: World, agent: Actor, path: Path) -> Path:
    """Key and client certificate of an agent, issued now."""
    key = kit.a_key()
    wish = wire.ClientCertificateWish(csr_pem=kit.a_csr("a.example.test", key=key))
    made = await agent_certificate.issue(world.platform, agent, agent.agent_id or "", wish)
    path.write_text(keys.to_pem(key) + made.certificate_pem)
    return path


@asynccontextmanager
async def serving(context: SwappableContext) -> AsyncIterator[int]:
    """A TLS server on a free port, which says whose certificate it has verified."""

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        (shown,) = client_chain(writer.get_extra_info("ssl_object"))
        (name,) = x509.facts(x509.ders_of_pem(shown)[0]).names
        writer.write(f"{name.value.rpartition('/')[2]}\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(tell, "127.0.0.1", 0, ssl=context.listening)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def told_by(port: int, pair: Path, anchors_pem: str) -> str:
    """The agent that the listener has verified, as a client sees it who trusts these roots."""
    tls = ssl.create_default_context(cadata=anchors_pem)
    tls.load_cert_chain(pair)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname="localhost"
    )
    writer.write(b"who\n")
    name = (await reader.readline()).decode().strip()
    writer.close()
    await writer.wait_closed()
    return name
