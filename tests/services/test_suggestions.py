"""Renewal information of a CA, over real HTTP: heeded, bounded, and never waited for in a row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field

from certctl.connectors import catalog, http, issuer, renewal_info
from certctl.connectors.issuer import Issued, Order, Suggested
from certctl.domain.errors import Refused
from certctl.services import renew, suggest
from tests import kit
from tests.conftest import World
from tests.connectors.kit import LOOPBACK
from tests.services.test_due import near_its_end

DAY = timedelta(days=1)
JAN = "2030-01-0"


class Suggesting:
    """An outside CA that tells when to renew."""

    kind: ClassVar[str] = "Suggesting"

    class Config(issuer.Config):
        url: str = Field(description="Its renewalInfo resource")
        ari_http_timeout_seconds: int = Field(0, description="Seconds for an answer")

    def __init__(self, config: Config) -> None:
        self.config = config

    async def check(self) -> None:
        raise NotImplementedError

    async def issue(self, order: Order) -> Issued:
        raise NotImplementedError

    async def suggest(self, chain: tuple[bytes, ...], *, timeout: timedelta) -> Suggested:
        async with http.client(LOOPBACK) as through:
            return await renewal_info.fetch(through, self.config.url, chain[0], timeout=timeout)


@dataclass
class Resource:
    """A renewalInfo resource on loopback; `answer` is its body, None hangs."""

    port: int = 0
    answer: Any = None
    status: str = "200 OK"
    headers: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/renewal-info"

    def suggest(self, start: datetime, end: datetime) -> None:
        window = {"start": start.isoformat(), "end": end.isoformat()}
        self.answer = {"suggestedWindow": window, "explanationURL": "https://ca.example/why"}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split()[1].decode())
        if self.answer is None:
            await reader.read()
        else:
            given = self.answer
            body = given if isinstance(given, bytes) else json.dumps(given).encode()
            writer.write(
                f"HTTP/1.1 {self.status}\r\nContent-Length: {len(body)}\r\n{self.headers}"
                "Connection: close\r\n\r\n".encode()
                + body
            )
        writer.close()


@asynccontextmanager
async def a_resource() -> AsyncIterator[Resource]:
    resource = Resource()
    server = await asyncio.start_server(resource.serve, "127.0.0.1", 0)
    resource.port = server.sockets[0].getsockname()[1]
    async with server:
        yield resource


@pytest.fixture
def suggesting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind of the test's own CA in the catalogue."""
    place = f"{__name__}:{Suggesting.__name__}"
    monkeypatch.setitem(catalog.ISSUERS, Suggesting.kind, place)


async def an_issuer(world: World, resource: Resource, name: str = "outside", **config: Any) -> str:
    row = await kit.plain.create(
        world.platform,
        kit.ADMIN,
        kit.plain.ISSUERS,
        values={"name": name, "type": "Suggesting", "config": {"url": resource.url, **config}},
    )
    return str(row["id"])


async def a_certificate(world: World, issuer_id: str, *, near: bool = False) -> kit.Served:
    """One that an agent serves, and that came from this issuer."""
    served = await kit.a_served_certificate(world)
    await kit.change(world, "UPDATE certificate_versions SET issuer_id = %(id)s", id=issuer_id)
    await kit.change(world, "UPDATE managed_certificates SET issuer_id = %(id)s", id=issuer_id)
    if near:
        await near_its_end(world)
    return served


async def asked(world: World) -> int:
    await kit.change(world, "UPDATE certificate_versions SET ask_again_at = NULL")
    return await suggest.ask(world.platform)


async def test_a_ca_that_asks_early_is_heeded_with_its_reason(
    world: World, suggesting: None
) -> None:
    async with a_resource() as resource:
        served = await a_certificate(world, await an_issuer(world, resource))
        now = datetime.now(UTC)
        resource.suggest(now - 2 * DAY, now - DAY)
        assert await asked(world) == 1
    assert await renew.find_due(world.platform) == 1
    reason = (await kit.jobs_of(world, served.id))[-1]["reason"]
    assert reason.startswith("the CA suggests renewal between")
    assert reason.endswith("(https://ca.example/why)")


async def test_a_ca_that_asks_later_puts_the_window_off_but_not_the_floor(
    world: World, suggesting: None
) -> None:
    async with a_resource() as resource:
        served = await a_certificate(world, await an_issuer(world, resource), near=True)
        now = datetime.now(UTC)
        resource.suggest(now + 8 * DAY, now + 9 * DAY)
        assert await asked(world) == 1
    assert await renew.find_due(world.platform) == 0
    await kit.change(
        world,
        "UPDATE certificate_versions SET not_after = now() + interval '6 days', "
        "not_before = now() - interval '84 days' WHERE live",
    )
    assert await renew.find_due(world.platform) == 1
    reason = (await kit.jobs_of(world, served.id))[-1]["reason"]
    assert reason.startswith("too near its end since")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("404 Not Found", {}),
        ("500 Oops", {}),
        ("301 Moved", {}),
        ("200 OK", {}),
        ("200 OK", {"suggestedWindow": {"start": "soon", "end": "later"}}),
        ("200 OK", {"suggestedWindow": {"start": f"{JAN}2T00:00:00Z", "end": f"{JAN}1T00:00:00Z"}}),
        ("200 OK", {"suggestedWindow": {"start": f"{JAN}1T00:00:00", "end": f"{JAN}2T00:00:00"}}),
        ("200 OK", b"[" * 30_000),
        ("200 OK", b"x" * 100_000),
    ],
)  # fmt: skip
async def test_an_answer_that_says_nothing_leaves_the_policy_to_decide(
    world: World, suggesting: None, status: str, answer: Any
) -> None:
    async with a_resource() as resource:
        await a_certificate(world, await an_issuer(world, resource), near=True)
        resource.status, resource.answer = status, answer
        await asked(world)
        assert len(resource.asked) == 1
        assert await suggest.ask(world.platform) == 0, "it is not asked again at once"
        assert len(resource.asked) == 1
    assert await renew.find_due(world.platform) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Retry-After: 3600", 3600),
        ("", 6 * 3600),
        ("Retry-After: 1", 60),
        ("Retry-After: 999999999", 86400),
    ],
)
async def test_the_ca_says_when_to_ask_again_within_reason(
    world: World, suggesting: None, header: str, seconds: int
) -> None:
    async with a_resource() as resource:
        await a_certificate(world, await an_issuer(world, resource))
        resource.suggest(datetime.now(UTC) + 50 * DAY, datetime.now(UTC) + 51 * DAY)
        resource.headers = f"{header}\r\n" if header else ""
        assert await asked(world) == 1
    again = await kit.value(world, "SELECT ask_again_at FROM certificate_versions WHERE live")
    assert abs((again - datetime.now(UTC)).total_seconds() - seconds) < 20


async def test_a_dead_ca_delays_nobody_else(world: World, suggesting: None) -> None:
    """It is waited for, with as many certificates as could use up any budget, while the others are
    answered."""
    async with a_resource() as dead, a_resource() as alive:
        await of_a_dead_ca(world, await an_issuer(world, dead, "dead", **WAIT_FOR_IT))
        served = await kit.a_served_certificate(world, name="quick")
        quick = await an_issuer(world, alive, "alive")
        await kit.change(
            world,
            "UPDATE certificate_versions SET issuer_id = %(quick)s WHERE certificate_id = %(id)s",
            quick=quick,
            id=served.id,
        )
        alive.suggest(datetime.now(UTC) + 50 * DAY, datetime.now(UTC) + 51 * DAY)
        asking = asyncio.create_task(suggest.ask(world.platform))
        suggested = "SELECT count(*) FROM certificate_versions WHERE suggested_at IS NOT NULL"
        async with asyncio.timeout(20):
            while not (dead.asked and await kit.value(world, suggested)):
                await asyncio.sleep(0.01)
        assert not asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_ca_that_stays_silent_is_left_alone_for_this_time(
    world: World, suggesting: None
) -> None:
    async with a_resource() as dead:
        issuer_id = await an_issuer(world, dead, "dead", ari_http_timeout_seconds=1)
        await of_a_dead_ca(world, issuer_id)
        assert await suggest.ask(world.platform) == 0
        assert len(dead.asked) == suggest.LANE


WAIT_FOR_IT = {"ari_http_timeout_seconds": 600}


async def of_a_dead_ca(world: World, issuer_id: str) -> None:
    """Thirty certificates, issued before any other."""
    await kit.an_issued_certificate(world, name="first")
    await kit.change(world, "UPDATE certificate_versions SET issuer_id = %(id)s", id=issuer_id)
    await kit.change(
        world,
        """INSERT INTO managed_certificates (id, name, common_name, sans, owner_id, team_id,
               issuer_id, renewal_policy_id, certificate_profile_id, status, expires_at)
           SELECT 'mc-' || n, 'slow-' || n, common_name, sans, owner_id, team_id, %(slow)s,
               renewal_policy_id, certificate_profile_id, status, expires_at
           FROM managed_certificates, generate_series(16, 44) n""",
        slow=issuer_id,
    )
    await kit.change(
        world,
        """INSERT INTO certificate_versions (id, certificate_id, issuer_id, serial_number,
               not_before, not_after, fingerprint_sha256, spki_sha256, sans, pem_chain,
               key_algorithm, key_size)
           SELECT 'cv-' || n, 'mc-' || n, issuer_id, to_hex(n), not_before, not_after, 'f' || n,
               spki_sha256, sans, pem_chain, key_algorithm, key_size
           FROM certificate_versions, generate_series(16, 44) n""",
    )


async def test_the_identifier_is_that_of_the_rfc() -> None:
    """RFC 9773 §4.1 and its appendix A: the key identifier and the serial of the example."""
    key_identifier = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0x8765_4321)
        .not_valid_before(datetime(2030, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2030, 4, 1, tzinfo=UTC))
        .add_extension(x509.AuthorityKeyIdentifier(key_identifier, None, None), critical=False)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(Encoding.DER)
    assert renewal_info.identifier(der) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


async def test_a_certificate_that_names_no_authority_has_no_identifier() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2030, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2030, 4, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(Refused, match="no authority key"):
        renewal_info.identifier(certificate.public_bytes(Encoding.DER))
