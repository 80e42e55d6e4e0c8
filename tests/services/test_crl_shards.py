"""CRLs in shards: which leaf is in which, who may rely on one, and what is built when."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.domain.errors import NotFound
from certctl.domain.ids import new_id
from certctl.domain.revocation import Reason
from certctl.pki.x509 import ders_of_pem
from certctl.pki.x509 import pem as pem_of
from certctl.services import authority, crls, plain, revoke
from certctl.services.plane.plane import Plane
from certctl.store import crls as stored
from certctl.store import issuing
from certctl.web.public.status import IN_ONE, status_app
from tests import kit
from tests.conftest import World
from tests.services.test_status import openssl


@dataclass(frozen=True)
class Leaf:
    """A certificate, and where it says that its CRL is."""

    id: str
    certificate: x509.Certificate

    @property
    def serial(self) -> int:
        return self.certificate.serial_number

    @property
    def url(self) -> str:
        points = self.certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints)
        (point,) = points.value
        (name,) = point.full_name or ()
        return str(name.value)

    @property
    def shard(self) -> int:
        last = self.url.rpartition("/")[2]
        return int(last) if last.isdigit() else 0


async def a_leaf(world: World, profile: str) -> Leaf:
    count = await kit.value(world, "SELECT count(*) FROM managed_certificates")
    row = await kit.an_issued_certificate(
        world, name=f"site-{count}", certificate_profile_id=profile
    )
    (version,) = await kit.versions_of(world, row["id"])
    der = ders_of_pem(version["pem_chain"])[0]
    return Leaf(row["id"], x509.load_der_x509_certificate(der))


async def leaves(world: World, number: int, shards: int) -> list[Leaf]:
    profile = await kit.a_profile(world, crl_shards=shards)
    return [await a_leaf(world, profile) for _ in range(number)]


async def end(world: World, leaf: Leaf, reason: Reason = Reason.SUPERSEDED) -> None:
    await revoke.one(world.platform, kit.ADMIN, leaf.id, reason=reason)


async def the_list(world: World, shard: int = 0) -> x509.CertificateRevocationList:
    found = await crls.present(world.platform, "iss-local", shard)
    return x509.load_der_x509_crl(found.der)


async def serials(world: World, shard: int = 0) -> set[int]:
    return {entry.serial_number for entry in await the_list(world, shard)}


@pytest.fixture
async def ca_id(world: World) -> str:
    return await authority.signing_authority_id(world.platform, "iss-local")


async def test_a_leaf_names_the_shard_that_its_serial_gives(world: World, ca_id: str) -> None:
    (leaf,) = await leaves(world, 1, 7)
    shard = leaf.serial % 7 + 1
    assert leaf.url == f"{world.platform.terms.public_url}/.well-known/pki/crl/{ca_id}/{shard}"
    kept = await kit.value(
        world, "SELECT crl_shard FROM issuances WHERE serial_number = %(n)s", n=f"{leaf.serial:x}"
    )
    assert kept == shard


async def test_without_shards_the_address_is_that_of_the_complete_list(
    world: World, ca_id: str
) -> None:
    (leaf,) = await leaves(world, 1, 0)
    assert leaf.url.endswith(f"/.well-known/pki/crl/{ca_id}")


async def test_a_change_of_the_profile_is_for_later_leaves_alone(world: World) -> None:
    profile = await kit.a_profile(world, crl_shards=1)
    first = await a_leaf(world, profile)
    await plain.update(
        world.platform, kit.ADMIN, plain.PROFILES, profile, changes={"crl_shards": 0}
    )
    second = await a_leaf(world, profile)
    for leaf in (first, second):
        await end(world, leaf)
    assert (first.shard, second.shard) == (1, 0)
    assert await serials(world, 1) == {first.serial}
    assert await serials(world) == {first.serial, second.serial}


async def test_a_short_lived_leaf_has_no_shard(world: World, ca_id: str) -> None:
    profile = await kit.a_profile(world, crl_shards=3, max_ttl_seconds=1800, allow_short_lived=True)
    leaf = await a_leaf(world, profile)
    oids = {extension.oid for extension in leaf.certificate.extensions}
    assert x509.CRLDistributionPoints.oid not in oids
    for shard in (1, 2, 3):
        with pytest.raises(NotFound, match="no shard"):
            await crls.present(world.platform, ca_id, shard)


async def test_a_shard_says_critically_for_whom_it_is(world: World) -> None:
    """RFC 5280 §5.2.5: the very name that stands in the leaf."""
    (leaf,) = await leaves(world, 1, 4)
    crl = await the_list(world, leaf.shard)
    point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert point.critical
    assert point.value.full_name == [x509.UniformResourceIdentifier(leaf.url)]
    assert point.value.only_contains_user_certs
    assert not point.value.indirect_crl
    whole = {extension.oid for extension in (await the_list(world)).extensions}
    assert x509.IssuingDistributionPoint.oid not in whole


@dataclass(frozen=True)
class Judges:
    """What relying parties have on disk."""

    folder: Path

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def verified(self, leaf: Leaf, crl: x509.CertificateRevocationList) -> str:
        made = self.write("shard.crl", crl.public_bytes(Encoding.PEM).decode())
        path = self.write("leaf.pem", leaf.certificate.public_bytes(Encoding.PEM).decode())
        return openssl(
            "verify", "-crl_check", "-extended_crl", "-CRLfile", made,
            "-CAfile", self.folder / "root.pem", "-untrusted", self.folder / "issuing.pem", path,
        )  # fmt: skip


@pytest.fixture
async def judges(world: World, ca_id: str, tmp_path: Path) -> Judges:
    found = Judges(tmp_path)
    found.write("issuing.pem", pem_of(await authority.certificate(world.platform, ca_id)))
    root = await authority.trust_anchor(world.platform, "iss-local")
    found.write("root.pem", pem_of(root))
    return found


async def test_openssl_goes_by_the_shard_of_the_leaf_and_by_no_other(
    world: World, judges: Judges
) -> None:
    profile = await kit.a_profile(world, crl_shards=2)
    made = [await a_leaf(world, profile)]
    while len({leaf.shard for leaf in made}) < 2:
        made.append(await a_leaf(world, profile))
    one = made[0]
    other = next(leaf for leaf in made if leaf.shard != one.shard)
    assert judges.verified(one, await the_list(world, one.shard)).endswith("leaf.pem: OK\n")
    await end(world, one)
    mine, others = await the_list(world, one.shard), await the_list(world, other.shard)
    assert "certificate revoked" in judges.verified(one, mine)
    assert "different CRL scope" in judges.verified(one, others)
    assert judges.verified(other, others).endswith("leaf.pem: OK\n")
    assert "certificate revoked" in judges.verified(one, await the_list(world))
    text = openssl("crl", "-in", judges.folder / "shard.crl", "-noout", "-text")
    assert "X509v3 CRL Number" in text


def an_intent(ca_id: str, serial: int, moment: datetime, shard: int) -> dict[str, Any]:
    return {
        "authority_id": ca_id,
        "serial_number": f"{serial:x}",
        "purpose": "leaf",
        "job_id": f"job-{serial:x}",
        "tbs_der": b"",
        "not_after": moment,
        "crl_shard": shard,
    }


def a_revocation(ca_id: str, serial: int, moment: datetime, reason: Reason) -> dict[str, Any]:
    return {
        "id": new_id("rev", moment),
        "certificate_id": None,
        "issuer_id": "iss-local",
        "authority_id": ca_id,
        "serial_number": f"{serial:x}",
        "reason": str(reason),
        "revoked_by": "test",
        "revoked_at": moment,
        "not_after": moment + timedelta(days=9),
        "entry_der": crls.entry_of(f"{serial:x}", moment, reason),
    }


@pytest.mark.parametrize("seed", range(4))
async def test_every_revoked_serial_is_in_one_shard_and_in_the_complete_list(
    world: World, ca_id: str, seed: int
) -> None:
    chance = random.Random(seed)
    of_shard: dict[int, set[int]] = defaultdict(set)
    revoked: dict[int, int] = {}
    async with world.platform.db.transaction() as tx:
        for _ in range(80):
            serial, shards = (
                chance.getrandbits(chance.randint(1, 159)) | 1,
                chance.choice([0, 3, 8]),
            )
            shard = serial % shards + 1 if shards else 0
            if serial in revoked:
                continue
            await issuing.insert_intents(tx, [an_intent(ca_id, serial, tx.now, shard)])
            if shard:
                await stored.open_shard(tx, ca_id, shard, url=f"http://a.test/{shard}")
            revoked[serial] = shard
            of_shard[shard].add(serial)
        reasons = list(Reason)
        await crls.record(
            world.platform,
            tx,
            [a_revocation(ca_id, each, tx.now, chance.choice(reasons)) for each in revoked],
        )
    await world.run_tasks()
    found = {shard: await serials(world, shard) for shard in of_shard if shard}
    assert found == {shard: each for shard, each in of_shard.items() if shard}
    assert await serials(world) == set(revoked)


async def test_a_long_list_is_sent_whole_and_is_in_memory_once(world: World, ca_id: str) -> None:
    """Over HTTPS, where what is long goes out in pieces."""
    async with world.platform.db.transaction() as tx:
        serials = [(1 << 158) + n for n in range(6_000)]
        made = [a_revocation(ca_id, each, tx.now, Reason.SUPERSEDED) for each in serials]
        await crls.record(world.platform, tx, made)
    await crls.refresh(world.platform, ca_id)
    lists = crls.Lists(world.platform)
    first, second = await asyncio.gather(lists.present(ca_id), lists.present("iss-local"))
    assert first is second
    transport = httpx.ASGITransport(app=status_app(world.platform))
    async with httpx.AsyncClient(transport=transport, base_url="https://a.test") as http:
        answer = await http.get(f"/.well-known/pki/crl/{ca_id}")
        known = {"If-None-Match": answer.headers["ETag"]}
        again = await http.get(f"/.well-known/pki/crl/{ca_id}", headers=known)
    assert answer.content == first.der
    assert answer.headers["Content-Length"] == str(len(first.der))
    assert len(first.der) > IN_ONE
    assert (again.status_code, again.content) == (304, b"")


async def test_a_shard_that_no_leaf_names_does_not_exist(world: World, ca_id: str) -> None:
    with pytest.raises(NotFound, match="no shard 5"):
        await crls.present(world.platform, ca_id, 5)


async def test_each_shard_counts_its_own_numbers(world: World, ca_id: str) -> None:
    made = await leaves(world, 3, 2)
    numbers = {}
    for shard in {leaf.shard for leaf in made}:
        numbers[shard] = [(await crls.refresh(world.platform, ca_id, shard)).number for _ in "ab"]
    assert all(second == first + 1 for first, second in numbers.values())


async def test_only_the_lists_that_lack_a_revocation_are_built(world: World, ca_id: str) -> None:
    made = await leaves(world, 4, 2)
    await world.run_tasks()
    for shard in {0, *(leaf.shard for leaf in made)}:
        await crls.refresh(world.platform, ca_id, shard)
    before = await numbers_of(world, ca_id)
    await end(world, made[0])
    await world.run_tasks()
    after = await numbers_of(world, ca_id)
    grown = {shard for shard, number in after.items() if number > before[shard]}
    assert grown == {0, made[0].shard}
    assert made[0].serial in await serials(world, made[0].shard)


async def numbers_of(world: World, ca_id: str) -> dict[int, int]:
    rows = await kit.rows(
        world, "SELECT shard, number FROM crls WHERE authority_id = %(id)s", id=ca_id
    )
    return {row["shard"]: row["number"] for row in rows}


async def test_an_expired_leaf_stays_on_one_list_of_its_shard_beyond_its_end(
    world: World, ca_id: str
) -> None:
    """RFC 5280 §3.3, for the shard apart from the complete list."""
    (leaf,) = await leaves(world, 1, 1)
    await end(world, leaf)
    await crls.refresh(world.platform, ca_id, 1)
    await kit.change(
        world, "UPDATE crls SET this_update = now() - interval '1 hour' WHERE shard = 1"
    )
    await kit.change(
        world, "UPDATE certificate_revocations SET not_after = now() - interval '1 minute'"
    )
    counts = []
    for _ in range(2):
        made = await crls.refresh(world.platform, ca_id, 1)
        counts.append(len(x509.load_der_x509_crl(made.der)))
    assert counts == [1, 0]


async def test_a_long_complete_list_rests_and_its_shards_do_not(world: World, ca_id: str) -> None:
    first, second = await leaves(world, 2, 1)
    await end(world, first)
    await world.run_tasks()
    await kit.change(
        world,
        "UPDATE crls SET entries = 10001, build_seconds = 60, built_at = now() WHERE shard = 0",
    )
    await end(world, second)
    await world.run_tasks()
    assert await serials(world, 1) == {first.serial, second.serial}
    assert await serials(world) == {first.serial}
    (waiting,) = await kit.rows(
        world, "SELECT scheduled_at - now() AS rest FROM procrastinate_jobs WHERE status = 'todo'"
    )
    assert timedelta(minutes=8) < waiting["rest"] <= timedelta(minutes=9)
    await kit.change(world, "UPDATE crls SET build_seconds = 0 WHERE shard = 0")
    assert await serials(world) == {first.serial, second.serial}


async def test_a_shard_answers_to_every_address_that_its_leaves_name(
    world: World, ca_id: str
) -> None:
    """The server's address for relying parties may change."""
    (leaf,) = await leaves(world, 1, 1)
    async with world.platform.db.transaction() as tx:
        for _ in range(2):
            await stored.open_shard(tx, ca_id, 1, url="http://new.example.test/crl/1")
    crl = await the_list(world, 1)
    point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    names = [name.value for name in point.full_name or ()]
    assert names == [leaf.url, "http://new.example.test/crl/1"]


async def test_what_came_without_its_entry_is_listed_all_the_same(world: World, ca_id: str) -> None:
    """As an earlier certctl left it, and as it is restored."""
    made = await leaves(world, 2, 1)
    for leaf in made:
        await end(world, leaf)
    whole = await serials(world)
    await kit.change(world, "UPDATE certificate_revocations SET entry_der = NULL")
    again = await crls.refresh(world.platform, ca_id)
    assert {entry.serial_number for entry in x509.load_der_x509_crl(again.der)} == whole
    assert len(whole) == 2


async def test_the_plane_loads_the_shards_that_are_newer(world: World, ca_id: str) -> None:
    (leaf,) = await leaves(world, 1, 1)
    await crls.refresh(world.platform, ca_id, 1)
    plane = Plane(world.platform, live_rate=10)
    await plane.start()
    await plane.documents.follow(await plane.catch_up())
    first, whole = await plane.crl(ca_id, 1), await plane.crl(ca_id)
    await end(world, leaf)
    await crls.refresh(world.platform, ca_id, 1)
    await plane.documents.follow(await plane.catch_up())
    second = await plane.crl("iss-local", 1)
    assert second.number > first.number
    assert len(x509.load_der_x509_crl(second.der)) == 1
    assert await plane.crl(ca_id) is whole
    with pytest.raises(NotFound):
        await plane.crl(ca_id, 2)
