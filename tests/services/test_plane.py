"""The plane's memory stays true: what is revoked, issued, over, unknown, or not to be known now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from cryptography import x509 as cx509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as cocsp

from certctl.domain.errors import NotFound, Unavailable
from certctl.domain.revocation import Reason
from certctl.pki import der, ocsp
from certctl.services import authority, crls, revoke, status
from certctl.services.plane.plane import Plane
from certctl.services.platform import Platform
from certctl.store import crls as stored
from certctl.store.db import Database, Row
from tests import kit
from tests.conftest import World

GOOD, REVOKED, UNKNOWN = cocsp.OCSPCertStatus


@dataclass
class Clock:
    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Asking:
    """A plane, and what it says of serials of the issuing CA."""

    plane: Plane
    issuer: bytes
    clock: Clock

    def cert_id(self, serial: str) -> ocsp.CertId:
        return ocsp.cert_id(self.issuer, int(serial, 16))

    async def about(self, serial: str, *, nonce: bytes = b"") -> cocsp.OCSPResponse:
        request = ocsp.request_for(self.cert_id(serial))
        if nonce:
            extension = der.sequence(der.extension(ocsp.NONCE, der.octets(nonce)))
            listed = der.sequence(der.sequence(self.cert_id(serial).raw))
            request = der.sequence(der.sequence(listed, der.explicit(2, extension)))
        answer = await self.plane.answer("iss-local", request)
        return cocsp.load_der_ocsp_response(answer.der)


async def open_plane(world: World, on: Platform, *, live_rate: float = 1000) -> Asking:
    clock = Clock()
    plane = Plane(replace(on, clock=clock), live_rate=live_rate)
    await plane.start()
    ca = await authority.signing_authority_id(world.platform, "iss-local")
    return Asking(plane, await authority.certificate(world.platform, ca), clock)


@pytest.fixture
async def asking(world: World) -> Asking:
    return await open_plane(world, world.platform)


@pytest.fixture
async def running(world: World, asking: Asking) -> AsyncIterator[Asking]:
    """With everything that a plane does by itself."""
    tasks = [
        asyncio.create_task(asking.plane.run()),
        asyncio.create_task(world.platform.signals.listen()),
    ]
    await eventually(lambda: world.platform.signals.hears)
    yield asking
    for task in tasks:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def eventually(true: Callable[[], bool], seconds: float = 10) -> float:
    """The seconds until it was."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def issued(world: World) -> tuple[Row, str]:
    """A certificate and its serial."""
    count = await kit.value(world, "SELECT count(*) FROM managed_certificates")
    row = await kit.an_issued_certificate(world, name=f"site-{count}")
    (version,) = await kit.versions_of(world, row["id"])
    return row, version["serial_number"]


async def revoked(world: World, row: Row) -> None:
    await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.KEY_COMPROMISE)


async def test_what_was_issued_after_the_start_is_good(world: World, asking: Asking) -> None:
    _, serial = await issued(world)
    assert (await asking.about(serial)).certificate_status is GOOD
    assert asking.plane.size == 1


async def test_a_revocation_is_heard_of_by_itself(world: World, running: Asking) -> None:
    row, serial = await issued(world)
    assert (await running.about(serial)).certificate_status is GOOD
    began = time.monotonic()
    await revoked(world, row)
    while (await running.about(serial)).certificate_status is not REVOKED:
        assert time.monotonic() - began < 4  # sooner than the next look
        await asyncio.sleep(0.01)
    told = await running.about(serial)
    assert told.revocation_reason is cx509.ReasonFlags.key_compromise


async def test_everything_is_loaded_and_signed_ahead(world: World, running: Asking) -> None:
    """Nobody has asked."""
    plane = running.plane
    count = await kit.value(world, "SELECT count(*) FROM issuances WHERE state = 'issued'")
    await eventually(lambda: plane.size == count and plane.signed == count)


async def test_what_is_loaded_at_once_is_what_is_found_one_by_one(world: World) -> None:
    rows = [await issued(world) for _ in range(3)]
    await revoked(world, rows[1][0])
    one_by_one = await open_plane(world, world.platform)
    at_once = await open_plane(world, world.platform)
    task = asyncio.create_task(at_once.plane.run())
    await eventually(lambda: at_once.plane.size >= 3)
    for _, serial in rows:
        answers = [await each.about(serial) for each in (one_by_one, at_once)]
        assert len({each.certificate_status for each in answers}) == 1
        assert len({each.revocation_time_utc for each in answers}) == 1
    task.cancel()


async def test_a_transaction_that_ends_late_is_not_missed(world: World, asking: Asking) -> None:
    """Its number is lower than that of one which was seen before."""
    (early, early_serial), (late, late_serial) = await issued(world), await issued(world)
    for serial in (early_serial, late_serial):
        assert (await asking.about(serial)).certificate_status is GOOD
    await revoked(world, late)
    (row,) = await kit.rows(world, "SELECT * FROM certificate_revocations")
    await kit.change(world, "DELETE FROM certificate_revocations")
    del row["changed_in"], row["crl_shard"]
    async with world.platform.db.transaction() as tx:
        mine = row | {"id": "rev-early", "serial_number": early_serial}
        await stored.revoke(tx, [mine | {"certificate_id": early["id"]}])
        async with world.platform.db.transaction() as other:
            await stored.revoke(other, [row])
        await asking.plane.catch_up()
        assert (await asking.about(late_serial)).certificate_status is REVOKED
        assert (await asking.about(early_serial)).certificate_status is GOOD
    await asking.plane.catch_up()
    assert (await asking.about(early_serial)).certificate_status is REVOKED


async def test_rows_with_numbers_of_another_server_do_no_harm(world: World, asking: Asking) -> None:
    """As after a restore."""
    row, serial = await issued(world)
    await revoked(world, row)
    await kit.change(world, "UPDATE certificate_revocations SET changed_in = '999999999999'")
    await asking.plane.catch_up()
    assert (await asking.about(serial)).certificate_status is REVOKED


async def test_without_the_database_the_time_of_the_answers_stands_still(
    world: World,
) -> None:
    apart = Database(world.conninfo, max_size=2)
    await apart.open()
    asking = await open_plane(world, replace(world.platform, db=apart))
    _, serial = await issued(world)
    await asking.about(serial)
    synced = asking.plane.synced_at
    await apart.close()
    asking.clock.ahead = timedelta(minutes=50)
    told = await asking.about(serial)
    assert told.certificate_status is GOOD
    assert told.this_update_utc == datetime.fromtimestamp(synced, UTC)
    assert told.produced_at_utc > told.this_update_utc
    with pytest.raises(Unavailable):  # never issued? the database would know
        await asking.about("123456789abcdef0123")
    asking.clock.ahead = timedelta(hours=2)
    with pytest.raises(Unavailable):
        await asking.about(serial)


async def test_a_certificate_that_is_over_is_told_with_the_archive_cutoff(
    world: World, asking: Asking
) -> None:
    _, serial = await issued(world)
    await asking.about(serial)
    await kit.change(
        world,
        "UPDATE issuances SET not_after = now() - interval '1 hour' WHERE serial_number = %(s)s",
        s=serial,
    )
    fresh = await open_plane(world, world.platform)
    told = await fresh.about(serial)
    assert [each.oid.dotted_string for each in told.single_extensions] == ["1.3.6.1.5.5.7.48.1.6"]
    assert fresh.plane.size == 0


async def test_a_serial_that_was_never_issued_is_unknown_and_takes_no_memory(
    asking: Asking,
) -> None:
    for serial in ("1", "7f", "123456789abcdef0123"):
        assert (await asking.about(serial)).certificate_status is UNKNOWN
    assert asking.plane.size == 0


@pytest.mark.parametrize("size", [1, 7, 8, 16, 32, 128])
async def test_a_nonce_comes_back(world: World, asking: Asking, size: int) -> None:
    _, serial = await issued(world)
    told = await asking.about(serial, nonce=b"n" * size)
    found = told.extensions.get_extension_for_class(cx509.OCSPNonce)
    assert found.value.nonce == b"n" * size


async def test_nonces_have_a_budget_of_their_own(world: World) -> None:
    asking = await open_plane(world, world.platform, live_rate=2)
    _, serial = await issued(world)
    await asking.about(serial)
    await asking.about(serial, nonce=b"n" * 16)
    answers = [asking.about(serial, nonce=b"n" * 16) for _ in range(4)]
    told = await asyncio.gather(*answers, return_exceptions=True)
    assert any(isinstance(each, Unavailable) for each in told)
    assert (await asking.about(serial)).certificate_status is GOOD


async def test_an_answer_is_given_again_until_half_of_its_life(
    world: World, asking: Asking
) -> None:
    _, serial = await issued(world)
    await asking.about(serial)
    first = await asking.about(serial)
    assert (await asking.about(serial)).signature == first.signature
    asking.clock.ahead = timedelta(minutes=31)
    await asking.plane.catch_up()
    again = await asking.about(serial)
    assert again.signature != first.signature
    assert again.this_update_utc > first.this_update_utc


async def test_answers_do_not_all_end_at_once(world: World, asking: Asking) -> None:
    ends = set()
    for _ in range(6):
        _, serial = await issued(world)
        told = await asking.about(serial)
        ends.add(told.next_update_utc - told.this_update_utc)  # type: ignore[operator]
    assert len(ends) > 2
    assert all(timedelta(minutes=52) < each <= timedelta(hours=1) for each in ends)


async def test_a_new_responder_signs_everything_anew(world: World, running: Asking) -> None:
    _, serial = await issued(world)
    before = (await running.about(serial)).responder_key_hash
    ca = await authority.signing_authority_id(world.platform, "iss-local")
    await authority.service_certificate(
        world.platform, ca, "ocsp_responder", grace=timedelta(days=10_000)
    )
    await running.plane.refresh()
    told = await running.about(serial)
    assert told.responder_key_hash != before
    (certificate,) = told.certificates
    held = await status.responder(world.platform, ca)
    assert certificate.public_bytes(Encoding.DER) == held.cert_der


async def test_what_is_neither_issuer_nor_ca_is_not_found(asking: Asking) -> None:
    with pytest.raises(NotFound):
        await asking.plane.answer("iss-none", b"")
    with pytest.raises(NotFound):
        await asking.plane.crl("iss-none")


async def test_a_crl_is_replaced_when_there_is_a_newer_one(world: World, asking: Asking) -> None:
    row, serial = await issued(world)
    first = await asking.plane.crl("iss-local")
    assert (await asking.plane.crl("iss-local")) is first
    await revoked(world, row)
    ca = await authority.signing_authority_id(world.platform, "iss-local")
    await crls.refresh(world.platform, ca)
    await asking.plane.documents.follow(await asking.plane.catch_up())
    second = await asking.plane.crl("iss-local")
    assert second.number > first.number
    crl = cx509.load_der_x509_crl(second.der)
    assert crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None


async def test_strangers_who_invent_serials_wait_in_a_short_line(
    world: World, asking: Asking
) -> None:
    async with await psycopg.AsyncConnection.connect(world.conninfo) as lock:
        await lock.execute("LOCK TABLE issuances IN ACCESS EXCLUSIVE MODE")
        asked = [
            asyncio.create_task(asking.about(f"{n:x}")) for n in range(1 << 70, (1 << 70) + 300)
        ]
        refused, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert all(isinstance(each.exception(), Unavailable) for each in refused)
        await lock.rollback()
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, Unavailable) for each in told) == 44
